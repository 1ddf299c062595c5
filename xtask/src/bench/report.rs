//! Figures, and how they are shown: medians, their spread, and the ratio.

use super::Peer;
use super::workload::Workload;
use anyhow::{Context, Result};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

/// What a figure counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Metric {
    EventsPerSecond,
    RowsPerSecond,
    P50,
    P99,
    P999,
    CpuMicros,
    MebiBytes,
    CpuPercent,
    /// Events a second as a share of what they were with nothing to park.
    OfClean,
}

impl Metric {
    fn name(self) -> &'static str {
        match self {
            Self::EventsPerSecond => "events/s",
            Self::RowsPerSecond => "rows/s",
            Self::P50 => "p50 ms",
            Self::P99 => "p99 ms",
            Self::P999 => "p99.9 ms",
            Self::CpuMicros => "own CPU µs/event",
            Self::MebiBytes => "memory MiB",
            Self::CpuPercent => "own CPU %",
            Self::OfClean => "of the rate without",
        }
    }

    fn show(self, value: f64) -> String {
        match self {
            Self::EventsPerSecond | Self::RowsPerSecond => thousands(value),
            Self::MebiBytes => format!("{value:.0}"),
            _ => format!("{value:.2}"),
        }
    }
}

/// One figure of one peer.
pub(super) struct Sample {
    peer: Peer,
    metric: Metric,
    value: f64,
}

impl Sample {
    pub(super) fn new(peer: Peer, metric: Metric, value: f64) -> Self {
        Self { peer, metric, value }
    }
}

impl fmt::Display for Sample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (peer, metric) = (self.peer.name(), self.metric);
        write!(f, "{peer:8} {} {}", metric.show(self.value), metric.name())
    }
}

/// What we want to see: first, and then.
#[derive(Debug, Clone, Copy)]
pub(super) enum Target {
    /// Rowcast's median over native's.
    Ratio(f64, f64),
    AtLeast(f64, f64),
    AtMost(f64, f64),
}

impl Target {
    /// How far `ours` gets: 0, 1 or 2 of the targets.
    fn reached(self, ours: f64, ratio: Option<f64>) -> Option<usize> {
        let (holds_first, holds_then) = match self {
            Self::Ratio(first, then) => (ratio? >= first, ratio? >= then),
            Self::AtLeast(first, then) => (ours >= first, ours >= then),
            Self::AtMost(first, then) => (ours <= first, ours <= then),
        };
        Some(usize::from(holds_first) + usize::from(holds_first && holds_then))
    }

    fn show(self, metric: Metric) -> String {
        let both = |sign: &str, first: f64, then: f64| {
            format!("{sign} {}, then {}", metric.show(first), metric.show(then))
        };
        match self {
            Self::Ratio(first, then) => format!("× {first}, then × {then}"),
            Self::AtLeast(first, then) => both("≥", first, then),
            Self::AtMost(first, then) => both("≤", first, then),
        }
    }
}

/// Everything measured so far.
pub(super) struct Report {
    machine: Value,
    quick: bool,
    figures: BTreeMap<(Workload, Metric), BTreeMap<&'static str, Vec<f64>>>,
}

impl Report {
    pub(super) fn new(machine: Value, quick: bool) -> Self {
        Self { machine, quick, figures: BTreeMap::new() }
    }

    pub(super) fn add(&mut self, workload: Workload, sample: Sample) {
        let row = self.figures.entry((workload, sample.metric)).or_default();
        row.entry(sample.peer.name()).or_default().push(sample.value);
    }

