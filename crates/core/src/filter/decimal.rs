//! Exact decimals of any length, with the order and the arithmetic of SQL's `numeric`.

use num_bigint::{BigInt, Sign};
use std::cmp::Ordering;

/// More digits than this are no number to us.
const DIGITS_MAX: usize = 150_000;
/// Largest exponent of ten that a literal may have.
const EXPONENT_MAX: i64 = 1_000;
/// Significant digits that a quotient has at least.
const QUOTIENT_DIGITS_MIN: i64 = 16;
/// Digits behind the point that a quotient has at most.
const QUOTIENT_SCALE_MAX: i64 = 1_000;

/// A number. The order is SQL's: `NaN` equals itself and is the greatest.
#[derive(Debug, Clone)]
pub(super) enum Decimal {
    NegativeInfinity,
    /// `digits` divided by ten to the power of `scale`.
    Finite {
        digits: BigInt,
        scale: u32,
    },
    Infinity,
    NaN,
}

use Decimal::{Finite, Infinity, NaN, NegativeInfinity};

impl From<i64> for Decimal {
    fn from(value: i64) -> Self {
        Finite { digits: value.into(), scale: 0 }
    }
}

fn ten_to(power: u32) -> BigInt {
    BigInt::from(10).pow(power)
}

/// The sign of a zero is none.
fn sign(digits: &BigInt) -> Ordering {
    match digits.sign() {
        Sign::Minus => Ordering::Less,
        Sign::NoSign => Ordering::Equal,
        Sign::Plus => Ordering::Greater,
    }
}

fn infinity(sign: Ordering) -> Decimal {
    match sign {
        Ordering::Less => NegativeInfinity,
        Ordering::Equal => NaN,
        Ordering::Greater => Infinity,
    }
}

impl Decimal {
    /// Reads digits with an optional sign, point and exponent, or a name of what is no number.
    pub(super) fn parse(text: &str) -> Option<Self> {
        match text.to_ascii_lowercase().as_str() {
            "nan" => return Some(NaN),
            "infinity" | "+infinity" | "inf" => return Some(Infinity),
            "-infinity" | "-inf" => return Some(NegativeInfinity),
            _ => {}
        }
        let (number, exponent) = match text.find(['e', 'E']) {
            Some(at) => (&text[..at], text[at + 1..].parse::<i64>().ok()?),
            None => (text, 0),
        };
        let unsigned = number.strip_prefix(['-', '+']).unwrap_or(number);
        let (whole, fraction) = unsigned.split_once('.').unwrap_or((unsigned, ""));
        let all_digits = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
        let length = whole.len() + fraction.len();
        if length == 0 || length > DIGITS_MAX || !all_digits(whole) || !all_digits(fraction) {
            return None;
        }
        if exponent.abs() > EXPONENT_MAX {
            return None;
        }
        let sign = if number.starts_with('-') { "-" } else { "" };
        let mut digits: BigInt = format!("{sign}{whole}{fraction}").parse().ok()?;
        let scale = fraction.len() as i64 - exponent;
        if scale < 0 {
            digits *= ten_to(scale.unsigned_abs() as u32);
        }
        Some(Finite { digits, scale: scale.max(0) as u32 })
    }

    /// The nearest double.
    pub(super) fn to_f64(&self) -> f64 {
        match self {
            NegativeInfinity => f64::NEG_INFINITY,
            Infinity => f64::INFINITY,
            NaN => f64::NAN,
            Finite { digits, scale } => format!("{digits}e-{scale}").parse().unwrap_or(f64::NAN),
        }
    }

    fn sign(&self) -> Ordering {
        match self {
            NegativeInfinity => Ordering::Less,
            Finite { digits, .. } => sign(digits),
            Infinity | NaN => Ordering::Greater,
        }
    }

    fn rank(&self) -> u8 {
        match self {
            NegativeInfinity => 0,
            Finite { .. } => 1,
            Infinity => 2,
            NaN => 3,
        }
    }

    pub(super) fn negate(self) -> Self {
        match self {
            NegativeInfinity => Infinity,
            Infinity => NegativeInfinity,
            NaN => NaN,
            Finite { digits, scale } => Finite { digits: -digits, scale },
        }
    }

    pub(super) fn abs(self) -> Self {
        if self.sign() == Ordering::Less { self.negate() } else { self }
    }

    pub(super) fn add(&self, other: &Self) -> Self {
        match (self, other) {
            (NaN, _) | (_, NaN) => NaN,
            (Infinity, NegativeInfinity) | (NegativeInfinity, Infinity) => NaN,
            (Infinity, _) | (_, Infinity) => Infinity,
            (NegativeInfinity, _) | (_, NegativeInfinity) => NegativeInfinity,
            (Finite { digits: a, scale: s }, Finite { digits: b, scale: t }) => {
                let (a, b, scale) = aligned(a, *s, b, *t);
                Finite { digits: a + b, scale }
            }
        }
    }

    /// `None` when the product has more digits than a number may have.
    pub(super) fn multiply(&self, other: &Self) -> Option<Self> {
        Some(match (self, other) {
            (NaN, _) | (_, NaN) => NaN,
            (Finite { digits: a, scale: s }, Finite { digits: b, scale: t }) => {
                let bits = a.bits() + b.bits();
                // Three bits and a bit more are a digit.
                if bits / 3 > DIGITS_MAX as u64 {
                    return None;
                }
                Finite { digits: a * b, scale: s.checked_add(*t)? }
            }
            _ => {
                let opposite = self.sign() == other.sign().reverse();
                let zero = self.sign() == Ordering::Equal || other.sign() == Ordering::Equal;
                infinity(match (zero, opposite) {
                    (true, _) => Ordering::Equal,
                    (false, true) => Ordering::Less,
                    (false, false) => Ordering::Greater,
                })
            }
        })
    }

