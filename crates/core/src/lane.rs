//! Lanes: a route's changes in several transactions of the target at once, told apart by their keys.
//!
//! Law: all changes of one key go the same way. A lane that is ahead of the route's checkpoint has
//! applied its keys' changes up to its own place, and nobody applies them again.

use crate::{Change, ChangeOp, Malformed, Offset, Row, Rows, key_of};
use std::fmt;
use xxhash_rust::xxh3::Xxh3;

/// Most lanes that a route may have.
pub const LANES_MAX: u16 = 16;

/// What tells a claim on a route's lanes from every other one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Claim(pub u64);

impl fmt::Display for Claim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// One of a route's lanes, as its writer knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Lane {
    /// Which one, from 0 on.
    pub index: u16,
    /// How many there are.
    pub of: u16,
    /// On whose behalf it is written.
    pub claim: Claim,
}

/// A route's lanes as its target has them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Lanes {
    /// On whose behalf they may be written.
    pub claim: Claim,
    /// The next offset that each lacks; none when the route has no lanes. One that is not after the
    /// route's checkpoint says nothing: the route has gone on without lanes.
    pub places: Vec<Offset>,
}

impl Lanes {
    /// How many there are.
    pub fn count(&self) -> u16 {
        u16::try_from(self.places.len()).unwrap_or(LANES_MAX)
    }

    /// Where the foremost lane stands.
    pub fn foremost(&self) -> Offset {
        self.places.iter().max().copied().unwrap_or_default()
    }

    /// Whether some lane is ahead of a checkpoint.
    pub fn is_ahead(&self, of: Offset) -> bool {
        self.foremost() > of
    }
}

/// Which of `of` lanes a key belongs to. Targets remember lanes by this, so it must mean the same for
/// ever.
pub fn lane_of(table: &str, key: &[u8], of: u16) -> u16 {
    let mut hash = Xxh3::new();
    hash.update(table.as_bytes());
    hash.update(&[0]);
    hash.update(key);
    (hash.digest() % u64::from(of.max(1))) as u16
}

impl Rows {
    /// Puts the identity of the key that a change leaves behind into `into`: that of the row it writes,
    /// or of the one it removes.
    ///
    /// # Errors
    /// When a packed row is none.
    pub fn key(&self, change: &Change, into: &mut Vec<u8>) -> Result<(), Malformed> {
        let (row, or) = self.keyed(change);
        key_of(row, or, &self.key_sources(change), into)
    }

    /// Where the key's values stand in the source's row.
    pub fn key_sources(&self, change: &Change) -> Vec<usize> {
        let shape = self.shape(change);
        shape.key.iter().map(|&k| shape.columns[k].source).collect()
    }

    /// The row that says a change's key, and the one that says the rest of it.
    pub fn keyed(&self, change: &Change) -> (Row<'_>, Row<'_>) {
        match change.op {
            // A row that no longer concerns the subscriber goes without a word of its own key.
            ChangeOp::Delete => (self.before(change), self.after(change)),
            ChangeOp::Rekey => (self.after(change), self.before(change)),
            _ => (self.after(change), Row(&[])),
        }
    }

    /// The same changes in `of` parts, by key; nothing when they have to stay together.
    ///
    /// # Errors
    /// When a packed row is none.
    pub fn split(&self, of: u16) -> Result<Option<Vec<Self>>, Malformed> {
        let together = |c: &Change| matches!(c.op, ChangeOp::Truncate | ChangeOp::Rekey);
        if !self.parks.is_empty() || self.changes.iter().any(together) {
            return Ok(None);
        }
        let (shapes, batches) = (self.shapes.clone(), self.batches.clone());
        let empty = Self { shapes, batches, at_once: self.at_once, ..Self::default() };
        let mut parts = vec![empty; usize::from(of.max(1))];
        let mut key = Vec::new();
        for change in &self.changes {
            self.key(change, &mut key)?;
            let lane = lane_of(&self.shape(change).into, &key, of);
            parts[usize::from(lane)].changes.push(*change);
        }
        Ok(Some(parts))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_keeps_its_lane_for_ever() {
        // Stored at targets by what they mean: they must not change with a release.
        let lanes = |of| [1u8, 2, 3, 4, 5, 6].map(|k| lane_of("customer_copy", &[k], of));
        assert_eq!(lanes(1), [0; 6]);
        assert_eq!(lanes(4), [3, 3, 0, 0, 3, 3]);
    }

    #[test]
    fn keys_spread_over_all_lanes() {
        for of in 2..=LANES_MAX {
            let mut counts = vec![0; usize::from(of)];
            (0..16_000u32)
                .for_each(|k| counts[usize::from(lane_of("t", &k.to_le_bytes(), of))] += 1);
            let fair = 16_000 / i32::from(of);
            assert!(counts.iter().all(|n| (n - fair).abs() < fair / 4), "{counts:?}");
        }
    }

    #[test]
    fn a_lane_is_ahead_only_beyond_the_checkpoint() {
        let lanes = Lanes { claim: Claim(1), places: vec![Offset(3), Offset(9)] };
        assert!(lanes.is_ahead(Offset(8)));
        assert!(!lanes.is_ahead(Offset(9)));
        assert!(!Lanes::default().is_ahead(Offset(0)));
    }
}
