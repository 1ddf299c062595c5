//! Dates and times in the canonical text that values have, as numbers that have their order.

/// Microseconds, so wide that every calendar fits and both ends stand for infinity.
pub(super) type Micros = i128;

pub(super) const INFINITY: Micros = Micros::MAX;
pub(super) const NEGATIVE_INFINITY: Micros = Micros::MIN;
const SECOND: Micros = 1_000_000;
const DAY: Micros = 86_400 * SECOND;

/// `2026-11-20`, `0044-03-15 BC`, `infinity`: midnight, counted from 1970.
pub(super) fn date(text: &str) -> Option<Micros> {
    if let Some(end) = infinite(text) {
        return Some(end);
    }
    let (text, before_christ) = era(text);
    days(text, before_christ).map(|days| Micros::from(days) * DAY)
}

/// `2026-11-20 12:34:56.789`, counted from 1970. A date alone is its midnight.
pub(super) fn timestamp(text: &str) -> Option<Micros> {
    if let Some(end) = infinite(text) {
        return Some(end);
    }
    let (text, before_christ) = era(text);
    let (day, clock) = text.split_once([' ', 'T']).unwrap_or((text, "00:00:00"));
    Some(Micros::from(days(day, before_christ)?) * DAY + time(clock)?)
}

/// As a timestamp, with its distance from UTC, which is none when none is said.
pub(super) fn timestamp_tz(text: &str) -> Option<Micros> {
    if let Some(end) = infinite(text) {
        return Some(end);
    }
    let (text, before_christ) = era(text);
    let (day, clock) = text.split_once([' ', 'T']).unwrap_or((text, "00:00:00"));
    let (clock, east) = zone(clock)?;
    let local = Micros::from(days(day, before_christ)?) * DAY + time(clock)?;
    Some(local - Micros::from(east) * SECOND)
}

/// `12:34:56.789`, `24:00:00`: since midnight.
pub(super) fn time(text: &str) -> Option<Micros> {
    let mut parts = text.split(':');
    let hour = digits(parts.next()?, 2..=2)?;
    let minute = digits(parts.next()?, 2..=2)?;
    let (second, fraction) = match parts.next() {
        None => (0, 0),
        Some(rest) => {
            let (second, fraction) = rest.split_once('.').unwrap_or((rest, "0"));
            let scale = 10_i64.pow(6_u32.checked_sub(fraction.len() as u32)?);
            (digits(second, 2..=2)?, digits(fraction, 1..=6)? * scale)
        }
    };
    let in_day = hour < 24 || (hour == 24 && minute == 0 && second == 0 && fraction == 0);
    if !in_day || minute > 59 || second > 59 || parts.next().is_some() {
        return None;
    }
    Some(Micros::from((hour * 60 + minute) * 60 + second) * SECOND + Micros::from(fraction))
}

/// `12:34:56+02`: ordered by the moment it means, then by its distance from UTC.
pub(super) fn time_tz(text: &str) -> Option<(Micros, i32)> {
    let (clock, east) = zone(text)?;
    Some((time(clock)? - Micros::from(east) * SECOND, -east))
}

fn infinite(text: &str) -> Option<Micros> {
    match text {
        "infinity" => Some(INFINITY),
        "-infinity" => Some(NEGATIVE_INFINITY),
        _ => None,
    }
}

fn era(text: &str) -> (&str, bool) {
    text.strip_suffix(" BC").map_or((text, false), |text| (text, true))
}

fn digits(text: &str, length: std::ops::RangeInclusive<usize>) -> Option<i64> {
    let good = length.contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
    good.then(|| text.parse().ok()).flatten()
}

/// Splits off the distance from UTC, in seconds to the east.
fn zone(clock: &str) -> Option<(&str, i32)> {
    if let Some(clock) = clock.strip_suffix(['Z', 'z']) {
        return Some((clock, 0));
    }
    let Some(at) = clock.find(['+', '-']) else { return Some((clock, 0)) };
    let (clock, zone) = clock.split_at(at);
    let clock = clock.trim_end_matches(' ');
    let mut seconds = 0;
    let mut count = 0;
    for (part, weight) in zone[1..].split(':').zip([3600, 60, 1]) {
        seconds += digits(part, 2..=2)? as i32 * weight;
        count += 1;
    }
    let whole = zone[1..].split(':').count() == count && seconds < 16 * 3600;
    whole.then_some((clock, if zone.starts_with('-') { -seconds } else { seconds }))
}

/// Days since 1970 of `year-month-day` in the Gregorian calendar, also before it was used.
fn days(text: &str, before_christ: bool) -> Option<i64> {
    let mut parts = text.split('-');
    let year = digits(parts.next()?, 4..=9)?;
    let month = digits(parts.next()?, 2..=2)?;
    let day = digits(parts.next()?, 2..=2)?;
    if parts.next().is_some() || year == 0 {
        return None;
    }
    let year = if before_christ { 1 - year } else { year };
    let leap = year.rem_euclid(4) == 0 && (year.rem_euclid(100) != 0 || year.rem_euclid(400) == 0);
    let last = match month {
        4 | 6 | 9 | 11 => 30,
        2 => 28 + i64::from(leap),
        1..=12 => 31,
        _ => return None,
    };
    if !(1..=last).contains(&day) {
        return None;
    }
    // Years that begin in March have their odd day at the end.
    let year = if month <= 2 { year - 1 } else { year };
    let month = (month + 9) % 12;
    let day_of_year = (153 * month + 2) / 5 + day - 1;
    let leaps = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    Some(year * 365 + leaps + day_of_year - 719_468)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_count_from_1970() {
        for (text, day) in [
            ("1970-01-01", 0),
            ("1969-12-31", -1),
            ("2000-02-29", 11_016),
            ("2026-11-20", 20_777),
            ("0001-01-01", -719_162),
            ("0001-12-31 BC", -719_163),
        ] {
            assert_eq!(date(text), Some(day * DAY), "{text}");
        }
    }

    #[test]
    fn moments_have_their_order() {
        let ordered = [
            "-infinity",
            "4713-11-24 00:00:00+00 BC",
            "0044-03-15 12:00:00+00 BC",
            "2026-11-20 12:34:56+02",
            "2026-11-20 12:34:56+00",
            "2026-11-20 12:34:56.000001+00",
            "294276-12-31 23:59:59.999999+00",
            "infinity",
        ];
        for pair in ordered.windows(2) {
            let [a, b] =
                [pair[0], pair[1]].map(|t| timestamp_tz(t).unwrap_or_else(|| panic!("{t}")));
            assert!(a < b, "{pair:?}");
        }
        assert_eq!(timestamp("2026-11-20"), date("2026-11-20"));
        assert_eq!(timestamp_tz("2026-11-20T10:00Z"), timestamp("2026-11-20 10:00:00"));
        assert_eq!(time("24:00:00"), Some(DAY));
        assert!(time_tz("12:00:00+02") < time_tz("12:00:00+00"));
    }

    #[test]
    fn what_is_no_moment_is_refused() {
        for text in
            ["", "2026", "2026-02-30", "2026-13-01", "26-01-01", "2026-01-01x", "0000-01-01"]
        {
            assert_eq!(date(text), None, "{text:?}");
        }
        for text in
            ["25:00:00", "24:00:01", "12:60:00", "12", "12:00:00.1234567", "12:00:00.", "1:00"]
        {
            assert_eq!(time(text), None, "{text:?}");
        }
        assert_eq!(timestamp_tz("2026-01-01 00:00:00+02:00:00:00"), None);
    }
}
