//! Two sets of rows compared by sums over ranges of key hashes: memory does not grow with the rows,
//! and no order of keys matters.

use rowcast_core::{Row, RowWriter, Value};
use xxhash_rust::xxh3::xxh3_128;

/// Ranges of key hashes.
const RANGES: usize = 1 << 16;

/// A row by its hashes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mark {
    /// Tells keys apart.
    pub(crate) key: u128,
    /// Tells rows apart, key included.
    pub(crate) row: u128,
}

/// The range that a key falls into.
pub(crate) fn range(key: u128) -> usize {
    key as usize % RANGES
}

/// Makes marks of rows.
#[derive(Debug, Default)]
pub(crate) struct Marker {
    packed: Vec<u8>,
}

impl Marker {
    /// The packed key of a row, in key order. What the row lacks counts as NULL.
    pub(crate) fn key(&mut self, row: Row<'_>, key: &[usize]) -> &[u8] {
        self.packed.clear();
        let mut writer = RowWriter::new(&mut self.packed);
        for &column in key {
            let value = row.values().nth(column).and_then(Result::ok);
            writer.push(value.unwrap_or(Value::Null));
        }
        &self.packed
    }

    /// The hash of a row's key.
    pub(crate) fn key_hash(&mut self, row: Row<'_>, key: &[usize]) -> u128 {
        xxh3_128(self.key(row, key))
    }

    /// Both hashes of a row.
    pub(crate) fn mark(&mut self, row: Row<'_>, key: &[usize]) -> Mark {
        Mark { key: self.key_hash(row, key), row: xxh3_128(row.0) }
    }
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Sum {
    rows: u32,
    hashes: u128,
}

/// What all rows of one side come to.
#[derive(Debug, Clone)]
pub(crate) struct Sums {
    ranges: Vec<Sum>,
    /// Rows seen.
    pub(crate) rows: u64,
}

impl Sums {
    pub(crate) fn new() -> Self {
        Self { ranges: vec![Sum::default(); RANGES], rows: 0 }
    }

    /// Takes a row in. Order makes no difference.
    pub(crate) fn add(&mut self, mark: Mark) {
        let sum = &mut self.ranges[range(mark.key)];
        sum.rows = sum.rows.wrapping_add(1);
        sum.hashes = sum.hashes.wrapping_add(mark.row);
        self.rows += 1;
    }

    /// The ranges in which two sides differ, in groups of about `rows_max` rows a side at most,
    /// each as one flag per range.
    pub(crate) fn differing(&self, other: &Self, rows_max: u64) -> Vec<Vec<bool>> {
        let mut groups: Vec<(u64, Vec<bool>)> = Vec::new();
        for (i, (a, b)) in self.ranges.iter().zip(&other.ranges).enumerate() {
            if a == b {
                continue;
            }
            let rows = u64::from(a.rows.max(b.rows));
            match groups.last_mut() {
                Some((held, group)) if *held + rows <= rows_max => {
                    *held += rows;
                    group[i] = true;
                }
                _ => {
                    let mut group = vec![false; RANGES];
                    group[i] = true;
                    groups.push((rows, group));
                }
            }
        }
        groups.into_iter().map(|(_, group)| group).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(key: u128, row: u128) -> Mark {
        Mark { key, row }
    }

    #[test]
    fn equal_rows_in_another_order_have_equal_sums() {
        let (mut a, mut b) = (Sums::new(), Sums::new());
        (0..1000).for_each(|i| a.add(mark(i * 77, i)));
        (0..1000).rev().for_each(|i| b.add(mark(i * 77, i)));
        assert!(a.differing(&b, 10).is_empty());
        b.add(mark(5, 5));
        b.add(mark(70_000, 1));
        let groups = a.differing(&b, 1000);
        assert_eq!(groups.len(), 1);
        let differing: Vec<_> = (0..RANGES).filter(|i| groups[0][*i]).collect();
        assert_eq!(differing, [5, 70_000 - RANGES]);
    }

    #[test]
    fn many_differing_ranges_come_in_groups() {
        let mut a = Sums::new();
        (0..100).for_each(|i| a.add(mark(i, i)));
        let groups = a.differing(&Sums::new(), 30);
        let sizes: Vec<_> = groups.iter().map(|g| g.iter().filter(|f| **f).count()).collect();
        assert_eq!(sizes, [30, 30, 30, 10]);
    }

    #[test]
    fn a_key_is_told_from_another_split_of_the_same_bytes() {
        let pack = |texts: [&str; 2]| {
            let mut bytes = Vec::new();
            let mut writer = RowWriter::new(&mut bytes);
            texts.iter().for_each(|t| writer.push(Value::Text(t.as_bytes())));
            bytes
        };
        let (a, b) = (pack(["ab", "c"]), pack(["a", "bc"]));
        let mut marker = Marker::default();
        assert_ne!(marker.key_hash(Row(&a), &[0, 1]), marker.key_hash(Row(&b), &[0, 1]));
        assert_ne!(marker.key_hash(Row(&a), &[0, 1]), marker.key_hash(Row(&a), &[1, 0]));
    }
}
