//! Laying a row with "unchanged" values over the row before it.

use super::names::Names;
use super::record::{Fault, Record};
use rowcast_core::{Row, RowWriter, Value};

/// A row, and whether values are still missing.
pub(crate) type Filled = (Box<[u8]>, bool);

/// The row after `patch`, given the row before it, and whether values are still missing. `None` when
/// the two rows are of shapes that cannot be told to fit: then both events stay.
pub(crate) fn fill(base: &Record, patch: &Record, names: &Names) -> Result<Option<Filled>, Fault> {
    let (mut below, mut above) = (Vec::new(), Vec::new());
    Row(&base.after).unpack(&mut below)?;
    Row(&patch.after).unpack(&mut above)?;
    let mut filled = Vec::with_capacity(base.after.len().max(patch.after.len()));
    let mut writer = RowWriter::new(&mut filled);
    let mut partial = false;
    for (i, value) in above.iter().enumerate() {
        let value = match value {
            Value::Unchanged => match column_below(base, patch, names, i) {
                Some(column) => *below.get(column).unwrap_or(&Value::Unchanged),
                None => return Ok(None),
            },
            known => *known,
        };
        partial |= value == Value::Unchanged;
        writer.push(value);
    }
    Ok(Some((filled.into(), partial)))
}

/// Where the row before holds a column of the patch, when it is the same column.
fn column_below(base: &Record, patch: &Record, names: &Names, column: usize) -> Option<usize> {
    if base.schema == patch.schema {
        return Some(column);
    }
    let (below, above) = (&names.get(base.schema).schema, &names.get(patch.schema).schema);
    let column = above.columns.get(column)?;
    let found = below.column(&column.name)?;
    (below.columns[found].native == column.native).then_some(found)
}
