//! `rowcast run`: one node over one data directory, until it is told to stop.

mod door;
mod lock;
mod map;
mod progress;

use door::{Door, Keys};
pub(crate) use lock::DataLock;
use lock::LockError;
pub(crate) use map::Map;

use crate::cli;
use crate::config::{self, Loaded, Plan, Weight, count, nearest};
use crate::ground;
use crate::output::Output;
use crate::report::{Exit, Failure};
use indicatif::MultiProgress;
use rowcast_core::{Code, Database, EventLog, ServiceName};
use rowcast_engine::{Board, Node, NodeError, TroubleReport};
use rowcast_store::FileLog;
use std::future::pending;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Longest for a database to say what was left behind in it.
const ANSWER: Duration = Duration::from_secs(10);

pub(crate) async fn run(
    args: cli::Run,
    file: &Path,
    output: Output,
    bars: MultiProgress,
) -> Result<Exit, Failure> {
    let mut loaded = config::load(file)?;
    let tls = loaded.tls(Weight::Warning)?;
    output.warnings(&loaded);
    let Loaded { plan, .. } = loaded;
    check_resnapshot(&plan, &args.resnapshot)?;
    let mut signals = Signals::new()?;
    let lock = match DataLock::take(&plan.data) {
        Err(held @ LockError::Held { .. }) => return Err(held.into()),
        taken => {
            stand(&plan, output)?;
            taken.map_err(Failure::from)?
        }
    };
    registry_is_there(&plan)?;
    tell_unnamed(&plan);
    let log = open_log(&plan)?;
    let map = Map::open(&plan, &args.resnapshot, log.clone()).await?;
    let node = node(&map, log.clone()).await?;
    let (door, keys) = Door::open(&plan, tls).await?;
    tracing::info!(
        "{} and {}; data in {}; answering on {door}",
        count(plan.services.len(), "service"),
        count(plan.routes.len(), "route"),
        plan.data.display(),
    );
    let stop = CancellationToken::new();
    let hangups = hangups()?;
    let rereading = Rereading { map, keys, hangups, file: file.to_path_buf(), output };
    let work = Work { board: node.board(), stop: stop.clone(), bars, rereading };
    let work = async {
        let (ended, ()) = tokio::join!(
            work.run(node, door, args.until_caught_up),
            // Who does not answer is not waited for.
            async {
                let _ = stop.run_until_cancelled(tell_all_left_behind(&plan)).await;
            }
        );
        ended
    };
    let ended = tokio::select! {
        ended = work => ended,
        gone = lock.gone() => Err(gone),
        never = signals.obey(&stop) => match never {},
    };
    log.close().await;
    ended
}

/// Refuses a machine that lacks something, and says all of it.
fn stand(plan: &Plan, output: Output) -> Result<(), Failure> {
    let mut lacking = ground::look(plan).into_iter().filter_map(Result::err).peekable();
    while let Some(failure) = lacking.next() {
        if lacking.peek().is_none() {
            return Err(failure);
        }
        output.failure(&failure);
    }
    Ok(())
}

/// Everything that runs side by side.
struct Work {
    board: Arc<Board>,
    stop: CancellationToken,
    bars: MultiProgress,
    rereading: Rereading,
}

/// What reading the file again takes.
struct Rereading {
    map: Map,
    keys: Keys,
    hangups: Signal,
    file: PathBuf,
    output: Output,
}

impl Work {
    async fn run(self, node: Node, door: Door, until_caught_up: bool) -> Result<Exit, Failure> {
        let Self { board, stop, bars, rereading } = self;
        // What answers and shows ends after the data has come to rest, so that it shows the drain.
        let rest = CancellationToken::new();
        let moving = async {
            let ended = node.run(stop.clone()).await;
            stop.cancel();
            rest.cancel();
            ended
        };
        let ending = async {
            if !until_caught_up {
                return Ok(());
            }
            let ended = stop.run_until_cancelled(board.caught_up()).await;
            stop.cancel();
            // Told to stop before all was caught up: the answer is no.
            ended.unwrap_or_else(|| Err(cut_short()))
        };
        let answering = door.answer(board.clone(), rest.clone());
        let showing = progress::show(&board, &bars, &rest);
        let Rereading { mut map, mut keys, mut hangups, file, output } = rereading;
        let rereading = map.obey(&mut keys, &mut hangups, &file, output, &stop);
        let (moved, caught_up, (), (), ()) =
            tokio::join!(moving, ending, answering, showing, rereading);
        moved.map_err(|e| defect(&e))?;
        caught_up.map_err(Failure::from)?;
        tracing::info!("{}", if until_caught_up { "caught up" } else { "stopped" });
        Ok(Exit::Good)
    }
}

