//! `cargo xtask bench`: Rowcast beside PostgreSQL's own logical replication, in the same run, on the
//! same two servers, on the same backlog, taking turns.

mod backlog;
mod contender;
mod lab;
mod lanes;
mod latency;
mod machine;
mod measure;
mod metric;
mod native;
mod newcomer;
mod parked;
mod plot;
mod processes;
mod report;
mod results;
mod rowcast;
mod stages;
mod table;
mod usage;
mod workload;

use crate::run::{cargo, must};
use anyhow::{Context, Result, bail, ensure};
use clap::{Args, ValueEnum};
use lab::Lab;
use report::Report;
use std::path::PathBuf;
use std::time::Instant;
use workload::{Sizes, Workload};

#[derive(Args, Debug)]
pub(crate) struct Options {
    /// Which workloads; all of them if none is named
    workloads: Vec<Workload>,
    /// How often each is measured
    #[arg(long, short = 'n', value_parser = clap::value_parser!(u32).range(1..=99))]
    repetitions: Option<u32>,
    /// Smaller sizes and fewer repetitions: a look, not a measurement
    #[arg(long)]
    quick: bool,
    /// Measure only this one
    #[arg(long, value_name = "PEER")]
    only: Option<Peer>,
    /// A `rowcast` binary to measure, instead of building one
    #[arg(long, value_name = "FILE")]
    binary: Option<PathBuf>,
    /// Also put the figures in place of those that docs/benchmarks.md and its plots show of these
    /// workloads
    #[arg(long, conflicts_with = "quick")]
    save: bool,
    /// Measure nothing; write docs/benchmarks.md and its plots anew from the figures kept there
    #[arg(long, conflicts_with_all = ["save", "quick", "workloads"])]
    redraw: bool,
}

/// Who is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Peer {
    /// PostgreSQL's logical replication
    Native,
    /// This project
    Rowcast,
}

impl Peer {
    fn name(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Rowcast => "rowcast",
        }
    }

    /// For people.
    fn shown(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Rowcast => "Rowcast",
        }
    }
}

pub(crate) fn bench(options: &Options) -> Result<()> {
    if options.redraw {
        return tell(&results::redraw()?);
    }
    let peers: Vec<Peer> = match options.only {
        Some(peer) => vec![peer],
        None => vec![Peer::Native, Peer::Rowcast],
    };
    let binary = match &options.binary {
        Some(binary) => binary.canonicalize().with_context(|| binary.display().to_string())?,
        None if peers.contains(&Peer::Rowcast) => build()?,
        None => PathBuf::new(),
    };
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.worker_threads(1).enable_all().build()?;
    let (report, failed) = runtime.block_on(measure(options, &peers, binary))?;
    println!("\n{report}");
    if options.quick {
        println!("A quick look, no measurement.");
    }
    tell(&[results::keep(&report)?])?;
    if options.save {
        tell(&results::publish(report)?)?;
    }
    ensure!(failed.is_empty(), "failed: {}", failed.join(", "));
    Ok(())
}

/// Measures all that is asked for. Also returns what failed: the others are worth having.
async fn measure(
    options: &Options,
    peers: &[Peer],
    binary: PathBuf,
) -> Result<(Report, Vec<String>)> {
    let sizes = if options.quick { Sizes::QUICK } else { Sizes::FULL };
    let repetitions = options.repetitions.unwrap_or(if options.quick { 2 } else { 5 });
    let workloads = match options.workloads.as_slice() {
        [] => Workload::value_variants(),
        chosen => chosen,
    };
    let lab = Lab::start(binary).await?;
    let mut machine = machine::describe(&lab).await?;
    machine["quick"] = options.quick.into();
    if options.binary.is_some() {
        // Nobody knows what it was built from.
        machine["commit"] = serde_json::Value::Null;
    }
    let mut report = Report::new(machine);
    let mut failed = Vec::new();
    for repetition in 0..repetitions {
        for workload in workloads {
            // Whoever goes second finds warmer caches: they take turns at that, too.
            let mut order = peers.to_vec();
            if repetition % 2 == 1 {
                order.reverse();
            }
            eprintln!("{} of {repetitions}: {}", repetition + 1, workload.name());
            let began = Instant::now();
            match workload.run(&lab, &sizes, &order, repetition).await {
                Ok(samples) => samples.into_iter().for_each(|sample| {
                    eprintln!("    {sample}");
                    report.add(*workload, &sample);
                }),
                // The next one cleans up.
                Err(error) => {
                    eprintln!("    failed: {error:#}");
                    failed.push(workload.name());
                }
            }
            eprintln!("    ({:.0} s)", began.elapsed().as_secs_f64());
        }
        // What is measured survives a later failure.
        results::keep(&report)?;
    }
    Ok((report, failed))
}

fn tell(written: &[PathBuf]) -> Result<()> {
    let root = crate::root()?;
    for path in written {
        println!("wrote {}", path.strip_prefix(root).unwrap_or(path).display());
    }
    Ok(())
}

fn build() -> Result<PathBuf> {
    must(&mut cargo(&["build", "--release", "--package", "rowcast"])?)?;
    let target = std::env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
    let target = target.unwrap_or(crate::root()?.join("target"));
    let binary = target.join("release/rowcast");
    if !binary.is_file() {
        bail!("cargo built no {}", binary.display());
    }
    Ok(binary)
}
