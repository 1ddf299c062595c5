//! The Prometheus text exposition format, version 0.0.4.

use std::fmt::Write as _;

/// What a metric is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Only grows, until the process begins anew.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Counts by size: `_bucket`, `_sum`, `_count`.
    Histogram,
}

/// Metrics on their way out. Samples follow their family.
#[derive(Debug, Default)]
pub(super) struct Text(String);

impl Text {
    /// Begins a metric.
    pub(super) fn family(&mut self, name: &str, kind: Kind, help: &str) {
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    /// One value of the metric begun last.
    pub(super) fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: f64) {
        self.0.push_str(name);
        for (index, (label, text)) in labels.iter().enumerate() {
            let before = if index == 0 { '{' } else { ',' };
            let _ = write!(self.0, "{before}{label}=\"");
            for c in text.chars() {
                match c {
                    '\\' => self.0.push_str("\\\\"),
                    '"' => self.0.push_str("\\\""),
                    '\n' => self.0.push_str("\\n"),
                    c => self.0.push(c),
                }
            }
            self.0.push('"');
        }
        let end = if labels.is_empty() { "" } else { "}" };
        let _ = writeln!(self.0, "{end} {value}");
    }

    pub(super) fn finish(self) -> String {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_metric_is_written_as_the_format_says() {
        let mut text = Text::default();
        text.family("a_total", Kind::Counter, "How many.");
        text.sample("a_total", &[], 12_345_678_901.0);
        text.sample("a_total", &[("x", "q\"\\\n"), ("y", "Grüße")], 0.25);
        assert_eq!(
            text.finish(),
            "# HELP a_total How many.\n# TYPE a_total counter\na_total 12345678901\n\
             a_total{x=\"q\\\"\\\\\\n\",y=\"Grüße\"} 0.25\n"
        );
    }
}
