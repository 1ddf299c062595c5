//! Texts of common types as the bytes that the server's receive functions read: what a server need not
//! parse costs it less. A text that is not exactly what PostgreSQL prints is left to the server.

/// Microseconds of a day.
const DAY: i64 = 86_400_000_000;
/// Days from 1970 to 2000, where PostgreSQL counts from.
const DAYS_TO_2000: i64 = 10_957;

/// A type whose bytes we can write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Binary {
    Bool,
    Int2,
    Int4,
    Int8,
    Float4,
    Float8,
    Numeric,
    Text,
    Varchar,
    Bytea,
    Date,
    Timestamp,
    TimestampTz,
    Uuid,
    Json,
    Jsonb,
}

/// Their numbers in `pg_type`, which are the same on every server.
const OIDS: [(u32, Binary); 16] = [
    (16, Binary::Bool),
    (17, Binary::Bytea),
    (20, Binary::Int8),
    (21, Binary::Int2),
    (23, Binary::Int4),
    (25, Binary::Text),
    (114, Binary::Json),
    (700, Binary::Float4),
    (701, Binary::Float8),
    (1043, Binary::Varchar),
    (1082, Binary::Date),
    (1114, Binary::Timestamp),
    (1184, Binary::TimestampTz),
    (1700, Binary::Numeric),
    (2950, Binary::Uuid),
    (3802, Binary::Jsonb),
];

impl Binary {
    /// The type with this number.
    pub(super) fn of(oid: u32) -> Option<Self> {
        OIDS.iter().find(|(o, _)| *o == oid).map(|(_, bytes)| *bytes)
    }

    /// The type's number.
    pub(super) fn oid(self) -> u32 {
        let of = OIDS.iter().find(|(_, bytes)| *bytes == self);
        of.map(|(oid, _)| *oid).expect("every type has a number")
    }

    /// Appends the value that a text stands for. `None` when the text is not as PostgreSQL prints it;
    /// `out` may then hold a part of it.
    #[inline]
    pub(super) fn write(self, text: &[u8], out: &mut Vec<u8>) -> Option<()> {
        match self {
            Self::Text | Self::Varchar | Self::Json => out.extend_from_slice(text),
            Self::Jsonb => {
                // The version of the format.
                out.push(1);
                out.extend_from_slice(text);
            }
            Self::Int8 => out.extend_from_slice(&integer(text)?.to_be_bytes()),
            Self::Int4 => {
                out.extend_from_slice(&i32::try_from(integer(text)?).ok()?.to_be_bytes());
            }
            Self::Int2 => {
                out.extend_from_slice(&i16::try_from(integer(text)?).ok()?.to_be_bytes());
            }
            Self::Timestamp => out.extend_from_slice(&moment(text)?.to_be_bytes()),
            Self::TimestampTz => {
                let moment = match text {
                    b"infinity" | b"-infinity" => moment(text)?,
                    _ => {
                        let (text, era) = era(text);
                        moment_of(text.strip_suffix(b"+00")?, era)?
                    }
                };
                out.extend_from_slice(&moment.to_be_bytes());
            }
            Self::Date => out.extend_from_slice(&date(text)?.to_be_bytes()),
            Self::Bool => out.push(match text {
                b"t" => 1,
                b"f" => 0,
                _ => return None,
            }),
            Self::Float4 => out.extend_from_slice(&float::<f32>(text)?.to_be_bytes()),
            Self::Float8 => out.extend_from_slice(&float::<f64>(text)?.to_be_bytes()),
            Self::Numeric => numeric(text, out)?,
            Self::Uuid => uuid(text, out)?,
            Self::Bytea => hex(text.strip_prefix(b"\\x")?, out)?,
        }
        Some(())
    }
}

/// Digits, with a minus before them or not.
fn integer(text: &[u8]) -> Option<i64> {
    let (negative, digits) = match text.strip_prefix(b"-") {
        Some(digits) => (true, digits),
        None => (false, text),
    };
    // The smallest number has no positive counterpart, so digits are taken away.
    let down = |n: i64, d: &u8| {
        let digit = d.is_ascii_digit().then(|| i64::from(d - b'0'))?;
        n.checked_mul(10)?.checked_sub(digit)
    };
    if digits.is_empty() {
        return None;
    }
    let down = digits.iter().try_fold(0, down)?;
    if negative { Some(down) } else { down.checked_neg() }
}

