//! A column that becomes a computed one, or the reverse, within one set of rows.

use super::{Rows, Shape};
use std::sync::Arc;

/// Lets the last shape of each subscription say which of its columns the copy computes. A table can
/// fit only one of the ways in which a column was made, and the earlier values of such a column are
/// what the later rows, or the expression, make of them.
pub(super) fn settle(rows: &mut Rows) {
    for i in 0..rows.shapes.len() {
        let earlier = rows.shapes[i].shape.clone();
        let mut later = rows.shapes[i + 1..].iter().rev();
        let last = later.find(|s| s.shape.subscription == earlier.subscription);
        let Some(last) = last.map(|s| s.shape.clone()) else { continue };
        if let Some(settled) = settled(&earlier, &last) {
            rows.shapes[i].shape = Arc::new(settled);
        }
    }
}

/// The earlier shape, when the last one says otherwise what is computed.
fn settled(earlier: &Shape, last: &Shape) -> Option<Shape> {
    let computed = |name: &str| last.generated.iter().any(|g| g.name == name);
    let plain = |name: &str| last.columns.iter().any(|c| c.name == name);
    let goes = |(i, name): (usize, &str)| computed(name) && !earlier.key.contains(&i);
    let mut names = earlier.columns.iter().map(|c| c.name.as_str()).enumerate();
    if !names.any(goes) && !earlier.generated.iter().any(|g| plain(&g.name)) {
        return None;
    }
    let mut shape = earlier.clone();
    let mut columns = Vec::with_capacity(shape.columns.len());
    let mut key = shape.key.clone();
    for (i, column) in earlier.columns.iter().enumerate() {
        if goes((i, column.name.as_str())) {
            continue;
        }
        if let Some(place) = earlier.key.iter().position(|k| *k == i) {
            key[place] = columns.len();
        }
        columns.push(column.clone());
    }
    (shape.columns, shape.key) = (columns, key);
    shape.generated.retain(|g| !plain(&g.name));
    Some(shape)
}
