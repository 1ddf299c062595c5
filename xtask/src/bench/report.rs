//! Figures, and the tables that show them: medians, their spread, the ratio, and what an event costs.

use super::Peer;
pub(super) use super::metric::{Metric, Sample, Target};
use super::metric::{median, spread};
use super::workload::Workload;
use anyhow::{Context, Result};
use clap::ValueEnum;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::fmt;

/// All figures of one workload, and where they were taken.
#[derive(Debug, Clone, Default)]
struct Run {
    machine: Value,
    figures: BTreeMap<Metric, BTreeMap<&'static str, Vec<f64>>>,
}

/// Everything measured so far.
#[derive(Debug, Clone)]
pub(super) struct Report {
    machine: Value,
    runs: BTreeMap<Workload, Run>,
}

impl Report {
    pub(super) fn new(machine: Value) -> Self {
        Self { machine, runs: BTreeMap::new() }
    }

    pub(super) fn add(&mut self, workload: Workload, sample: &Sample) {
        let new = || Run { machine: self.machine.clone(), figures: BTreeMap::new() };
        let run = self.runs.entry(workload).or_insert_with(new);
        let peers = run.figures.entry(sample.metric).or_default();
        peers.entry(sample.peer.name()).or_default().push(sample.value);
    }

    /// When it began, fit for a file's name.
    pub(super) fn began(&self) -> Result<String> {
        Ok(self.machine["at"].as_str().context("the run has a time")?.replace(':', ""))
    }

    /// Takes over the workloads of another one, in place of those it has.
    pub(super) fn replace(&mut self, newer: Self) {
        self.machine = newer.machine;
        self.runs.extend(newer.runs);
    }

    /// All figures of one metric.
    pub(super) fn values(&self, workload: Workload, metric: Metric, peer: Peer) -> Option<&[f64]> {
        let values = self.runs.get(&workload)?.figures.get(&metric)?.get(peer.name())?;
        Some(values.as_slice())
    }

    pub(super) fn median(&self, workload: Workload, metric: Metric, peer: Peer) -> Option<f64> {
        self.values(workload, metric, peer).map(median)
    }

    pub(super) fn ratio(&self, workload: Workload, metric: Metric) -> Option<f64> {
        let ours = self.median(workload, metric, Peer::Rowcast)?;
        Some(ours / self.median(workload, metric, Peer::Native)?)
    }