/// A few digits and nothing else.
fn number(text: &[u8]) -> Option<i64> {
    let digits = (1..=9).contains(&text.len()) && text.iter().all(u8::is_ascii_digit);
    digits.then(|| text.iter().fold(0, |n, d| n * 10 + i64::from(d - b'0')))
}

/// What rounds to infinity or to nothing is left to the server, which refuses it.
fn float<F: std::str::FromStr + Into<f64> + Copy>(text: &[u8]) -> Option<F> {
    let read = || std::str::from_utf8(text).ok()?.parse::<F>().ok();
    if matches!(text, b"NaN" | b"Infinity" | b"-Infinity") {
        return read();
    }
    // Rust reads more spellings than PostgreSQL prints.
    let printed = text.iter().all(|b| matches!(b, b'0'..=b'9' | b'.' | b'-' | b'+' | b'e'));
    let mantissa = text.split(|b| *b == b'e').next().unwrap_or_default();
    let is_nought = !mantissa.iter().any(|b| matches!(b, b'1'..=b'9'));
    let number = printed.then(read)??;
    let value: f64 = number.into();
    (value.is_finite() && (value == 0.0) == is_nought).then_some(number)
}

/// A text without ` BC`, and whether it had one.
fn era(text: &[u8]) -> (&[u8], bool) {
    text.strip_suffix(b" BC").map_or((text, false), |text| (text, true))
}

fn moment(text: &[u8]) -> Option<i64> {
    match text {
        b"infinity" => Some(i64::MAX),
        b"-infinity" => Some(i64::MIN),
        _ => {
            let (text, before) = era(text);
            moment_of(text, before)
        }
    }
}

/// Microseconds since 2000 of `YYYY-MM-DD HH:MM:SS[.ffffff]`.
fn moment_of(text: &[u8], before: bool) -> Option<i64> {
    let space = text.iter().position(|b| *b == b' ')?;
    let days = days(&text[..space], before)?;
    let (clock, fraction) = text[space + 1..].split_at_checked(8)?;
    let [h1, h2, b':', m1, m2, b':', s1, s2] = clock else { return None };
    let (hour, minute) = (number(&[*h1, *h2])?, number(&[*m1, *m2])?);
    let second = number(&[*s1, *s2])?;
    let micros = match fraction {
        [] => 0,
        [b'.', digits @ ..] if digits.len() <= 6 => {
            number(digits)? * 10_i64.pow(6 - digits.len() as u32)
        }
        _ => return None,
    };
    if hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let clock = ((hour * 60 + minute) * 60 + second) * 1_000_000 + micros;
    days.checked_mul(DAY)?.checked_add(clock)
}

fn date(text: &[u8]) -> Option<i32> {
    match text {
        b"infinity" => Some(i32::MAX),
        b"-infinity" => Some(i32::MIN),
        _ => {
            let (text, before) = era(text);
            i32::try_from(days(text, before)?).ok()
        }
    }
}

/// Days since 2000 of `YYYY-MM-DD`; years have four digits or more.
fn days(text: &[u8], before: bool) -> Option<i64> {
    let (year, rest) = text.split_at_checked(text.len().checked_sub(6)?)?;
    let [b'-', m1, m2, b'-', d1, d2] = rest else { return None };
    let (month, day) = (number(&[*m1, *m2])?, number(&[*d1, *d2])?);
    let year = number(year).filter(|y| year.len() >= 4 && *y > 0)?;
    // There is no year nought: 1 BC comes before 1.
    let year = if before { 1 - year } else { year };
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let length = match month {
        2 => 28 + i64::from(leap),
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return None,
    };
    if !(1..=length).contains(&day) {
        return None;
    }
    // Years that begin in March end with the day that some of them lack.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let (cycle, in_cycle) = (year.div_euclid(400), year.rem_euclid(400));
    let in_year = (153 * month + 2) / 5 + day - 1;
    let in_cycle = in_cycle * 365 + in_cycle / 4 - in_cycle / 100 + in_year;
    Some(cycle * 146_097 + in_cycle - 719_468 - DAYS_TO_2000)
}