/// Refuses to begin with an empty registry where an event log says that there was another one.
fn registry_is_there(plan: &Plan) -> Result<(), Failure> {
    let registry = plan.registry();
    let streams = std::fs::read_dir(log_dir(plan)).into_iter().flatten().flatten();
    if registry.exists() || streams.count() == 0 {
        return Ok(());
    }
    let path = registry.display();
    let message = format!("{path} is gone, and the event log beside it is there");
    let help = format!(
        "it held the subscriptions made at run time and which routes are paused: put a copy of it back; \
         or, to go on with the configuration file's subscriptions alone and nothing paused, make an \
         empty one: touch {path}"
    );
    Err(Failure::new(message, help).with_code(Code::Registry))
}

/// Says which services were captured before that the file no longer names: nobody can ask their
/// databases any more.
fn tell_unnamed(plan: &Plan) {
    let streams = std::fs::read_dir(log_dir(plan)).into_iter().flatten().flatten();
    for name in streams.filter_map(|e| e.file_name().into_string().ok()) {
        if plan.services.iter().any(|s| s.name.as_str() == name) {
            continue;
        }
        let slot = format!("rowcast_{}", name.replace('-', "_"));
        tracing::warn!(
            "{name} was captured before, and the file no longer names it: its database may keep its \
             log for replication slot {slot} until its disk is full\n  help: name the service again; \
             or let go of it there: SELECT pg_drop_replication_slot('{slot}') (SQLite: its triggers \
             and tables are called _rowcast_…). Then remove {}",
            log_dir(plan).join(&name).display()
        );
    }
}

/// Says what services that publish nothing any more still keep their databases busy with.
async fn tell_all_left_behind(plan: &Plan) {
    for service in plan.services.iter().filter(|s| s.source.is_none()) {
        tell_left_behind(&service.name, &*service.database).await;
    }
}

/// The same of one service. Who does not answer is not waited for.
async fn tell_left_behind(service: &ServiceName, database: &dyn Database) {
    let found = tokio::time::timeout(ANSWER, database.left_behind(service)).await;
    for found in found.into_iter().flatten() {
        let run = found.fix.map_or_else(String::new, |fix| fix.statements.join("; "));
        tracing::warn!("{}\n  help: {} Run: {run}", found.message, found.help);
    }
}

fn cut_short() -> TroubleReport {
    TroubleReport {
        code: None,
        message: "stopped before everything was caught up".into(),
        causes: Vec::new(),
        help: "nothing is lost: the next `rowcast run` goes on from here".into(),
    }
}

pub(crate) fn defect(error: &NodeError) -> Failure {
    let help = "nothing is lost: everything else was stopped in order; please report this with the \
                lines before it";
    let failure = Failure::new(error.to_string(), help);
    match std::error::Error::source(error) {
        Some(cause) => failure.because(cause),
        None => failure,
    }
}

fn check_resnapshot(plan: &Plan, services: &[ServiceName]) -> Result<(), Failure> {
    for name in services {
        if plan.service(name).is_some_and(|s| s.source.is_some()) {
            continue;
        }
        let publishers = plan.services.iter().filter(|s| s.source.is_some());
        let help = match nearest(name.as_str(), publishers.map(|s| s.name.as_str())) {
            Some(near) => format!("did you mean `{near}`?"),
            None => "name a service that publishes".into(),
        };
        return Err(Failure::usage(format!("there is no publishing service `{name}`"), help));
    }
    Ok(())
}

/// The log of a plan's data directory. Hold the directory's lock.
pub(crate) fn open_log(plan: &Plan) -> Result<Arc<FileLog>, Failure> {
    let log = FileLog::open(log_dir(plan), plan.log.clone());
    log.map(Arc::new).map_err(|e| {
        let help = "make the directory writable, or name another one with `data = \"…\"`";
        Failure::new(e.to_string(), help)
            .with_code(Code::LogFailed)
            .because(std::error::Error::source(&e).unwrap_or(&e))
    })
}

/// Where a plan's event log lies.
pub(crate) fn log_dir(plan: &Plan) -> PathBuf {
    plan.data.join("log")
}

/// The node that does what the map asks for, now and later.
pub(crate) async fn node(map: &Map, log: Arc<dyn EventLog>) -> Result<Node, Failure> {
    Node::following(map.desired(), log).await.map_err(|e| Failure::of(&e))
}

fn listened(kind: SignalKind) -> Result<Signal, Failure> {
    signal(kind).map_err(|e| Failure::new("signals cannot be listened for", "").because(&e))
}

/// The signal that asks us to read the file again.
fn hangups() -> Result<Signal, Failure> {
    listened(SignalKind::hangup())
}

/// The signals that end us.
pub(crate) struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

/// Nothing.
pub(crate) enum Never {}

impl Signals {
    pub(crate) fn new() -> Result<Self, Failure> {
        Ok(Self {
            interrupt: listened(SignalKind::interrupt())?,
            terminate: listened(SignalKind::terminate())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            Some(()) = self.interrupt.recv() => {}
            Some(()) = self.terminate.recv() => {}
            else => pending().await,
        }
    }

    /// The first signal stops in order, the second at once.
    pub(crate) async fn obey(&mut self, stop: &CancellationToken) -> Never {
        self.next().await;
        tracing::info!("stopping; once more to stop at once");
        stop.cancel();
        self.next().await;
        std::process::exit(130)
    }
}
