//! Plots, drawn by hand as SVG: small, without anything but text, and readable on light and dark.

use super::Peer;
use super::report::{Metric, Report};
use super::workload::Workload;
use std::fmt::Write;

const WIDTH: f64 = 820.0;
/// Where bars begin and end.
const LEFT: f64 = 210.0;
const RIGHT: f64 = 570.0;
const LINE: f64 = 22.0;
const STYLE: &str = "text{font:13px system-ui,sans-serif;fill:#1f2328}.n{font-size:12px;fill:#59636e}\
    .t{font-size:15px;font-weight:600}.native{fill:#8c959f}.rowcast{fill:#0969da}.slower{fill:#bf8700}\
    .own{fill:#0969da}.source{fill:#1a7f37}.target{fill:#8250df}.back{fill:#8c959f}\
    .axis{stroke:#59636e;stroke-width:1}.reach{stroke:#1f2328;stroke-width:1.5}\
    @media(prefers-color-scheme:dark){text{fill:#e6edf3}.n{fill:#9198a1}.axis{stroke:#9198a1}\
    .reach{stroke:#e6edf3}.native,.back{fill:#6e7681}.rowcast,.own{fill:#4493f8}\
    .slower{fill:#d29922}.source{fill:#3fb950}.target{fill:#ab7df8}}";

/// All plots that the figures give, each with its file's name.
pub(super) fn plots(report: &Report) -> Vec<(&'static str, String)> {
    let all = [
        ("throughput.svg", throughput(report)),
        ("latency.svg", latency(report)),
        ("newcomer.svg", newcomer(report)),
        ("cost.svg", cost(report)),
    ];
    all.into_iter().filter_map(|(name, plot)| Some((name, plot?))).collect()
}

/// A drawing that grows downwards.
struct Drawing {
    body: String,
    y: f64,
}

impl Drawing {
    fn new(title: &str, note: &str) -> Self {
        let mut drawing = Self { body: String::new(), y: 24.0 };
        drawing.text(10.0, "t", title);
        drawing.y += 18.0;
        drawing.text(10.0, "n", note);
        drawing.y += 14.0;
        drawing
    }

    fn text(&mut self, x: f64, class: &str, text: &str) {
        let text = text.replace('&', "&amp;").replace('<', "&lt;");
        let y = self.y;
        let _ =
            writeln!(self.body, "<text x=\"{x:.1}\" y=\"{y:.1}\" class=\"{class}\">{text}</text>");
    }

    fn bar(&mut self, from: f64, to: f64, class: &str) {
        let (x, width, y) = (from.min(to), (to - from).abs().max(1.0), self.y - 12.0);
        let _ = writeln!(
            self.body,
            "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"15\" class=\"{class}\"/>"
        );
    }

    fn line(&mut self, from: (f64, f64), to: (f64, f64), class: &str) {
        let ((x, y), (x2, y2)) = (from, to);
        let _ = writeln!(
            self.body,
            "<line x1=\"{x:.1}\" y1=\"{y:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\" class=\"{class}\"/>"
        );
    }

    fn finish(self) -> String {
        let height = self.y + 10.0;
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height:.0}\" \
             width=\"{WIDTH}\" height=\"{height:.0}\" role=\"img\">\n<style>{STYLE}</style>\n{}</svg>\n",
            self.body
        )
    }
}

/// Rowcast's throughput over native's, on a scale that doubles.
fn throughput(report: &Report) -> Option<String> {
    let rate = |workload| {
        let of = |metric| report.ratio(workload, metric).map(|ratio| (workload, metric, ratio));
        of(Metric::EventsPerSecond).or_else(|| of(Metric::RowsPerSecond))
    };
    let rows: Vec<_> = report.workloads().filter_map(rate).collect();
    let most = rows.iter().map(|(_, _, ratio)| *ratio).max_by(f64::total_cmp)?;
    let least = rows.iter().map(|(_, _, ratio)| *ratio).min_by(f64::total_cmp)?;
    let (first, last) = (least.log2().floor().min(-1.0), most.log2().ceil().max(1.0));
    let x = |ratio: f64| LEFT + (ratio.log2() - first) / (last - first) * (RIGHT - LEFT);
    let mut drawing = Drawing::new(
        "Throughput: Rowcast over PostgreSQL's own replication",
        "Medians; the scale doubles; thin lines are Rowcast's slowest and fastest run.",
    );
    let top = drawing.y;
    for (workload, metric, ratio) in rows {
        drawing.y += LINE;
        drawing.text(10.0, "", &workload.name());
        drawing.bar(x(1.0), x(ratio), if ratio < 1.0 { "slower" } else { "rowcast" });
        let native = report.median(workload, metric, Peer::Native)?;
        let ours = report.values(workload, metric, Peer::Rowcast)?;
        let slowest = ours.iter().copied().fold(f64::MAX, f64::min) / native;
        let fastest = ours.iter().copied().fold(f64::MIN, f64::max) / native;
        let clamp = |ratio: f64| x(ratio).clamp(LEFT, RIGHT);
        let y = drawing.y - 4.5;
        drawing.line((clamp(slowest), y), (clamp(fastest), y), "reach");
        let ours = metric.show(report.median(workload, metric, Peer::Rowcast)?);
        let said = format!("× {ratio:.2}: {} → {ours} {}", metric.show(native), metric.name());
        drawing.text(RIGHT + 10.0, "n", &said);
    }
    let bottom = drawing.y + 8.0;
    drawing.line((x(1.0), top), (x(1.0), bottom), "axis");
    drawing.y += LINE;
    for power in first as i32..=last as i32 {
        let ratio = f64::from(power).exp2();
        drawing.text(x(ratio) - 10.0, "n", &format!("× {ratio}"));
    }
    Some(drawing.finish())
}