    pub(super) fn workloads(&self) -> impl Iterator<Item = Workload> + '_ {
        self.runs.keys().copied()
    }

    pub(super) fn json(&self) -> Value {
        let mut workloads = Map::new();
        for (workload, run) in &self.runs {
            let mut figures = Map::new();
            for (metric, peers) in &run.figures {
                let mut entry: Map<String, Value> = peers
                    .iter()
                    .map(|(peer, values)| ((*peer).to_owned(), json!(values)))
                    .collect();
                for (peer, values) in peers {
                    entry.insert(format!("{peer} median"), json!(median(values)));
                }
                if let Some(ratio) = self.ratio(*workload, *metric) {
                    entry.insert("ratio".to_owned(), json!(ratio));
                }
                figures.insert(metric.name().to_owned(), entry.into());
            }
            let run = json!({ "machine": run.machine, "figures": figures });
            workloads.insert(workload.name(), run);
        }
        json!({ "machine": self.machine, "workloads": workloads })
    }

    /// What [`json`](Self::json) wrote. Workloads and metrics that are gone are left out.
    pub(super) fn from_json(json: &Value) -> Self {
        let mut runs = BTreeMap::new();
        for workload in Workload::value_variants() {
            let stored = &json["workloads"][workload.name()];
            let mut figures = BTreeMap::new();
            for metric in Metric::value_variants() {
                let mut peers = BTreeMap::new();
                for peer in [Peer::Native, Peer::Rowcast] {
                    let values = stored["figures"][metric.name()][peer.name()].as_array();
                    let values = values.into_iter().flatten().filter_map(Value::as_f64);
                    let values: Vec<f64> = values.collect();
                    if !values.is_empty() {
                        peers.insert(peer.name(), values);
                    }
                }
                if !peers.is_empty() {
                    figures.insert(*metric, peers);
                }
            }
            if !figures.is_empty() {
                runs.insert(*workload, Run { machine: stored["machine"].clone(), figures });
            }
        }
        Self { machine: json["machine"].clone(), runs }
    }

    /// Where and when each was measured, one line for each run.
    fn origins(&self) -> Vec<String> {
        let mut origins: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (workload, run) in &self.runs {
            let of = |key: &str| run.machine[key].as_str().unwrap_or("unknown").to_owned();
            let kib = of("memory").trim_end_matches(" kB").parse::<f64>().unwrap_or(f64::NAN);
            let origin = format!(
                "{}: {}, {} cores, {:.1} GiB, Linux {}, PostgreSQL {}, commit {}{}",
                of("at"),
                of("processor"),
                run.machine["cores"],
                kib / 1024.0 / 1024.0,
                of("kernel"),
                of("postgres"),
                of("commit"),
                if run.machine["changed since"] == json!(true) { " with changes" } else { "" }
            );
            origins.entry(origin).or_default().push(format!("`{}`", workload.name()));
        }
        match origins.len() {
            1 => origins.into_keys().collect(),
            _ => {
                origins.into_iter().map(|(o, names)| format!("{o}: {}", names.join(", "))).collect()
            }
        }
    }

    fn figures(&self) -> Vec<Vec<String>> {
        let heads = [
            "workload", "measure", "n", "native", "±", "Rowcast", "±", "ratio", "target", "reached",
        ];
        let mut lines = vec![heads.map(str::to_owned).to_vec()];
        for (workload, run) in &self.runs {
            for (metric, peers) in &run.figures {
                let alone = [Workload::Memory, Workload::Idle].contains(workload);
                let told = match metric {
                    Metric::MebiBytes => alone,
                    metric => !metric.is_cost() || workload.target(*metric).is_some(),
                };
                if told {
                    lines.push(self.line(*workload, *metric, peers));
                }
            }
        }
        lines
    }

    fn line(
        &self,
        workload: Workload,
        metric: Metric,
        peers: &BTreeMap<&'static str, Vec<f64>>,
    ) -> Vec<String> {
        let figures = |peer: Peer| match peers.get(peer.name()) {
            Some(values) => {
                let (median, spread) = (median(values), spread(values));
                let share = if median == 0.0 { 0.0 } else { spread / median * 100.0 };
                [metric.show(median), format!("{share:.0} %")]
            }
            None => [String::new(), String::new()],
        };
        let [native, native_spread] = figures(Peer::Native);
        let [rowcast, rowcast_spread] = figures(Peer::Rowcast);
        let ratio = self.ratio(workload, metric).filter(|ratio| ratio.is_finite());
        let target = workload.target(metric);
        let ours = self.median(workload, metric, Peer::Rowcast);
        let reached = target.zip(ours).and_then(|(target, ours)| target.reached(ours, ratio));
        vec![
            format!("`{}`", workload.name()),
            metric.name().to_owned(),
            peers.values().map(Vec::len).max().unwrap_or(0).to_string(),
            native,
            native_spread,
            rowcast,
            rowcast_spread,
            ratio.map_or_else(String::new, |ratio| format!("× {ratio:.2}")),
            target.map_or_else(String::new, |target| target.show(metric)),
            reached.map_or("", |reached| ["no", "the first", "yes"][reached]).to_owned(),
        ]
    }

    fn costs(&self) -> Vec<Vec<String>> {
        use Metric::{
            AllMicros, CpuMicros, LogMicros, MebiBytes, OwnBytes, ServersMicros, SourceBytes,
            SourceMebiBytes, SourceMicros, TargetBytes, TargetMebiBytes, TargetMicros,
        };
        let columns = [
            (AllMicros, "µs: all"),
            (CpuMicros, "Rowcast"),
            (LogMicros, "of it the log"),
            (SourceMicros, "source"),
            (TargetMicros, "target"),
            (ServersMicros, "background"),
            (MebiBytes, "MiB: Rowcast"),
            (SourceMebiBytes, "source"),
            (TargetMebiBytes, "target"),
            (OwnBytes, "B written: Rowcast"),
            (SourceBytes, "source"),
            (TargetBytes, "target"),
        ];
        let heads = ["workload", "by"].into_iter().chain(columns.map(|(_, head)| head));
        let mut lines = vec![heads.map(str::to_owned).collect::<Vec<_>>()];
        for workload in self.workloads() {
            for peer in [Peer::Native, Peer::Rowcast] {
                if self.median(workload, AllMicros, peer).is_none() {
                    continue;
                }
                let cell = |(metric, _): (Metric, _)| {
                    let median = self.median(workload, metric, peer);
                    median.map_or_else(String::new, |median| metric.show(median))
                };
                let by = peer.shown().to_owned();
                let names = [format!("`{}`", workload.name()), by].into_iter();
                lines.push(names.chain(columns.map(cell)).collect());
            }
        }
        lines
    }

    /// Rowcast's own time for an event, stage by stage, each measured alone.
    fn stages(&self) -> Vec<Vec<String>> {
        use Workload as W;
        let heads = [
            "events",
            "capture",
            "log",
            "read, route, project",
            "encode, apply",
            "sum",
            "in one run",
        ];
        let mut lines = vec![heads.map(str::to_owned).to_vec()];
        for [whole, capture, route, apply] in [
            [W::Ins1, W::CaptureIns1, W::RouteIns1, W::ApplyIns1],
            [W::Ins1000, W::CaptureIns1000, W::RouteIns1000, W::ApplyIns1000],
            [W::Upd1, W::CaptureUpd1, W::ProjectUpd1, W::ApplyUpd1],
        ] {
            let own = |workload| self.median(workload, Metric::CpuMicros, Peer::Rowcast);
            let log = self.median(capture, Metric::LogMicros, Peer::Rowcast);
            let all = (own(whole), own(capture), log, own(route), own(apply));
            if let (Some(whole_run), Some(capture), Some(log), Some(route), Some(apply)) = all {
                let stages = [capture - log, log, route, apply - route, capture + apply, whole_run];
                let cells = stages.map(|micros| Metric::CpuMicros.show(micros));
                lines.push([format!("`{}`", whole.name())].into_iter().chain(cells).collect());
            }
        }
        lines
    }

    /// The workload in which Rowcast took most memory.
    fn most_memory(&self) -> Option<(f64, Workload)> {
        let most = |workload| {
            let values = self.values(workload, Metric::MebiBytes, Peer::Rowcast)?;
            Some((values.iter().copied().fold(0.0, f64::max), workload))
        };
        self.workloads().filter_map(most).max_by(|(a, _), (b, _)| a.total_cmp(b))
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for origin in self.origins() {
            writeln!(f, "- {origin}")?;
        }
        writeln!(f, "\nMedians of n runs; ± is half the distance between the extremes.\n")?;
        table(f, &self.figures())?;
        let costs = self.costs();
        if costs.len() > 1 {
            writeln!(
                f,
                "\nWhat an event costs: time on a core, the most memory, bytes written.\n"
            )?;
            table(f, &costs)?;
        }
        if let Some((most, workload)) = self.most_memory() {
            let (most, name) = (Metric::MebiBytes.show(most), workload.name());
            writeln!(f, "\nThe most memory that Rowcast ever took: {most} MiB, in `{name}`.")?;
        }
        let stages = self.stages();
        if stages.len() > 1 {
            writeln!(f, "\nRowcast's own time, µs/event, by stages that were measured alone.\n")?;
            table(f, &stages)?;
        }
        Ok(())
    }
}