fn nibble(digit: u8) -> Option<u8> {
    Some(match digit {
        b'0'..=b'9' => digit - b'0',
        b'a'..=b'f' => digit - b'a' + 10,
        _ => return None,
    })
}

fn hex(digits: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let (pairs, []) = digits.as_chunks::<2>() else { return None };
    out.reserve(pairs.len());
    for [high, low] in pairs {
        out.push(nibble(*high)? << 4 | nibble(*low)?);
    }
    Some(())
}

fn uuid(text: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let dashes = [8, 13, 18, 23];
    if text.len() != 36 || dashes.iter().any(|at| text[*at] != b'-') {
        return None;
    }
    for (from, to) in [(0, 8), (9, 13), (14, 18), (19, 23), (24, 36)] {
        hex(&text[from..to], out)?;
    }
    Some(())
}

/// `numeric`: how many groups of four digits, the first one's weight, the sign, the digits to show
/// behind the point, and the groups, without those that are nought at either end.
fn numeric(text: &[u8], out: &mut Vec<u8>) -> Option<()> {
    const SIGNS: [u16; 2] = [0x0000, 0x4000];
    let (negative, digits) = match text.strip_prefix(b"-") {
        Some(digits) => (true, digits),
        None => (false, text),
    };
    let point = digits.iter().position(|b| *b == b'.');
    let (whole, fraction) = match point {
        Some(at) => (&digits[..at], &digits[at + 1..]),
        None => (digits, &digits[..0]),
    };
    let plain = |digits: &[u8]| digits.iter().all(u8::is_ascii_digit);
    // Infinity and NaN, and what is longer than a row of ours could be, are left to the server.
    let fits = whole.len() <= 4_000 && fraction.len() <= 4_000;
    if whole.is_empty() || !fits || !plain(whole) || !plain(fraction) {
        return None;
    }
    if point.is_some() && fraction.is_empty() {
        return None;
    }
    let whole_groups = whole.len().div_ceil(4);
    let pad = whole_groups * 4 - whole.len();
    let digit = |at: usize| {
        let at = at.checked_sub(pad)?;
        whole.get(at).or_else(|| fraction.get(at - whole.len())).map(|d| u16::from(d - b'0'))
    };
    let group = |g: usize| (0..4).fold(0, |n, i| n * 10 + digit(g * 4 + i).unwrap_or(0));
    let groups = whole_groups + fraction.len().div_ceil(4);
    let first = (0..groups).find(|g| group(*g) != 0);
    let last = (0..groups).rfind(|g| group(*g) != 0);
    let (first, count) = match (first, last) {
        (Some(first), Some(last)) => (first, last - first + 1),
        _ => (whole_groups, 0),
    };
    let weight = if count == 0 { 0 } else { whole_groups as i16 - 1 - first as i16 };
    // Nought has no sign.
    let sign = SIGNS[usize::from(negative && count > 0)];
    for word in [count as u16, weight as u16, sign, fraction.len() as u16] {
        out.extend_from_slice(&word.to_be_bytes());
    }
    for g in first..first + count {
        out.extend_from_slice(&group(g).to_be_bytes());
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn written(binary: Binary, text: &str) -> Option<Vec<u8>> {
        let mut out = Vec::new();
        binary.write(text.as_bytes(), &mut out).map(|()| out)
    }

    fn eight(binary: Binary, text: &str) -> Option<i64> {
        written(binary, text).map(|b| i64::from_be_bytes(b.try_into().unwrap()))
    }

    #[test]
    fn moments_count_from_the_year_2000() {
        for (text, micros) in [
            ("2000-01-01 00:00:00+00", 0),
            ("2000-03-01 00:00:00.5+00", 60 * DAY + 500_000),
            ("1999-12-31 23:59:59.999999+00", -1),
            ("4714-11-24 00:00:00+00 BC", -2_451_545 * DAY),
            ("infinity", i64::MAX),
            ("-infinity", i64::MIN),
        ] {
            assert_eq!(eight(Binary::TimestampTz, text), Some(micros), "{text}");
        }
        assert_eq!(
            written(Binary::Date, "0001-01-01 BC"),
            Some((-730_485_i32).to_be_bytes().into())
        );
    }

    #[test]
    fn what_postgresql_would_not_print_is_left_to_the_server() {
        for (binary, text) in [
            (Binary::TimestampTz, "2026-11-20 12:00:00+05:30"),
            (Binary::TimestampTz, "2026-11-20 12:00:00"),
            (Binary::Timestamp, "2026-02-29 12:00:00"),
            (Binary::Timestamp, "2026-11-20T12:00:00"),
            (Binary::Timestamp, "2026-11-20 24:00:00"),
            (Binary::Timestamp, "2026-11-20 12:00:00.1234567"),
            (Binary::Date, "26-11-20"),
            (Binary::Date, "0000-01-01"),
            (Binary::Int2, "32768"),
            (Binary::Int4, "+1"),
            (Binary::Int8, "9223372036854775808"),
            (Binary::Int8, ""),
            (Binary::Int8, "-"),
            (Binary::Bool, "true"),
            (Binary::Float8, "nan"),
            (Binary::Float8, "inf"),
            (Binary::Float8, "1e309"),
            (Binary::Float8, "-1e-400"),
            (Binary::Float4, "1e39"),
            (Binary::Float4, "1e-60"),
            (Binary::Numeric, "1e5"),
            (Binary::Numeric, ".5"),
            (Binary::Numeric, "5."),
            (Binary::Numeric, "NaN"),
            (Binary::Uuid, "a0eebc999c0b4ef8bb6d6bb9bd380a11"),
            (Binary::Bytea, "\\x0"),
            (Binary::Bytea, "abc"),
        ] {
            assert_eq!(written(binary, text), None, "{binary:?} {text}");
        }
    }

    #[test]
    fn numerics_are_groups_of_four_digits() {
        let words = |text| -> Vec<u16> {
            let bytes = written(Binary::Numeric, text).unwrap();
            bytes.as_chunks::<2>().0.iter().map(|w| u16::from_be_bytes(*w)).collect()
        };
        assert_eq!(words("0.00"), [0, 0, 0, 2]);
        assert_eq!(words("12345678.90"), [3, 1, 0, 2, 1234, 5678, 9000]);
        assert_eq!(words("-10000"), [1, 1, 0x4000, 0, 1]);
        assert_eq!(words("0.00012"), [2, 0xffff, 0, 5, 1, 2000]);
        assert_eq!(words("-0.00"), [0, 0, 0, 2]);
    }

    #[test]
    fn floats_keep_their_last_bit() {
        for text in ["-0", "0", "1e-45", "3.4028235e+38", "0.1", "-Infinity"] {
            let bytes = text.parse::<f32>().unwrap().to_be_bytes();
            assert_eq!(written(Binary::Float4, text), Some(bytes.into()), "{text}");
        }
        for text in ["5e-324", "1.7976931348623157e+308", "0.30000000000000004", "Infinity"] {
            let bytes = text.parse::<f64>().unwrap().to_be_bytes();
            assert_eq!(written(Binary::Float8, text), Some(bytes.into()), "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_written_or_left(text in prop::collection::vec(any::<u8>(), 0..40)) {
            for (oid, binary) in OIDS {
                prop_assert_eq!(Binary::of(oid), Some(binary));
                let _ = binary.write(&text, &mut Vec::new());
            }
        }

        #[test]
        fn integers_are_what_they_read(n in any::<i64>()) {
            prop_assert_eq!(eight(Binary::Int8, &n.to_string()), Some(n));
        }

        #[test]
        fn every_digit_of_a_text_is_looked_at(text in "[0-9. :+-]{0,32}( BC)?") {
            for (_, binary) in OIDS {
                let _ = binary.write(text.as_bytes(), &mut Vec::new());
            }
        }
    }
}