fn latency(report: &Report) -> Option<String> {
    let mut rows = Vec::new();
    for workload in [Workload::Latency200, Workload::Latency1000] {
        for metric in [Metric::P50, Metric::P99, Metric::P999] {
            rows.extend(both(report, workload, metric, &workload.name()));
        }
    }
    milliseconds(
        "From commit to visible copy",
        "Milliseconds, medians of the runs' percentiles; grey is PostgreSQL's own replication.",
        &rows,
    )
}

fn newcomer(report: &Report) -> Option<String> {
    use Metric::{
        AfterP50, AfterP99, BeforeP50, BeforeP99, DuringP50, DuringP99, StrangerP50, StrangerP99,
    };
    let mut rows = Vec::new();
    let medians = [BeforeP50, StrangerP50, DuringP50, AfterP50];
    let tails = [BeforeP99, StrangerP99, DuringP99, AfterP99];
    for metric in [medians, tails].concat() {
        rows.extend(both(report, Workload::Newcomer, metric, ""));
    }
    milliseconds(
        "Three live subscribers while a fourth is built",
        "Milliseconds from a commit to its copy at each of the three; grey is PostgreSQL's own.",
        &rows,
    )
}

/// A bar for each peer: its label, whose it is, how long.
fn both(
    report: &Report,
    workload: Workload,
    metric: Metric,
    name: &str,
) -> Vec<(String, Peer, f64)> {
    let label = format!("{name} {}", metric.name().trim_end_matches(" ms"));
    let bar = |peer| {
        let value = report.median(workload, metric, peer)?;
        Some((label.trim().to_owned(), peer, value))
    };
    [Peer::Native, Peer::Rowcast].into_iter().filter_map(bar).collect()
}

fn milliseconds(title: &str, note: &str, rows: &[(String, Peer, f64)]) -> Option<String> {
    let most = rows.iter().map(|(_, _, value)| *value).max_by(f64::total_cmp)?;
    let mut drawing = Drawing::new(title, note);
    let mut said = "";
    for (label, peer, value) in rows {
        drawing.y += LINE - 4.0;
        if said != label {
            drawing.y += 6.0;
            drawing.text(10.0, "", label);
            said = label;
        }
        let end = LEFT + value / most * (RIGHT - LEFT);
        drawing.bar(LEFT, end, peer.name());
        drawing.text(end + 8.0, "n", &format!("{value:.2}"));
    }
    Some(drawing.finish())
}

/// Time on a core for an event, by whose it is.
fn cost(report: &Report) -> Option<String> {
    const PARTS: [(Metric, &str, &str); 4] = [
        (Metric::CpuMicros, "own", "Rowcast"),
        (Metric::SourceMicros, "source", "source: walsenders"),
        (Metric::TargetMicros, "target", "target: workers or backends"),
        (Metric::ServersMicros, "back", "both servers' background"),
    ];
    let busy: Vec<Workload> = report
        .workloads()
        .filter(|workload| ![Workload::Latency200, Workload::Latency1000].contains(workload))
        .filter(|workload| report.median(*workload, Metric::AllMicros, Peer::Rowcast).is_some())
        .collect();
    let sum = |workload: Workload, peer| {
        let part = |(metric, ..): &(Metric, _, _)| report.median(workload, *metric, peer);
        PARTS.iter().filter_map(part).sum::<f64>()
    };
    let sums = busy.iter().flat_map(|w| [sum(*w, Peer::Native), sum(*w, Peer::Rowcast)]);
    let most = sums.max_by(f64::total_cmp)?;
    let mut drawing = Drawing::new(
        "Time on a core for one event, of every process",
        "Microseconds, medians of each part; the upper bar is PostgreSQL's own replication.",
    );
    drawing.y += LINE;
    let mut x = 10.0;
    for (_, class, name) in PARTS {
        drawing.bar(x, x + 14.0, class);
        drawing.text(x + 20.0, "n", name);
        x += 60.0 + 7.0 * name.len() as f64;
    }
    drawing.y += 6.0;
    for workload in busy {
        drawing.y += 6.0;
        let mut label = workload.name();
        for peer in [Peer::Native, Peer::Rowcast] {
            if report.median(workload, Metric::AllMicros, peer).is_none() {
                continue;
            }
            drawing.y += LINE - 4.0;
            drawing.text(10.0, "", &label);
            label.clear();
            let mut end = LEFT;
            for (metric, class, _) in PARTS {
                let micros = report.median(workload, metric, peer).unwrap_or_default();
                let next = end + micros / most * (RIGHT - LEFT);
                if micros > 0.0 {
                    drawing.bar(end, next, class);
                }
                end = next;
            }
            let said = format!("{} {:.2}", peer.shown(), sum(workload, peer));
            drawing.text(end + 8.0, "n", &said);
        }
    }
    Some(drawing.finish())
}

#[cfg(test)]
mod tests {
    use super::super::report::tests::some;
    use super::*;

    #[test]
    fn each_plot_is_one_whole_drawing_with_a_bar_for_each_figure() {
        let plots = plots(&some());
        let names: Vec<_> = plots.iter().map(|(name, _)| *name).collect();
        assert_eq!(names, ["throughput.svg", "cost.svg"]);
        for (_, plot) in &plots {
            assert!(plot.starts_with("<svg ") && plot.ends_with("</svg>\n"), "{plot}");
            assert!(!plot.contains("NaN") && !plot.contains("inf"), "{plot}");
        }
        let (throughput, cost) = (&plots[0].1, &plots[1].1);
        assert!(throughput.contains("× 1.20: 110 → 132 events/s"), "{throughput}");
        assert_eq!(cost.matches("class=\"target\"").count(), 3, "its key, and a bar each");
    }
}
