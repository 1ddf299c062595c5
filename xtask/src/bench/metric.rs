//! What is counted, and how it is shown.

use super::Peer;
use std::fmt;

/// What a figure counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub(super) enum Metric {
    EventsPerSecond,
    RowsPerSecond,
    P50,
    P99,
    P999,
    BeforeP50,
    BeforeP99,
    StrangerP50,
    StrangerP99,
    DuringP50,
    DuringP99,
    AfterP50,
    AfterP99,
    JoinSeconds,
    MoreConnections,
    MoreSlots,
    SessionsBefore,
    SessionsDuring,
    NewStatements,
    StatementsBefore,
    StatementsDuring,
    CpuMicros,
    LogMicros,
    SourceMicros,
    TargetMicros,
    ServersMicros,
    AllMicros,
    MebiBytes,
    SourceMebiBytes,
    TargetMebiBytes,
    OwnBytes,
    SourceBytes,
    TargetBytes,
    CpuPercent,
    /// Events a second as a share of what they were with nothing to park.
    OfClean,
    /// Events a second with two lanes as a share of what they were with one.
    TwoLanes,
    FourLanes,
    /// What an event costs all processes with so many lanes.
    OneLaneMicros,
    TwoLanesMicros,
    FourLanesMicros,
}

impl Metric {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::EventsPerSecond => "events/s",
            Self::RowsPerSecond => "rows/s",
            Self::P50 => "p50 ms",
            Self::P99 => "p99 ms",
            Self::P999 => "p99.9 ms",
            Self::BeforeP50 => "the others before, p50 ms",
            Self::BeforeP99 => "the others before, p99 ms",
            Self::StrangerP50 => "the others beside a stranger, p50 ms",
            Self::StrangerP99 => "the others beside a stranger, p99 ms",
            Self::DuringP50 => "the others meanwhile, p50 ms",
            Self::DuringP99 => "the others meanwhile, p99 ms",
            Self::AfterP50 => "the others after, p50 ms",
            Self::AfterP99 => "the others after, p99 ms",
            Self::JoinSeconds => "subscribed to live, s",
            Self::MoreConnections => "more connections at the publisher",
            Self::MoreSlots => "more slots at the publisher",
            Self::SessionsBefore => "connections made at the publisher before",
            Self::SessionsDuring => "connections made at the publisher meanwhile",
            Self::NewStatements => "new statements at the publisher",
            Self::StatementsBefore => "statements/s at the publisher before",
            Self::StatementsDuring => "statements/s at the publisher meanwhile",
            Self::CpuMicros => "own CPU µs/event",
            Self::LogMicros => "CPU of the log's writer µs/event",
            Self::SourceMicros => "CPU at the source µs/event",
            Self::TargetMicros => "CPU at the target µs/event",
            Self::ServersMicros => "CPU of the servers' background µs/event",
            Self::AllMicros => "CPU of all processes µs/event",
            Self::MebiBytes => "memory MiB",
            Self::SourceMebiBytes => "memory at the source MiB",
            Self::TargetMebiBytes => "memory at the target MiB",
            Self::OwnBytes => "written by Rowcast B/event",
            Self::SourceBytes => "written by the source B/event",
            Self::TargetBytes => "written by the target B/event",
            Self::CpuPercent => "own CPU %",
            Self::OfClean => "of the rate without",
            Self::TwoLanes => "2 lanes, of the rate with 1",
            Self::FourLanes => "4 lanes, of the rate with 1",
            Self::OneLaneMicros => "1 lane, CPU of all processes µs/event",
            Self::TwoLanesMicros => "2 lanes, CPU of all processes µs/event",
            Self::FourLanesMicros => "4 lanes, CPU of all processes µs/event",
        }
    }

    /// Whether it is a part of what an event costs, which has a table of its own.
    pub(super) fn is_cost(self) -> bool {
        self >= Self::CpuMicros && self < Self::CpuPercent
    }

    /// Whether it counts what nobody should need more of.
    pub(super) fn counts_more(self) -> bool {
        [Self::MoreConnections, Self::MoreSlots, Self::SessionsDuring, Self::NewStatements]
            .contains(&self)
    }

    pub(super) fn show(self, value: f64) -> String {
        match self {
            Self::EventsPerSecond | Self::RowsPerSecond => thousands(value),
            Self::MebiBytes | Self::SourceMebiBytes | Self::TargetMebiBytes => {
                format!("{value:.0}")
            }
            Self::OwnBytes | Self::SourceBytes | Self::TargetBytes => thousands(value),
            Self::SessionsBefore => format!("{value:.0}"),
            metric if metric.counts_more() => format!("{value:.0}"),
            _ => format!("{value:.2}"),
        }
    }
}

/// One figure of one peer.
pub(super) struct Sample {
    pub(super) peer: Peer,
    pub(super) metric: Metric,
    pub(super) value: f64,
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
    pub(super) fn reached(self, ours: f64, ratio: Option<f64>) -> Option<usize> {
        let (holds_first, holds_then) = match self {
            Self::Ratio(first, then) => (ratio? >= first, ratio? >= then),
            Self::AtLeast(first, then) => (ours >= first, ours >= then),
            Self::AtMost(first, then) => (ours <= first, ours <= then),
        };
        Some(usize::from(holds_first) + usize::from(holds_first && holds_then))
    }

    pub(super) fn show(self, metric: Metric) -> String {
        let both = |sign: &str, first: f64, then: f64| match first.total_cmp(&then) {
            std::cmp::Ordering::Equal => format!("{sign} {}", metric.show(first)),
            _ => format!("{sign} {}, then {}", metric.show(first), metric.show(then)),
        };
        match self {
            Self::Ratio(first, then) => format!("× {first}, then × {then}"),
            Self::AtLeast(first, then) => both("≥", first, then),
            Self::AtMost(first, then) => both("≤", first, then),
        }
    }
}

pub(super) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => f64::NAN,
        odd if odd % 2 == 1 => sorted[middle],
        _ => f64::midpoint(sorted[middle - 1], sorted[middle]),
    }
}

/// Half the distance between the extremes.
pub(super) fn spread(values: &[f64]) -> f64 {
    let most = values.iter().copied().fold(f64::MIN, f64::max);
    let least = values.iter().copied().fold(f64::MAX, f64::min);
    (most - least) / 2.0
}

pub(super) fn thousands(value: f64) -> String {
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
    fn medians_spreads_and_thousands_come_out() {
        assert!((median(&[3.0, 1.0, 2.0]) - 2.0).abs() < 1e-9);
        assert!((median(&[4.0, 1.0, 2.0, 3.0]) - 2.5).abs() < 1e-9);
        assert!((spread(&[4.0, 1.0, 2.0]) - 1.5).abs() < 1e-9);
        assert_eq!(thousands(1_234_567.0), "1,234,567");
    }

    #[test]
    fn a_target_is_missed_reached_first_or_reached() {
        assert_eq!(Target::AtMost(2.0, 0.8).reached(3.0, None), Some(0));
        assert_eq!(Target::AtMost(2.0, 0.8).reached(1.0, None), Some(1));
        assert_eq!(Target::AtLeast(10.0, 20.0).reached(20.0, None), Some(2));
        assert_eq!(Target::Ratio(1.0, 2.0).reached(20.0, None), None);
    }
}
