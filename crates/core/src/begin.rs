//! Where a copy begins in its publisher's history, as people write it.

use crate::{Offset, Point};
use std::fmt;
use std::str::FromStr;

/// Where a subscription begins.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Begin {
    /// With every row there is.
    #[default]
    Beginning,
    /// With what is committed from here on: the end of the log when it was asked for, once somebody
    /// wrote that down. What the table holds stays, and the copy is never whole.
    Now(Option<Offset>),
    /// With the event at an offset: the table holds what lies before.
    Offset(Offset),
    /// With what was not committed before the source came to this place: the table holds the rest.
    Position(Point),
}

/// What tells a position that looks like an offset from one.
const POSITION: &str = "position:";

impl Begin {
    /// Only what comes from some moment on, whatever was there before.
    pub fn is_now(self) -> bool {
        matches!(self, Self::Now(_))
    }

    /// As somebody wrote it, without what was found out about it.
    #[must_use]
    pub fn wish(self) -> Self {
        if self.is_now() { Self::Now(None) } else { self }
    }
}

impl fmt::Display for Begin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Beginning => f.write_str("beginning"),
            Self::Now(_) => f.write_str("now"),
            Self::Offset(at) => at.fmt(f),
            Self::Position(point @ Point::Lsn(_)) => point.fmt(f),
            Self::Position(point @ Point::Sequence(_)) => write!(f, "{POSITION}{point}"),
        }
    }
}

/// Why a text is no place to begin at.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no place to begin at: write beginning, now, an offset such as 1234, or a position \
     such as 0/16B3748 or position:1234"
)]
pub struct BeginError(String);

impl FromStr for Begin {
    type Err = BeginError;

    fn from_str(text: &str) -> Result<Self, BeginError> {
        let bad = || BeginError(text.chars().take(80).collect());
        match text {
            "beginning" => return Ok(Self::Beginning),
            "now" => return Ok(Self::Now(None)),
            _ => {}
        }
        if let Some(position) = text.strip_prefix(POSITION) {
            return position.parse().map(Self::Position).map_err(|_| bad());
        }
        if text.contains('/') {
            return text.parse().map(Self::Position).map_err(|_| bad());
        }
        let offset = text.parse().ok().filter(|n| i64::try_from(*n).is_ok());
        offset.map(|n: u64| Self::Offset(Offset(n))).ok_or_else(bad)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_to_begin_reads_back_what_it_prints() {
        let places = [
            ("beginning", Begin::Beginning),
            ("now", Begin::Now(None)),
            ("1234", Begin::Offset(Offset(1234))),
            ("0/16B3748", Begin::Position(Point::Lsn(0x16b_3748))),
            ("position:77", Begin::Position(Point::Sequence(77))),
        ];
        for (text, begin) in places {
            assert_eq!(text.parse(), Ok(begin));
            assert_eq!(begin.to_string(), text);
        }
        assert_eq!("position:0/A".parse(), Ok(Begin::Position(Point::Lsn(10))));
        assert_eq!(Begin::Now(Some(Offset(5))).to_string(), "now");
        assert_eq!(Begin::Now(Some(Offset(5))).wish(), Begin::Now(None));
    }

    #[test]
    fn what_is_no_place_is_refused_with_what_would_be() {
        for bad in ["", "then", "-1", "1/2/3", "position:", "position:x", "18446744073709551615"] {
            let refused = bad.parse::<Begin>().unwrap_err();
            assert!(refused.to_string().contains("write beginning, now"), "{refused}");
        }
    }
}
