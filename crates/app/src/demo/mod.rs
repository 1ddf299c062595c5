//! `rowcast demo`: the real thing between two SQLite files, told in plain words.

mod services;
mod story;

use crate::cli;
use crate::config::{self, Plan};
use crate::output::Output;
use crate::report::{Exit, Failure};
use crate::run::{self, DataLock, Map, Signals};
use crate::time::rough;
use rowcast_engine::Board;
use services::{CUSTOMERS_FIRST, Customers, Orders};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use story::{Latencies, Story};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

const CONFIG: &str = include_str!("rowcast.toml");

pub(crate) async fn demo(args: cli::Demo, output: Output) -> Result<Exit, Failure> {
    let began = Instant::now();
    let mut signals = Signals::new()?;
    let place = Place::new(args.keep.as_deref())?;
    let customers = Customers::open(place.path()).map_err(|e| broken(&e))?;
    let orders = Orders::open(place.path()).map_err(|e| broken(&e))?;
    let plan = config::load(&place.path().join("rowcast.toml"))?.plan;
    let _lock = DataLock::take(&plan.data).map_err(Failure::from)?;
    let log = run::open_log(&plan)?;
    let map = Map::open(&plan, &[], log.clone()).await?;
    let node = run::node(&map, log.clone()).await?;
    let board = node.board();
    let (stop, halt) = (CancellationToken::new(), CancellationToken::new());
    introduce(&plan, output)?;
    let telling = async {
        let story = Story::new(customers, orders, output, began, stop.clone());
        let told = tell(&board, story, Duration::from_secs(args.seconds), output, &stop).await;
        halt.cancel();
        told
    };
    let playing = async { tokio::join!(node.run(halt.clone()), telling) };
    let (moved, told) = tokio::select! {
        both = playing => both,
        never = signals.obey(&stop) => match never {},
    };
    log.close().await;
    moved.map_err(|e| run::defect(&e))?;
    if let Some(latencies) = told? {
        conclude(&latencies, output)?;
    }
    farewell(&place, output)?;
    Ok(Exit::Good)
}

/// The first copy, then the story; `None` when it was cut short before there was anything to tell.
async fn tell(
    board: &Board,
    story: Story,
    seconds: Duration,
    output: Output,
    stop: &CancellationToken,
) -> Result<Option<Latencies>, Failure> {
    let copying = Instant::now();
    match stop.run_until_cancelled(board.caught_up()).await {
        None => return Ok(None),
        Some(Err(trouble)) => return Err(trouble.into()),
        Some(Ok(())) => {}
    }
    let took = output.paint.green(&rough(copying.elapsed()));
    output.line(format!(
        "  {CUSTOMERS_FIRST} customers were there before Rowcast: copied in {took}. From now on, \
         every change as it happens:\n"
    ))?;
    let played = tokio::task::spawn_blocking(move || story.play(seconds)).await;
    let latencies =
        played.map_err(|e| Failure::new("the demo's story failed", "").because(&e))??;
    Ok(Some(latencies))
}

fn introduce(plan: &Plan, output: Output) -> Result<(), Failure> {
    let p = output.paint;
    let address = |name: &str| {
        let service = plan.services.iter().find(|s| s.name.as_str() == name);
        let address = service.map(|s| s.database.address()).unwrap_or_default();
        address.rsplit(['/', ':']).next().unwrap_or_default().to_string()
    };
    output.line(format!(
        "\n{}\n\n  {}  owns its customers        {}\n  {}     needs them for its orders {}\n",
        p.bold("Two services, two databases, one kept in step with the other."),
        p.cyan("customer service"),
        p.dim(&address("customer")),
        p.magenta("order service"),
        p.dim(&address("order")),
    ))?;
    output.line(format!("  {}", p.dim("What is shared is written down in rowcast.toml:")))?;
    let shown = CONFIG.lines().filter(|l| {
        let l = l.trim();
        !l.is_empty() && !l.starts_with('#') && !l.starts_with("data")
    });
    for line in shown {
        output.line(format!("    {}", p.dim(line)))?;
    }
    output.line("")
}

fn conclude(latencies: &Latencies, output: Output) -> Result<(), Failure> {
    let p = output.paint;
    let Some((p50, p99, most)) = latencies.summary() else {
        return output.line("\n  Cut short before the first change.");
    };
    output.line(format!(
        "\n{}\n\n  {} changes, {} of them told above. From commit at the customer service to visible \
         at the order service:\n  half of them within {}, 99 in 100 within {}, the slowest {}.",
        p.bold("What happened"),
        latencies.all(),
        latencies.told(),
        p.green(&rough(p50)),
        p.green(&rough(p99)),
        rough(most),
    ))?;
    match latencies.identical {
        Some(rows) => output.line(format!(
            "  Compared row by row: all {rows} customers are {} on both sides. No email address ever \
             left.",
            p.green("the same")
        )),
        None => Err(Failure::new(
            "the copy differs from what the customer service publishes",
            "please report this with everything above",
        )),
    }
}

fn farewell(place: &Place, output: Output) -> Result<(), Failure> {
    let p = output.paint;
    if let Place::Kept(dir) = place {
        let file = dir.join("rowcast.toml");
        output.line(format!(
            "\n  Everything is kept in {}. Look at it with\n    {}\n    {}",
            dir.display(),
            p.bold(&format!("rowcast tail customer --from beginning --config {}", file.display())),
            p.bold(&format!("rowcast run --config {}", file.display())),
        ))?;
    }
    output.line(format!("\n{}\n", p.bold("With your own databases")))?;
    for (command, what) in [
        ("rowcast init --from URL --to URL", "writes a commented rowcast.toml from your tables"),
        ("rowcast check", "says what is missing, with its remedy"),
        ("rowcast run", "copies what is there, then follows every change"),
    ] {
        output.line(format!("  {}  {what}", p.bold(&format!("{command:<32}"))))?;
    }
    output.line(format!(
        "\n  {}\n",
        p.dim("URL is postgres://user@host/database or sqlite:file.db, in any combination.")
    ))
}

/// Where the demo plays.
enum Place {
    Temporary(TempDir),
    Kept(PathBuf),
}

impl Place {
    fn new(keep: Option<&Path>) -> Result<Self, Failure> {
        let failed = |e: &io::Error| {
            Failure::new("the demo's files cannot be written", "is the disk full?").because(e)
        };
        let place = match keep {
            None => Self::Temporary(
                tempfile::Builder::new()
                    .prefix("rowcast-demo-")
                    .tempdir()
                    .map_err(|e| failed(&e))?,
            ),
            Some(dir) => {
                let empty = std::fs::read_dir(dir).map_or(true, |mut d| d.next().is_none());
                if !empty {
                    let message = format!("{} is not empty", dir.display());
                    return Err(Failure::usage(message, "name a new directory for `--keep`"));
                }
                std::fs::create_dir_all(dir).map_err(|e| failed(&e))?;
                Self::Kept(dir.to_path_buf())
            }
        };
        let written = std::fs::write(place.path().join("rowcast.toml"), CONFIG);
        written.map_err(|e| failed(&e))?;
        Ok(place)
    }

    fn path(&self) -> &Path {
        match self {
            Self::Temporary(dir) => dir.path(),
            Self::Kept(dir) => dir,
        }
    }
}

fn broken(error: &rusqlite::Error) -> Failure {
    Failure::new("a database of the demo does not work", "is the disk full?").because(error)
}
