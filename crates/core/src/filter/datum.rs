//! One value while a filter is judged, and how two of them compare.

use super::decimal::Decimal;
use super::moment::Micros;
use std::borrow::Cow;
use std::cmp::Ordering;

#[derive(Debug, Clone)]
pub(super) enum Datum<'a> {
    Null,
    /// The row does not say it.
    Unknown,
    Int(i64),
    Decimal(Decimal),
    Float(f64),
    Text(Cow<'a, [u8]>),
    Bytes(Cow<'a, [u8]>),
    /// A date or a timestamp; a clock's time as well.
    Moment(Micros),
    /// A clock's time with its distance from UTC.
    Zoned(Micros, i32),
    Uuid([u8; 16]),
    /// Something that only is or is not.
    Opaque,
}

impl Datum<'_> {
    /// The number as a double, when it is one.
    pub(super) fn to_f64(&self) -> Option<f64> {
        match self {
            Self::Int(i) => Some(*i as f64),
            Self::Decimal(d) => Some(d.to_f64()),
            Self::Float(f) => Some(*f),
            _ => None,
        }
    }

    /// The number as a decimal, when it is an exact one.
    pub(super) fn to_decimal(&self) -> Option<Cow<'_, Decimal>> {
        match self {
            Self::Int(i) => Some(Cow::Owned((*i).into())),
            Self::Decimal(d) => Some(Cow::Borrowed(d)),
            _ => None,
        }
    }

    /// The place of a storage class among the others, where values may be of any.
    fn class(&self) -> Option<u8> {
        match self {
            Self::Int(_) | Self::Decimal(_) | Self::Float(_) => Some(1),
            Self::Text(_) => Some(2),
            Self::Bytes(_) => Some(3),
            Self::Null
            | Self::Unknown
            | Self::Moment(_)
            | Self::Zoned(..)
            | Self::Uuid(_)
            | Self::Opaque => None,
        }
    }
}

/// The order of two values, neither of them NULL. `None` when they have none, which only values that
/// break their column's declared type come to.
pub(super) fn compare(a: &Datum<'_>, b: &Datum<'_>) -> Option<Ordering> {
    use Datum::{Bytes, Int, Moment, Text, Uuid, Zoned};
    match (a, b) {
        (Int(a), Int(b)) => Some(a.cmp(b)),
        (Text(a), Text(b)) | (Bytes(a), Bytes(b)) => Some(a.cmp(b)),
        (Moment(a), Moment(b)) => Some(a.cmp(b)),
        (Zoned(a, x), Zoned(b, y)) => Some((a, x).cmp(&(b, y))),
        (Uuid(a), Uuid(b)) => Some(a.cmp(b)),
        _ => match (a.class()?, b.class()?) {
            (1, 1) => numbers(a, b),
            (x, y) => Some(x.cmp(&y)),
        },
    }
}

fn numbers(a: &Datum<'_>, b: &Datum<'_>) -> Option<Ordering> {
    if let (Some(a), Some(b)) = (a.to_decimal(), b.to_decimal()) {
        return Some(a.cmp(&b));
    }
    let (a, b) = (a.to_f64()?, b.to_f64()?);
    // NaN equals itself and is the greatest; so it is with decimals.
    Some(a.partial_cmp(&b).unwrap_or_else(|| a.is_nan().cmp(&b.is_nan())))
}
