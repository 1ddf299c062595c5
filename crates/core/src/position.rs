//! Where we are: offsets are ours, positions are the source's.

use std::fmt;
use std::str::FromStr;

/// Our position in a stream: dense, one per event, starting at 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Offset(pub u64);

impl fmt::Display for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The identity of a source's history. Positions of different epochs do not compare.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Epoch {
    /// Hash of what identifies the database and its history (system, timeline, file, …).
    pub identity: u64,
    /// Where, in the source's own count, our capture of this history began.
    pub birth: u64,
}

impl Epoch {
    /// Whether, in one log, the same history goes on under `other`: its source has another identity
    /// by then (a promoted standby), but capture went on and was not begun again. Points compare.
    pub fn goes_on_in(&self, other: &Self) -> bool {
        self.birth == other.birth
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}-{:x}", self.identity, self.birth)
    }
}

/// A place in a source's history, in the source's own count. Orders within one epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Point {
    /// A byte position in a write-ahead log, written `16/B374D848`.
    Lsn(u64),
    /// The number of a change, written `1234`.
    Sequence(u64),
}

impl Point {
    /// The number behind it, for comparing points of one source.
    pub fn value(self) -> u64 {
        match self {
            Self::Lsn(v) | Self::Sequence(v) => v,
        }
    }
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lsn(v) => write!(f, "{:X}/{:X}", v >> 32, v & 0xffff_ffff),
            Self::Sequence(v) => v.fmt(f),
        }
    }
}

/// Why a text is not a position.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no position: write 16/B374D848 for a write-ahead log, or 1234 for a change number"
)]
pub struct PositionError(String);

impl FromStr for Point {
    type Err = PositionError;
    fn from_str(s: &str) -> Result<Self, PositionError> {
        let bad = || PositionError(s.into());
        // The standard readers take a sign, too.
        if s.contains('+') {
            return Err(bad());
        }
        match s.split_once('/') {
            Some((high, low)) => {
                let part = |t: &str| u32::from_str_radix(t, 16).map_err(|_| bad());
                Ok(Self::Lsn((u64::from(part(high)?) << 32) | u64::from(part(low)?)))
            }
            None => s.parse().map(Self::Sequence).map_err(|_| bad()),
        }
    }
}

/// The source's position: everything committed before `point` has been seen, and of the transaction
/// that commits at `point`, the first `index` events.
///
/// So a finished transaction is `(its end, 0)` and a half-read one `(its commit, n)`; both compare.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Position {
    /// Which history `point` counts in.
    pub epoch: Epoch,
    /// The place in it.
    pub point: Point,
    /// Events already seen of the transaction that commits at `point`; 0 when none is open.
    pub index: u64,
}

impl Position {
    /// The position after everything before `point`.
    pub fn new(epoch: Epoch, point: Point) -> Self {
        Self { epoch, point, index: 0 }
    }

    /// Whether everything committed before `point` has been seen, in this epoch.
    pub fn covers(&self, point: Point) -> bool {
        self.point.value() >= point.value()
    }

    /// Whether this position comes after `other`, or is the same; `None` across epochs.
    pub fn is_at_or_after(&self, other: &Self) -> Option<bool> {
        (self.epoch == other.epoch)
            .then(|| (self.point.value(), self.index) >= (other.point.value(), other.index))
    }
}

impl Position {
    /// Reads what `Display` printed, in this epoch.
    pub fn parse(epoch: Epoch, text: &str) -> Result<Self, PositionError> {
        let (point, index) = text.split_once('+').unwrap_or((text, "0"));
        let index = index.parse().map_err(|_| PositionError(text.into()))?;
        Ok(Self { epoch, point: point.parse()?, index })
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.point)?;
        if self.index > 0 { write!(f, "+{}", self.index) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_point_reads_back_what_it_prints() {
        for p in [Point::Lsn(0x16_b374_d848), Point::Lsn(0), Point::Sequence(u64::MAX)] {
            assert_eq!(p.to_string().parse::<Point>().unwrap(), p);
        }
        let half = Position { epoch: Epoch::default(), point: Point::Lsn(0x16_b374), index: 3 };
        for p in [half, Position { index: 0, ..half }] {
            assert_eq!(Position::parse(p.epoch, &p.to_string()), Ok(p));
        }
        for bad in ["", "x", "1/", "/", "1/2/3", "-1", "1/100000000"] {
            assert!(bad.parse::<Point>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_half_read_transaction_lies_between_its_neighbours() {
        let e = Epoch::default();
        let before = Position::new(e, Point::Lsn(90));
        let half = Position { epoch: e, point: Point::Lsn(100), index: 3 };
        let after = Position::new(e, Point::Lsn(120));
        assert_eq!(half.is_at_or_after(&before), Some(true));
        assert_eq!(after.is_at_or_after(&half), Some(true));
        assert_eq!(before.is_at_or_after(&half), Some(false));
    }
}
