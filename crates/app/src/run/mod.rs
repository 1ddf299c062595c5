//! `rowcast run`: one node over one data directory, until it is told to stop.

mod lock;
mod progress;

pub(crate) use lock::DataLock;

use crate::cli;
use crate::config::{self, Loaded, Plan, count, nearest};
use crate::instance::Instance;
use crate::output::Output;
use crate::report::{Exit, Failure};
use indicatif::MultiProgress;
use rowcast_core::{ByteSize, Code, EventLog, ServiceName};
use rowcast_engine::{Board, Node, NodeError, NodeSpec, Publisher, RouteSpec, TroubleReport};
use rowcast_store::FileLog;
use std::future::pending;
use std::path::Path;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Row bytes that all routes together take from the log at once; bounds their memory.
const READ_BYTES_ALL: u64 = 64 << 20;
/// The least and the most that one of them takes.
const READ_BYTES: std::ops::RangeInclusive<u64> = 1 << 20..=16 << 20;

pub(crate) async fn run(
    args: cli::Run,
    file: &Path,
    output: Output,
    bars: MultiProgress,
) -> Result<Exit, Failure> {
    let loaded = config::load(file)?;
    output.warnings(&loaded);
    let Loaded { plan, .. } = loaded;
    check_resnapshot(&plan, &args.resnapshot)?;
    let mut signals = Signals::new()?;
    let _lock = DataLock::take(&plan.data).map_err(Failure::from)?;
    let log = open_log(&plan)?;
    let node = node(&plan, log.clone(), &args.resnapshot);
    let listener = listen(&plan).await?;
    let address = listener.local_addr().map_err(|e| unusable(&plan, &e))?;
    let note = Instance::announce(&plan.data, address).map_err(|e| {
        Failure::new(format!("{} cannot be written to", plan.data.display()), "").because(&e)
    })?;
    tracing::info!(
        "{} and {}; data in {}; answering on http://{address}",
        count(plan.services.len(), "service"),
        count(plan.routes.len(), "route"),
        plan.data.display(),
    );
    let stop = CancellationToken::new();
    let work = Work { board: node.board(), stop: stop.clone(), bars };
    let ended = tokio::select! {
        ended = work.run(node, listener, args.until_caught_up) => ended,
        never = signals.obey(&stop) => match never {},
    };
    drop(note);
    log.close().await;
    ended
}

/// Everything that runs side by side.
struct Work {
    board: Arc<Board>,
    stop: CancellationToken,
    bars: MultiProgress,
}

impl Work {
    async fn run(
        self,
        node: Node,
        listener: TcpListener,
        until_caught_up: bool,
    ) -> Result<Exit, Failure> {
        // What answers and shows ends after the data has come to rest, so that it shows the drain.
        let rest = CancellationToken::new();
        let moving = async {
            let ended = node.run(self.stop.clone()).await;
            self.stop.cancel();
            rest.cancel();
            ended
        };
        let ending = async {
            if !until_caught_up {
                return Ok(());
            }
            let ended = self.stop.run_until_cancelled(self.board.caught_up()).await;
            self.stop.cancel();
            // Told to stop before all was caught up: the answer is no.
            ended.unwrap_or_else(|| Err(cut_short()))
        };
        let answering = rowcast_server::serve(listener, self.board.clone(), rest.clone());
        let showing = progress::show(&self.board, &self.bars, &rest);
        let (moved, caught_up, answered, ()) = tokio::join!(moving, ending, answering, showing);
        moved.map_err(|e| defect(&e))?;
        if let Err(e) = answered {
            tracing::warn!("status and wait stopped answering: {e}");
        }
        caught_up.map_err(Failure::from)?;
        tracing::info!("{}", if until_caught_up { "caught up" } else { "stopped" });
        Ok(Exit::Good)
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
pub(crate) fn log_dir(plan: &Plan) -> std::path::PathBuf {
    plan.data.join("log")
}

/// The node that does what a plan asks for.
pub(crate) fn node(plan: &Plan, log: Arc<dyn EventLog>, resnapshot: &[ServiceName]) -> Node {
    let publishers = plan.services.iter().filter_map(|s| {
        let spec = s.source.clone()?;
        let afresh = resnapshot.contains(&s.name);
        Some(Publisher { database: s.database.clone(), spec, afresh })
    });
    let routes = plan
        .routes
        .iter()
        .map(|r| RouteSpec { database: r.database.clone(), sink: r.sink.clone() });
    let (publishers, routes): (_, Vec<_>) = (publishers.collect(), routes.collect());
    let share = READ_BYTES_ALL / routes.len().max(1) as u64;
    let read_bytes_max = ByteSize(share.clamp(*READ_BYTES.start(), *READ_BYTES.end()));
    Node::new(NodeSpec { publishers, routes, log, read_bytes_max })
}

async fn listen(plan: &Plan) -> Result<TcpListener, Failure> {
    TcpListener::bind(plan.listen).await.map_err(|e| unusable(plan, &e))
}

fn unusable(plan: &Plan, error: &std::io::Error) -> Failure {
    let help = "another `rowcast run` may use it; choose another one under `[server] listen`, or \
                port 0 for any free one";
    Failure::usage(format!("{} cannot be listened on", plan.listen), help).because(error)
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
        let listen = |kind| {
            signal(kind).map_err(|e| Failure::new("signals cannot be listened for", "").because(&e))
        };
        Ok(Self {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
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
