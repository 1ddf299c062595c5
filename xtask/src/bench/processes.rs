//! What every process that takes part costs: Rowcast's, and those of the two servers.
//!
//! A thread looks at all of them ten times a second, because some end before they can be asked.
//! What one uses within a tenth of a second of its end is lost.

use super::Peer;
use super::lab::Lab;
use super::report::{Metric, Sample};
use super::usage::{Stat, Usage};
use anyhow::{Context, Result};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Whose process it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    /// Rowcast's own.
    Own,
    /// The thread of it that writes the log; within [`Part::Own`].
    Log,
    /// The source's walsenders and other backends that serve a contender.
    Source,
    /// The target's apply workers, and backends that serve a contender.
    Target,
    /// What the source does for everybody: writers, checkpoints.
    SourceServer,
    /// The same of the target.
    TargetServer,
}

/// What a part has used.
#[derive(Debug, Clone, Copy, Default)]
struct Cost {
    cpu: Duration,
    /// The most memory at any look, in MiB.
    peak: f64,
    written: u64,
}

/// Runs from [`Meter::start`] to [`Meter::stop`].
pub(super) struct Meter {
    stop: Sender<()>,
    sampler: JoinHandle<Result<Sampler>>,
    began: Instant,
}

impl Meter {
    /// Begins to count. A process that runs already is counted from now on.
    pub(super) fn start(lab: &Lab) -> Result<Self> {
        let mut sampler = Sampler {
            servers: [
                (postmaster(lab.source.socket_dir())?, [Part::Source, Part::SourceServer]),
                (postmaster(lab.target.socket_dir())?, [Part::Target, Part::TargetServer]),
            ],
            seen: BTreeMap::new(),
            peaks: BTreeMap::new(),
        };
        sampler.look(true)?;
        let (stop, stopped) = channel();
        let work = move || sampler.run(&stopped);
        let sampler = std::thread::Builder::new().name("meter".to_owned()).spawn(work)?;
        Ok(Self { stop, sampler, began: Instant::now() })
    }

    /// How long it has been running.
    pub(super) fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    /// What everything cost since the start, for each of so many events.
    pub(super) fn stop(self, peer: Peer, events: u64) -> Result<Vec<Sample>> {
        // It ends by itself only with an error, which is told below.
        let _ = self.stop.send(());
        let sampler = self.sampler.join().ok().context("the meter panicked")??;
        Ok(samples(&sampler.costs(), peer, events))
    }
}

fn samples(costs: &BTreeMap<Part, Cost>, peer: Peer, events: u64) -> Vec<Sample> {
    let of = |part: Part| costs.get(&part).copied().unwrap_or_default();
    let micros = |parts: &[Part]| {
        let cpu: Duration = parts.iter().map(|part| of(*part).cpu).sum();
        cpu.as_secs_f64() * 1e6 / events as f64
    };
    let bytes = |parts: &[Part]| {
        let written: u64 = parts.iter().map(|part| of(*part).written).sum();
        written as f64 / events as f64
    };
    let servers = [Part::SourceServer, Part::TargetServer];
    let all = [&[Part::Own, Part::Source, Part::Target], servers.as_slice()].concat();
    let mut samples = vec![
        (Metric::SourceMicros, micros(&[Part::Source])),
        (Metric::TargetMicros, micros(&[Part::Target])),
        (Metric::ServersMicros, micros(&servers)),
        (Metric::AllMicros, micros(&all)),
        (Metric::SourceMebiBytes, of(Part::Source).peak),
        (Metric::TargetMebiBytes, of(Part::Target).peak),
        (Metric::SourceBytes, bytes(&[Part::Source, Part::SourceServer])),
        (Metric::TargetBytes, bytes(&[Part::Target, Part::TargetServer])),
    ];
    if peer == Peer::Rowcast {
        samples.extend([
            (Metric::CpuMicros, micros(&[Part::Own])),
            (Metric::LogMicros, micros(&[Part::Log])),
            (Metric::MebiBytes, of(Part::Own).peak),
            (Metric::OwnBytes, bytes(&[Part::Own])),
        ]);
    }
    samples.into_iter().map(|(metric, value)| Sample::new(peer, metric, value)).collect()
}

struct Sampler {
    /// Each server's first process, and what those are that serve somebody and those that do not.
    servers: [(u32, [Part; 2]); 2],
    seen: BTreeMap<(u32, Part), Seen>,
    peaks: BTreeMap<Part, f64>,
}

/// A process, or a thread, when it was seen first and last.
struct Seen {
    cpu: [Duration; 2],
    written: [u64; 2],
}

impl Sampler {
    fn run(mut self, stopped: &Receiver<()>) -> Result<Self> {
        while stopped.recv_timeout(LOOK_EVERY) == Err(RecvTimeoutError::Timeout) {
            self.look(false)?;
        }
        self.look(false)?;
        Ok(self)
    }

    /// Looks at every process. What is new after the first look has used nothing before.
    fn look(&mut self, first: bool) -> Result<()> {
        let mut now: BTreeMap<Part, f64> = BTreeMap::new();
        for entry in std::fs::read_dir("/proc").context("reading /proc")? {
            let name = entry?.file_name();
            let Some(id) = name.to_str().and_then(|name| name.parse::<u32>().ok()) else {
                continue;
            };
            // One that has just ended was counted at the look before.
            let Some(part) = self.part(id) else { continue };
            let Ok(usage) = Usage::of(id) else { continue };
            let memory = if part == Part::Own { usage.peak } else { usage.private };
            *now.entry(part).or_default() += memory;
            self.note(id, part, usage.cpu, usage.written.unwrap_or_default(), first);
            if part == Part::Own {
                self.note(id, Part::Log, log_thread(id), 0, first);
            }
        }
        for (part, memory) in now {
            let peak = self.peaks.entry(part).or_default();
            *peak = peak.max(memory);
        }
        Ok(())
    }

