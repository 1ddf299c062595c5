//! Times as people and scripts read them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Microseconds since 1970 UTC, now.
pub(crate) fn now_micros() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}

/// How long a moment is past, in milliseconds since 1970 UTC.
pub(crate) fn age(since_ms: i64) -> Duration {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    now.saturating_sub(Duration::from_millis(u64::try_from(since_ms).unwrap_or(0)))
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

/// `1 event`, `1,204 events`.
pub(crate) fn counted(n: u64, what: &str) -> String {
    if n == 1 { format!("1 {what}") } else { format!("{} {what}s", grouped(n)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_numbers_are_short() {
        assert_eq!(rough(Duration::from_micros(2_840)), "2.8 ms");
        assert_eq!(rough(Duration::from_millis(850)), "850 ms");
        assert_eq!(rough(Duration::from_secs(90)), "2 min");
        assert_eq!(counted(1, "event"), "1 event");
        assert_eq!(counted(1_204, "event"), "1,204 events");
        assert_eq!(grouped(0), "0");
        assert_eq!(grouped(1_204_331), "1,204,331");
    }
}
