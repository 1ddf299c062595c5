//! Times as people and scripts read them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Microseconds since 1970 UTC, now.
pub(crate) fn now_micros() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}

/// `2026-11-20T14:31:32.123456Z`, with so many digits of the second's fraction, at most six.
pub(crate) fn rfc3339(micros: i64, digits: usize) -> String {
    let seconds = micros.div_euclid(1_000_000);
    let fraction = format!("{:06}", micros.rem_euclid(1_000_000));
    let (year, month, day) = civil(seconds.div_euclid(86_400));
    let second = seconds.rem_euclid(86_400);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    let point = if digits > 0 { "." } else { "" };
    format!(
        "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}{point}{}Z",
        &fraction[..digits.min(6)]
    )
}

/// Year, month and day of a day counted from 1970-01-01, by the Gregorian calendar's 400-year
/// cycle; years begin in March, so that the leap day comes last.
fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day = days.rem_euclid(146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (year + era * 400 + i64::from(month <= 2), month, day)
}

/// `850 ms`, `3.2 s`, `4 min`, `2.5 h`: as precise as it matters.
pub(crate) fn rough(duration: Duration) -> String {
    let seconds = duration.as_secs_f64();
    match seconds {
        0.0 => "0 ms".into(),
        s if s < 0.0095 => format!("{:.1} ms", s * 1e3),
        s if s < 1.0 => format!("{:.0} ms", s * 1e3),
        s if s < 60.0 => format!("{s:.1} s"),
        s if s < 3600.0 => format!("{:.0} min", s / 60.0),
        s if s < 86_400.0 => format!("{:.1} h", s / 3600.0),
        s => format!("{:.1} d", s / 86_400.0),
    }
}

/// `1,204,331`.
pub(crate) fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_scripts_read_them() {
        assert_eq!(rfc3339(0, 3), "1970-01-01T00:00:00.000Z");
        assert_eq!(rfc3339(1_709_210_096_123_456, 6), "2024-02-29T12:34:56.123456Z");
        assert_eq!(rfc3339(-1, 0), "1969-12-31T23:59:59Z");
        assert_eq!(rfc3339(951_782_400_000_000, 0), "2000-02-29T00:00:00Z");
        assert_eq!(rfc3339(4_102_444_799_000_000, 0), "2099-12-31T23:59:59Z");
    }

    #[test]
    fn durations_and_numbers_are_short() {
        assert_eq!(rough(Duration::from_micros(2_840)), "2.8 ms");
        assert_eq!(rough(Duration::from_millis(850)), "850 ms");
        assert_eq!(rough(Duration::from_secs(90)), "2 min");
        assert_eq!(grouped(0), "0");
        assert_eq!(grouped(1_204_331), "1,204,331");
    }
}
