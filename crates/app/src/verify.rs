//! `rowcast verify`: proves that copies hold what their source holds, while both go on.

mod history;
mod show;

use crate::cli;
use crate::config::{self, Plan, nearest};
use crate::instance::Instance;
use crate::output::Output;
use crate::report::{Exit, Failure};
use crate::run::log_dir;
use crate::time::grouped;
use history::FileHistory;
pub(crate) use history::tail;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use rowcast_core::RouteId;
use rowcast_engine::{Progress, Verified, Verify, VerifyError};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// How often the bar moves.
const FRAME: Duration = Duration::from_millis(100);
/// How often a line is printed where bars cannot be.
const LINE: Duration = Duration::from_secs(5);

pub(crate) async fn verify(
    args: cli::Verify,
    file: &Path,
    output: Output,
    bars: MultiProgress,
) -> Result<Exit, Failure> {
    let plan = config::load(file)?.plan.with_run_time().await.map_err(|e| Failure::of(&e))?;
    let routes = routes(&plan, args.route.as_ref())?;
    let mut outcomes = Vec::new();
    for route in routes {
        let outcome = one(&plan, &route, &args, output, &bars).await;
        let outcome = outcome.map_err(|e| Failure::of(&e));
        if let (Ok(verified), false) = (&outcome, args.json) {
            output.raw(show::text(verified, args.values, output.paint).as_bytes())?;
        }
        if let Err(failure) = &outcome {
            output.failure(failure);
        }
        outcomes.push((route, outcome));
    }
    if args.json {
        output.line(show::json(&outcomes, args.values))?;
    }
    let verified = || outcomes.iter().filter_map(|(_, outcome)| outcome.as_ref().ok());
    let identical = verified().count() == outcomes.len() && verified().all(Verified::is_identical);
    let differs = verified().any(|v| v.left() > 0);
    if differs && !args.repair && verified().count() == outcomes.len() {
        output.aside("`rowcast verify --repair` writes these rows as the source has them");
    }
    if verified().any(|v| v.parked() > 0) {
        output.aside("`rowcast parked list` says which keys are parked, and why");
    }
    Ok(if identical { Exit::Good } else { Exit::No })
}

/// The routes to verify: the file's in its order, then those of run time.
fn routes(plan: &Plan, only: Option<&RouteId>) -> Result<Vec<RouteId>, Failure> {
    let all: Vec<_> = plan.routes.iter().map(|r| r.sink.route.clone()).collect();
    let Some(only) = only else {
        let none = "nobody subscribes to anything, so there is nothing to compare";
        let help = "add a `[service.….subscribe.…]` to the file, or `rowcast subscribe`";
        return if all.is_empty() { Err(Failure::usage(none, help)) } else { Ok(all) };
    };
    if all.contains(only) {
        return Ok(vec![only.clone()]);
    }
    let names: Vec<_> = all.iter().map(RouteId::to_string).collect();
    let near = nearest(&only.to_string(), names.iter().map(String::as_str));
    let help = match near {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("there are {}", names.join(", ")),
    };
    Err(Failure::usage(format!("there is no route `{only}`"), help))
}

async fn one(
    plan: &Plan,
    route: &RouteId,
    args: &cli::Verify,
    output: Output,
    bars: &MultiProgress,
) -> Result<Verified, VerifyError> {
    let missing = |what: &str| VerifyError::NotYet {
        route: route.clone(),
        what: what.into(),
        help: "`rowcast check` says what is wrong with the file".into(),
    };
    let planned = plan.routes.iter().find(|r| r.sink.route == *route);
    let planned = planned.ok_or_else(|| missing("there is no such route"))?;
    let publisher = plan.service(&route.from).ok_or_else(|| missing("its publisher is missing"))?;
    let source = publisher.source.clone().ok_or_else(|| missing("nothing is published"))?;
    for copy in planned.sink.subscriptions.iter().filter(|s| s.from.is_now()) {
        let why = "it begins with `now`, so it has not all of its source's rows";
        output.aside(format!("{route}: {} is not compared: {why}", copy.into));
    }
    let mut history = FileHistory::open(&log_dir(plan), route).await?;
    let (progress, watched) = watch::channel(Progress::default());
    let verify = Verify {
        publisher: publisher.database.clone(),
        source,
        subscriber: planned.database.clone(),
        sink: planned.sink.clone(),
        running: Instance::find(&plan.data).is_some(),
        patience: args.timeout,
        repair: args.repair,
        progress: Arc::new(progress),
    };
    tokio::select! {
        verified = verify.run(&mut history) => verified,
        () = show(route, watched, output, bars) => unreachable!("the bar outlives the work"),
    }
}

/// Shows how it goes, as long as it is polled.
async fn show(
    route: &RouteId,
    progress: watch::Receiver<Progress>,
    output: Output,
    bars: &MultiProgress,
) {
    let bar = (!bars.is_hidden()).then(|| Bar::new(route, bars));
    let mut said = Instant::now();
    loop {
        tokio::time::sleep(FRAME).await;
        let now = progress.borrow().clone();
        let words = match &now.reading {
            Some(r) => format!("{} {}: {} rows", now.doing, r.into, grouped(r.rows)),
            None => now.doing.to_string(),
        };
        match &bar {
            Some(Bar(bar)) => {
                bar.set_message(words);
                bar.tick();
            }
            None if said.elapsed() >= LINE => {
                said = Instant::now();
                output.aside(format!("{route}: {words}"));
            }
            None => {}
        }
    }
}

/// A bar that goes when nobody looks any more.
struct Bar(ProgressBar);

impl Bar {
    fn new(route: &RouteId, bars: &MultiProgress) -> Self {
        let bar = bars.add(ProgressBar::new_spinner());
        let style = ProgressStyle::with_template("{prefix:>20.bold} {spinner} {wide_msg:.dim}");
        bar.set_style(style.expect("the template is ours"));
        bar.set_prefix(route.to_string());
        Self(bar)
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