    /// Writes all of it as JSON into a directory; the name is the time at which the run began.
    pub(super) fn write(&self, dir: &Path) -> Result<PathBuf> {
        let rows: Vec<Value> = self
            .figures
            .iter()
            .map(|((workload, metric), peers)| {
                json!({
                    "workload": workload.name(),
                    "metric": metric.name(),
                    "native": peers.get("native"),
                    "rowcast": peers.get("rowcast"),
                    "native median": peers.get("native").map(|values| median(values)),
                    "rowcast median": peers.get("rowcast").map(|values| median(values)),
                    "ratio": ratio(peers),
                })
            })
            .collect();
        let all = json!({ "machine": self.machine, "quick": self.quick, "figures": rows });
        let name = self.machine["at"].as_str().context("the run has a time")?.replace(':', "");
        std::fs::create_dir_all(dir)?;
        let path = dir.join(format!("{name}.json"));
        std::fs::write(&path, serde_json::to_string_pretty(&all)? + "\n")?;
        Ok(path)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let of = |key: &str| self.machine[key].as_str().unwrap_or("unknown").to_owned();
        writeln!(
            f,
            "\n{}, {} cores, {}, Linux {}, PostgreSQL {}, commit {}{}",
            of("processor"),
            self.machine["cores"],
            of("memory"),
            of("kernel"),
            of("postgres"),
            of("commit"),
            if self.quick { "; a quick look, no measurement" } else { "" }
        )?;
        writeln!(f, "Medians; ± is half the distance between the extremes.\n")?;
        let heads = ["workload", "measure", "native", "±", "rowcast", "±", "ratio", "target", ""];
        let mut lines = vec![heads.map(str::to_owned).to_vec(), vec!["---".to_owned(); 9]];
        for ((workload, metric), peers) in &self.figures {
            lines.push(line(*workload, *metric, peers));
        }
        let width = |column: usize| {
            lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..heads.len()).map(width).collect();
        for line in &lines {
            let cells: Vec<String> =
                line.iter().zip(&widths).map(|(cell, width)| format!(" {cell:width$} ")).collect();
            writeln!(f, "|{}|", cells.join("|"))?;
        }
        Ok(())
    }
}

fn line(
    workload: Workload,
    metric: Metric,
    peers: &BTreeMap<&'static str, Vec<f64>>,
) -> Vec<String> {
    let figures = |peer: &str| match peers.get(peer) {
        Some(values) => {
            let median = median(values);
            [metric.show(median), format!("{:.0} %", spread(values) / median * 100.0)]
        }
        None => [String::new(), String::new()],
    };
    let [native, native_spread] = figures("native");
    let [rowcast, rowcast_spread] = figures("rowcast");
    let ratio = ratio(peers);
    let target = workload.target(metric);
    let ours = peers.get("rowcast").map(|values| median(values));
    let reached = target.zip(ours).and_then(|(target, ours)| target.reached(ours, ratio));
    vec![
        workload.name(),
        metric.name().to_owned(),
        native,
        native_spread,
        rowcast,
        rowcast_spread,
        ratio.map_or_else(String::new, |ratio| format!("× {ratio:.2}")),
        target.map_or_else(String::new, |target| target.show(metric)),
        reached.map_or("", |reached| ["missed", "first", "reached"][reached]).to_owned(),
    ]
}

/// Rowcast's median over native's.
fn ratio(peers: &BTreeMap<&'static str, Vec<f64>>) -> Option<f64> {
    Some(median(peers.get("rowcast")?) / median(peers.get("native")?))
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => f64::NAN,
        odd if odd % 2 == 1 => sorted[middle],
        _ => f64::midpoint(sorted[middle - 1], sorted[middle]),
    }
}

fn spread(values: &[f64]) -> f64 {
    let most = values.iter().copied().fold(f64::MIN, f64::max);
    let least = values.iter().copied().fold(f64::MAX, f64::min);
    (most - least) / 2.0
}

fn thousands(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut out = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
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
    fn medians_ratios_and_targets_come_out() {
        assert!((median(&[3.0, 1.0, 2.0]) - 2.0).abs() < 1e-9);
        assert!((median(&[4.0, 1.0, 2.0, 3.0]) - 2.5).abs() < 1e-9);
        assert_eq!(thousands(1_234_567.0), "1,234,567");
        let machine = json!({ "at": "2026-01-01T00:00:00Z" });
        let mut report = Report::new(machine, false);
        for value in [100.0, 120.0] {
            report.add(Workload::Ins1, Sample::new(Peer::Native, Metric::EventsPerSecond, value));
            let ours = Sample::new(Peer::Rowcast, Metric::EventsPerSecond, value * 1.2);
            report.add(Workload::Ins1, ours);
        }
        let shown = report.to_string();
        assert!(shown.contains("× 1.20") && shown.contains("first"), "{shown}");
    }

    #[test]
    fn a_target_is_missed_reached_first_or_reached() {
        assert_eq!(Target::AtMost(2.0, 0.8).reached(3.0, None), Some(0));
        assert_eq!(Target::AtMost(2.0, 0.8).reached(1.0, None), Some(1));
        assert_eq!(Target::AtLeast(10.0, 20.0).reached(20.0, None), Some(2));
        assert_eq!(Target::Ratio(1.0, 2.0).reached(20.0, None), None);
    }
}
