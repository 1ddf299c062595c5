//! Sizes in bytes, written with their unit.

use std::fmt;
use std::str::FromStr;

/// A number of bytes; `"64 MiB"` in files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ByteSize(pub u64);

impl ByteSize {
    /// So many KiB.
    pub const fn kib(n: u64) -> Self {
        Self(n << 10)
    }
    /// So many MiB.
    pub const fn mib(n: u64) -> Self {
        Self(n << 20)
    }
    /// The number, for indexing memory.
    pub fn as_usize(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

/// Why a text is not a size.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no size: write a number and a unit, such as \"64 MiB\" (B, KiB, MiB, GiB, TiB)")]
pub struct ByteSizeError(String);

const UNITS: [(&str, u32); 5] = [("B", 0), ("KiB", 10), ("MiB", 20), ("GiB", 30), ("TiB", 40)];

impl FromStr for ByteSize {
    type Err = ByteSizeError;
    fn from_str(s: &str) -> Result<Self, ByteSizeError> {
        let bad = || ByteSizeError(s.into());
        let s_ = s.trim();
        let digits = s_.find(|c: char| !c.is_ascii_digit()).unwrap_or(s_.len());
        let number: u64 = s_[..digits].parse().map_err(|_| bad())?;
        let unit = s_[digits..].trim();
        let (_, shift) =
            UNITS.iter().find(|(u, _)| u.eq_ignore_ascii_case(unit)).ok_or_else(bad)?;
        number.checked_mul(1 << shift).map(Self).ok_or_else(bad)
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = UNITS.iter().rev().find(|(_, shift)| self.0 >= 1 << shift).unwrap_or(&UNITS[0]);
        let whole = self.0 as f64 / (1u64 << unit.1) as f64;
        if self.0.is_multiple_of(1 << unit.1) {
            write!(f, "{} {}", self.0 >> unit.1, unit.0)
        } else {
            write!(f, "{whole:.1} {}", unit.0)
        }
    }
}

impl serde::Serialize for ByteSize {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for ByteSize {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(d)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_read_with_their_unit() {
        assert_eq!("64 MiB".parse(), Ok(ByteSize::mib(64)));
        assert_eq!("64mib".parse(), Ok(ByteSize::mib(64)));
        assert_eq!("0 B".parse(), Ok(ByteSize(0)));
        for bad in ["", "64", "MiB", "64 MB", "-1 B", "99999999999 TiB"] {
            assert!(bad.parse::<ByteSize>().is_err(), "{bad}");
        }
        assert_eq!(ByteSize::mib(64).to_string(), "64 MiB");
        assert_eq!(ByteSize(1536).to_string(), "1.5 KiB");
    }
}
