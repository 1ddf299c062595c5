//! `cargo xtask torture`: `rowcast torture` again and again, between servers of its own that crash.

use crate::run::{must, show};
use crate::{fetch, run};
use anyhow::{Context, Result, bail};
use clap::Args;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use rowcast_testkit::postgres::{Server, ServerOptions};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};
use tokio::process::{Child, Command};

#[derive(Args)]
pub(crate) struct Options {
    /// Minutes of trouble and of judging, all runs together
    #[arg(long, default_value_t = 10)]
    minutes: u64,
    /// Chooses all runs
    #[arg(long)]
    seed: Option<u64>,
    /// PostgreSQL's major versions, in turns; the installed one when absent
    #[arg(long, value_name = "VERSION", value_delimiter = ',')]
    postgres: Vec<u32>,
}

impl Options {
    /// Ten minutes, on every version in turns.
    pub(crate) fn long() -> Self {
        Self { minutes: 10, seed: None, postgres: fetch::versions().collect() }
    }
}

/// Trouble of one run.
const ONE: Duration = Duration::from_secs(60);

pub(crate) fn torture(options: &Options) -> Result<()> {
    crate::tools::ensure(true)?;
    let fetched = options.postgres.iter().map(|major| fetch::postgres(*major));
    let servers = fetched.collect::<Result<Vec<_>>>()?;
    must(&mut run::cargo(&["build", "-p", "rowcast"])?)?;
    let program = crate::root()?.join("target/debug/rowcast");
    let runtime = tokio::runtime::Runtime::new()?;
    let seed = options.seed.unwrap_or_else(rand::random);
    println!("cargo xtask torture --minutes {} --seed {seed}", options.minutes);
    let end = Instant::now() + Duration::from_secs(options.minutes * 60);
    let (mut passed, mut failed) = (0, 0);
    for number in 0_u64.. {
        if Instant::now() >= end && number > 0 {
            break;
        }
        let programs = servers.get(number as usize % servers.len().max(1)).cloned();
        let one = seed.wrapping_add(number);
        match runtime.block_on(one_run(&program, programs, one, number)) {
            Ok(true) => passed += 1,
            Ok(false) => failed += 1,
            Err(error) => {
                failed += 1;
                eprintln!("seed {one}: {error:#}");
            }
        }
    }
    println!("\n{passed} passed, {failed} failed");
    if failed > 0 {
        bail!("torture found a defect");
    }
    Ok(())
}

/// One run; whether its verdict is good.
async fn one_run(
    program: &Path,
    programs: Option<PathBuf>,
    seed: u64,
    number: u64,
) -> Result<bool> {
    let durable = ServerOptions::with(&[("fsync", "on")]);
    let options = || ServerOptions { programs: programs.clone(), ..durable.clone() };
    let (mut from, mut to) =
        (Server::start_options(options()).await, Server::start_options(options()).await);
    let files = tempfile::tempdir()?;
    let file = |name: &str| format!("sqlite:{}", files.path().join(name).display());
    let (from_url, to_url) = match number % 6 {
        3 => (from.url("postgres"), file("to.db")),
        4 => (file("from.db"), to.url("postgres")),
        5 => (file("from.db"), file("to.db")),
        _ => (from.url("postgres"), to.url("postgres")),
    };
    let mut command = Command::new(program);
    command.args(["torture", "--from", &from_url, "--to", &to_url]);
    command.args(["--seed", &seed.to_string(), "--for", &format!("{}s", ONE.as_secs())]);
    command.stdin(Stdio::null()).kill_on_drop(true);
    println!("{}", show(command.as_std()));
    let mut child = command.spawn().context("starting rowcast")?;
    let ended = crashes(&mut child, &mut from, &mut to, seed).await?;
    Ok(ended.success())
}

/// Lets the servers crash now and then while there is trouble, and waits for the verdict.
async fn crashes(
    child: &mut Child,
    from: &mut Server,
    to: &mut Server,
    seed: u64,
) -> Result<std::process::ExitStatus> {
    let (mut random, end) = (StdRng::seed_from_u64(seed), Instant::now() + ONE);
    loop {
        let pause = Duration::from_secs(random.random_range(8..20));
        if Instant::now() + pause > end {
            return Ok(child.wait().await?);
        }
        tokio::select! {
            ended = child.wait() => return Ok(ended?),
            () = tokio::time::sleep(pause) => {}
        }
        let server = if random.random() { &mut *from } else { &mut *to };
        server.kill_9().await;
        tokio::time::sleep(Duration::from_millis(random.random_range(0..2000))).await;
        server.start_again().await;
    }
}