    fn note(&mut self, id: u32, part: Part, cpu: Duration, written: u64, first: bool) {
        let new = || match first {
            true => Seen { cpu: [cpu; 2], written: [written; 2] },
            false => Seen { cpu: [Duration::ZERO; 2], written: [0; 2] },
        };
        let seen = self.seen.entry((id, part)).or_insert_with(new);
        (seen.cpu[1], seen.written[1]) = (cpu, written);
    }

    fn part(&self, id: u32) -> Option<Part> {
        let stat = Stat::of(&std::fs::read_to_string(format!("/proc/{id}/stat")).ok()?).ok()?;
        if stat.parent == std::process::id() {
            // The shells beside it only watch.
            return (stat.name != "sh").then_some(Part::Own);
        }
        let server = self.servers.iter().find(|(server, _)| *server == stat.parent);
        let (_, [serving, everybody]) = server?;
        let title = std::fs::read(format!("/proc/{id}/cmdline")).ok()?;
        match kind(&String::from_utf8_lossy(&title)) {
            Kind::Serves => Some(*serving),
            Kind::Everybody => Some(*everybody),
            Kind::Ours => None,
        }
    }

    fn costs(&self) -> BTreeMap<Part, Cost> {
        let mut costs: BTreeMap<Part, Cost> = BTreeMap::new();
        for ((_, part), Seen { cpu, written }) in &self.seen {
            let cost = costs.entry(*part).or_default();
            cost.cpu += cpu[1].saturating_sub(cpu[0]);
            cost.written += written[1].saturating_sub(written[0]);
        }
        for (part, peak) in &self.peaks {
            costs.entry(*part).or_default().peak = *peak;
        }
        costs
    }
}

/// What a server's process is there for.
#[derive(Debug, PartialEq, Eq)]
enum Kind {
    /// A contender, whose connections come over TCP.
    Serves,
    Everybody,
    /// The benchmark itself, whose connections come over the socket; or one that just begins or ends.
    Ours,
}

fn kind(title: &str) -> Kind {
    let title = title.trim_end_matches(['\0', ' ']);
    let everybody =
        ["launcher", "writer", "checkpointer", "stats", "startup", "io worker", "archiver"];
    if title.contains("127.0.0.1") || title.contains("replication worker") {
        return Kind::Serves;
    }
    if title.contains("replication apply") || title.contains("replication tablesync") {
        return Kind::Serves;
    }
    match everybody.iter().any(|name| title.contains(name)) {
        true => Kind::Everybody,
        false => Kind::Ours,
    }
}

/// Time of the thread that writes the log.
fn log_thread(process: u32) -> Duration {
    let tasks = std::fs::read_dir(format!("/proc/{process}/task"));
    let stats = tasks.into_iter().flatten().filter_map(|task| {
        let line = std::fs::read_to_string(task.ok()?.path().join("stat")).ok()?;
        Stat::of(&line).ok()
    });
    stats.filter(|stat| stat.name.starts_with("log ")).map(|stat| stat.cpu).sum()
}

/// The first process of the server whose directory this is.
fn postmaster(dir: &Path) -> Result<u32> {
    let path = dir.join("data/postmaster.pid");
    let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let id = text.lines().next().and_then(|line| line.trim().parse().ok());
    id.with_context(|| format!("{} begins with no process id", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_names_its_processes() {
        let serves = [
            "postgres: walsender postgres bench_source 127.0.0.1(43210) START_REPLICATION",
            "postgres: postgres bench_rowcast_0 127.0.0.1(4040) COPY",
            "postgres: logical replication worker for subscription 16395 ",
            "postgres: logical replication worker for subscription 16395 sync 16388 ",
            "postgres: logical replication apply worker for subscription 16395 ",
            "postgres: logical replication tablesync worker for subscription 16395 sync 16388",
        ];
        assert!(serves.iter().all(|title| kind(title) == Kind::Serves));
        let everybody = [
            "postgres: walwriter ",
            "postgres: background writer ",
            "postgres: logical replication launcher ",
        ];
        assert!(everybody.iter().all(|title| kind(title) == Kind::Everybody));
        for ours in ["postgres: postgres bench_native_0 [local] SELECT", "", "postgres -D data"] {
            assert_eq!(kind(ours), Kind::Ours, "{ours}");
        }
    }

    #[test]
    fn what_was_used_before_the_first_look_does_not_count() {
        let servers =
            [(0, [Part::Source, Part::SourceServer]), (0, [Part::Target, Part::TargetServer])];
        let mut sampler = Sampler { servers, seen: BTreeMap::new(), peaks: BTreeMap::new() };
        let ms = Duration::from_millis;
        sampler.note(1, Part::Source, ms(500), 4096, true);
        sampler.note(1, Part::Source, ms(700), 8192, false);
        sampler.note(2, Part::Source, ms(100), 1024, false);
        let cost = sampler.costs()[&Part::Source];
        assert_eq!((cost.cpu, cost.written), (ms(300), 5120));
    }
}