    /// `None` for a division by zero.
    pub(super) fn divide(&self, other: &Self) -> Option<Self> {
        Some(match (self, other) {
            (NaN, _) | (_, NaN) => NaN,
            (_, Finite { digits, .. }) if sign(digits).is_eq() => return None,
            (Finite { digits: a, scale: s }, Finite { digits: b, scale: t }) => {
                let scale = quotient_scale((a, *s), (b, *t));
                let up = ten_to(scale + t - s);
                let (a, b) = (a * up, b);
                // Half away from zero.
                let twice: BigInt = (&a % b) * 2;
                let mut digits = &a / b;
                if twice.magnitude() >= b.magnitude() {
                    digits += if a.sign() == b.sign() { 1 } else { -1 };
                }
                Finite { digits, scale }
            }
            (Finite { .. }, _) => Self::from(0),
            (_, Finite { digits, .. }) => {
                let same = self.sign() == sign(digits);
                if same { Infinity } else { NegativeInfinity }
            }
            _ => NaN,
        })
    }

    /// What is left of a division; it has the sign of what was divided. `None` for a division by
    /// zero.
    pub(super) fn remainder(&self, other: &Self) -> Option<Self> {
        Some(match (self, other) {
            (NaN, _) | (_, NaN) => NaN,
            (_, Finite { digits, .. }) if sign(digits).is_eq() => return None,
            (Finite { digits: a, scale: s }, Finite { digits: b, scale: t }) => {
                let (a, b, scale) = aligned(a, *s, b, *t);
                Finite { digits: a % b, scale }
            }
            (Finite { .. }, _) => self.clone(),
            _ => NaN,
        })
    }
}

impl PartialEq for Decimal {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Decimal {}

impl PartialOrd for Decimal {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Decimal {
    fn cmp(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Finite { digits: a, scale: s }, Finite { digits: b, scale: t }) => {
                if s == t {
                    return a.cmp(b);
                }
                let (a, b, _) = aligned(a, *s, b, *t);
                a.cmp(&b)
            }
            _ => self.rank().cmp(&other.rank()),
        }
    }
}

fn aligned(a: &BigInt, s: u32, b: &BigInt, t: u32) -> (BigInt, BigInt, u32) {
    let scale = s.max(t);
    (a * ten_to(scale - s), b * ten_to(scale - t), scale)
}

/// How many digits behind the point a quotient gets: the rule by which a `numeric` of sixteen
/// significant digits comes out, counted in groups of four, as databases keep them.
fn quotient_scale((a, s): (&BigInt, u32), (b, t): (&BigInt, u32)) -> u32 {
    let (weight_a, first_a) = first_group(a, s);
    let (weight_b, first_b) = first_group(b, t);
    let weight = weight_a - weight_b - i64::from(first_a <= first_b);
    let scale = QUOTIENT_DIGITS_MIN - weight * 4;
    let scale = scale.max(i64::from(s)).max(i64::from(t));
    // What was longer than that to begin with stays so, so that nothing is lost.
    scale.clamp(0, QUOTIENT_SCALE_MAX.max(i64::from(s)).max(i64::from(t))) as u32
}

/// The weight of the first group of four digits, counted from the point, and that group.
fn first_group(digits: &BigInt, scale: u32) -> (i64, u32) {
    if sign(digits).is_eq() {
        return (0, 0);
    }
    let text = digits.magnitude().to_string();
    let top = text.len() as i64 - 1 - i64::from(scale);
    let length = top.rem_euclid(4) as usize + 1;
    let group: String = text.chars().chain(std::iter::repeat('0')).take(length).collect();
    (top.div_euclid(4), group.parse().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn d(text: &str) -> Decimal {
        Decimal::parse(text).unwrap_or_else(|| panic!("{text} is a decimal"))
    }

    #[test]
    fn decimals_have_the_order_of_numeric() {
        let ordered = ["-Infinity", "-10", "-9.99", "0", "0.000000000000000000000000001", "1e3"];
        for pair in ordered.windows(2) {
            assert!(d(pair[0]) < d(pair[1]), "{pair:?}");
        }
        assert!(d("Infinity") < d("NaN"));
        assert_eq!(d("1.50"), d("1.5"));
        assert_eq!(d("-0.0"), d("0"));
        assert_eq!(d("NaN"), d("NaN"));
    }

    #[test]
    fn arithmetic_is_exact() {
        assert_eq!(d("0.1").add(&d("0.2")), d("0.3"));
        assert_eq!(d("0.1").multiply(&d("0.2")), Some(d("0.02")));
        assert_eq!(d("1").divide(&d("3")), Some(d("0.33333333333333333333")));
        assert_eq!(d("2").divide(&d("-3")), Some(d("-0.66666666666666666667")));
        assert_eq!(d("-7.5").remainder(&d("2")), Some(d("-1.5")));
        assert_eq!(d("1").divide(&d("0")), None);
        assert_eq!(d("Infinity").multiply(&d("0")), Some(NaN));
    }

    #[test]
    fn what_is_no_decimal_is_refused() {
        for text in ["", "-", ".", "1.2.3", "1e", "1e99999999999", "0x10", "1 ", "١"] {
            assert_eq!(Decimal::parse(text), None, "{text:?}");
        }
    }
}
