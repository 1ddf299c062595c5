//! Times as scripts read them.

/// `2026-11-20T14:31:32.123456Z`, of microseconds since 1970 UTC, with so many digits of the second's
/// fraction, at most six.
pub fn rfc3339(micros: i64, digits: usize) -> String {
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
}