/// A table as Markdown has it; the first line is its head.
fn table(f: &mut fmt::Formatter<'_>, lines: &[Vec<String>]) -> fmt::Result {
    let columns = lines.first().map_or(0, Vec::len);
    let width =
        |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(|column| width(column).max(3)).collect();
    for (index, line) in lines.iter().enumerate() {
        let cells = line.iter().zip(&widths).map(|(cell, width)| format!(" {cell:width$} "));
        writeln!(f, "|{}|", cells.collect::<Vec<_>>().join("|"))?;
        if index == 0 {
            let rule = widths.iter().map(|width| format!(" {:-<width$} ", ""));
            writeln!(f, "|{}|", rule.collect::<Vec<_>>().join("|"))?;
        }
    }
    Ok(())
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Two runs of one workload, ours a fifth faster.
    pub(in super::super) fn some() -> Report {
        let mut report = Report::new(json!({ "at": "2026-01-01T00:00:00Z", "commit": "abc" }));
        for value in [100.0, 120.0] {
            for (peer, value) in [(Peer::Native, value), (Peer::Rowcast, value * 1.2)] {
                for metric in [Metric::EventsPerSecond, Metric::AllMicros, Metric::TargetMicros] {
                    report.add(Workload::Ins1, &Sample::new(peer, metric, value));
                }
            }
        }
        report
    }

    #[test]
    fn medians_ratios_and_targets_come_out() {
        let shown = some().to_string();
        assert!(shown.contains("× 1.20") && shown.contains("the first"), "{shown}");
    }

    #[test]
    fn what_was_written_is_read_again() {
        let report = some();
        let again = Report::from_json(&report.json());
        assert_eq!(again.json(), report.json());
    }

    #[test]
    fn newer_figures_take_the_place_of_older_ones_of_the_same_workload_only() {
        let mut report = some();
        report.add(Workload::Mix, &Sample::new(Peer::Native, Metric::EventsPerSecond, 7.0));
        let mut newer = Report::new(json!({ "at": "2026-01-02T00:00:00Z", "commit": "def" }));
        newer.add(Workload::Mix, &Sample::new(Peer::Native, Metric::EventsPerSecond, 9.0));
        report.replace(newer);
        let of = |workload| report.values(workload, Metric::EventsPerSecond, Peer::Native);
        assert_eq!(of(Workload::Mix), Some([9.0].as_slice()));
        assert_eq!(of(Workload::Ins1), Some([100.0, 120.0].as_slice()));
        let shown = report.to_string();
        assert!(
            shown.contains("commit abc: `ins1`") && shown.contains("commit def: `mix`"),
            "{shown}"
        );
    }
}
