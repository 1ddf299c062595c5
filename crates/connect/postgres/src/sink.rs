//! Writes copies into PostgreSQL: whole transactions, set by set, with the checkpoint in the same
//! transaction as the rows.
//!
//! Law: what was not answered with success by the commit counts as not written, and the target's own
//! checkpoint says what was.

mod apply;
mod binary;
mod check;
mod checkpoint;
mod copy;
mod encode;
mod ensure;
mod errors;
mod fit;
mod held;
mod lanes;
mod lost;
mod member;
mod merge;
mod needs;
mod parked;
mod pipe;
mod spare;
mod swap;
mod table;
mod target;
mod targets;
mod together;
mod types;
mod view;
mod watch;
mod write;

pub(crate) use check::check;
pub(crate) use view::PostgresCopies;

use crate::connect::{Address, AddressError, Session};
use apply::Live;
use async_trait::async_trait;
use checkpoint::Place;
use errors::Who;
use rowcast_core::{
    Checkpoint, Claim, Join, Lanes, LogId, Mark, Parked, Progress, Roll, Rows, Shape, Sink,
    SinkError, SinkSpec, Track, Waiting,
};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use watch::Watch;

/// Settings of the session that writes, on top of the pinned ones. Joins of a set with its table have
/// to go by the key's index whatever the planner believes of a table that was empty a moment ago.
const SESSION: &[(&str, &str)] = &[
    ("lock_timeout", "15s"),
    ("plan_cache_mode", "force_generic_plan"),
    ("enable_seqscan", "off"),
    ("enable_hashjoin", "off"),
    ("enable_mergejoin", "off"),
    ("jit", "off"),
];

/// A lane gives way to another writer of its rows: the route then writes them in one transaction.
const LANE_LOCKS: (&str, &str) = ("lock_timeout", "300ms");

/// How commits are written unless the address says otherwise.
const ASYNC_COMMIT: &[(&str, &str)] = &[("synchronous_commit", "off")];

/// A writer of one route's copies.
#[derive(Debug)]
pub struct PostgresSink {
    address: Address,
    who: Who,
    track: Track,
    writer: Claim,
    /// How many lanes it has claimed.
    claimed: u16,
    live: Option<Live>,
    /// The server was asked whether our sessions are our own.
    asked: AtomicBool,
    /// Tables that refused `COPY`; outlives sessions.
    no_copy: HashSet<String>,
    /// Looks after calls that take long.
    watch: Arc<Watch>,
}

impl PostgresSink {
    /// A writer for the route at a `postgres://` address; connects in [`Sink::wants`].
    ///
    /// # Errors
    /// When the address is none.
    pub fn at(url: &str, spec: SinkSpec) -> Result<Self, AddressError> {
        Ok(Self::new(Address::parse(url)?, spec))
    }

    /// A writer for the route; connects in [`Sink::wants`].
    pub(crate) fn new(address: Address, spec: SinkSpec) -> Self {
        let who = Who { route: spec.route };
        Self {
            watch: Arc::new(Watch::new(address.clone(), who.clone())),
            address,
            who,
            track: spec.track,
            writer: match spec.track {
                Track::Lane(lane) => lane.claim,
                Track::Main | Track::Side => Claim(rand::random()),
            },
            claimed: 0,
            live: None,
            asked: AtomicBool::new(false),
            no_copy: HashSet::new(),
        }
    }

    /// Connects. With `hold` the checkpoint's row is locked by a transaction that stays open.
    async fn connect(&self, log: LogId, hold: bool) -> Result<(Live, Checkpoint), SinkError> {
        // A commit need not wait for the target's disk: the checkpoint commits with the rows, so
        // what a crash of the target's machine takes back is written again. An address that says
        // otherwise (`?options=-c%20synchronous_commit%3Don`) is obeyed.
        let asked = self.address.config().get_options().unwrap_or_default();
        let said = asked.contains("synchronous_commit");
        let mut settings: Vec<_> =
            SESSION.iter().chain(ASYNC_COMMIT.iter().filter(|_| !said)).copied().collect();
        if matches!(self.track, Track::Lane(_)) {
            settings.push(LANE_LOCKS);
        }
        let name = format!("rowcast {}", self.who.route);
        let session = self.address.connect(&name, &settings).await;
        let session = session.map_err(|e| self.who.connect(e))?;
        self.ask(&session).await?;
        let followed = self.watch.follow(&session).await;
        followed.map_err(|e| self.who.statement("looking at our own session", e))?;
        let route = self.who.route.clone();
        let claimed = if hold { 0 } else { self.claimed };
        let writer = self.writer.to_string();
        let place = Place { route, track: self.track, log, writer, claimed };
        let refused = |e| self.who.statement("preparing the checkpoint", e);
        let checkpoint = if hold {
            lanes::hold(&session, &place, &self.who).await?
        } else {
            checkpoint::read(&session, &place, &self.who).await?
        };
        let prepare = format!("{}; {}", checkpoint::prepare(&place), held::prepare(&place));
        session.batch_execute(&prepare).await.map_err(refused)?;
        if self.track == Track::Main && !hold {
            held::renew(&session, &place, &self.who).await?;
        }
        let builds = match self.track {
            Track::Main | Track::Lane(_) => HashMap::new(),
            Track::Side => member::builds(&session, &place, &self.who).await?,
        };
        let mut live = Live::new(session, place, checkpoint, self.who.clone());
        live.beside(builds);
        Ok((if hold { live.held() } else { live }, checkpoint))
    }

    /// Refuses a server that would refuse us later, in words of its own.
    async fn ask(&self, session: &Session) -> Result<(), SinkError> {
        let refused = |e| self.who.statement("asking the server what it is", e);
        let need = if self.asked.load(Ordering::Relaxed) || self.track != Track::Main {
            needs::writes(session, &self.address).await
        } else {
            needs::of_server(session, &self.address).await
        };
        match need.map_err(refused)? {
            Some(need) => Err(needs::refused(need, &self.who)),
            None => {
                self.asked.store(true, Ordering::Relaxed);
                Ok(())
            }
        }
    }
}

#[async_trait]
impl Sink for PostgresSink {
    async fn wants(&mut self, log: LogId) -> Result<Checkpoint, SinkError> {
        // Closing the old session takes back what it had not committed.
        self.live = None;
        self.watch.forget();
        let (live, checkpoint) = self.watch.over(self.connect(log, false)).await?;
        self.live = Some(live);
        Ok(checkpoint)
    }

    async fn hold(&mut self, log: LogId) -> Result<Checkpoint, SinkError> {
        self.live = None;
        self.watch.forget();
        let (live, checkpoint) = self.watch.over(self.connect(log, true)).await?;
        self.live = Some(live);
        Ok(checkpoint)
    }

    async fn parked(&mut self) -> Result<Vec<Parked>, SinkError> {
        let Some(live) = &self.live else {
            return Err(self.who.unreachable("there is no session"));
        };
        let parked = self.watch.over(live.parked()).await;
        self.keep_if_reached(parked)
    }

    async fn apply(&mut self, rows: &Rows, progress: Progress) -> Result<(), SinkError> {
        // Taken, so that an apply which is dropped half-way takes its session with it.
        let Some(mut live) = self.live.take() else {
            return Err(self.who.unreachable("there is no session"));
        };
        let apply = live.apply(rows, &progress, &mut self.no_copy);
        let result = self.watch.over(apply).await;
        // An apply that was broken off leaves its session in the middle of something.
        let reached = !matches!(result, Err(SinkError::Unreachable { .. }));
        if reached && live.is_usable() {
            self.live = Some(live);
        }
        result
    }

    async fn roll(&mut self) -> Result<Roll, SinkError> {
        let (live, who) = (self.connected()?, &self.who);
        let roll = self.watch.over(member::roll(live.idle()?, &live.place, who)).await;
        self.keep_if_reached(roll)
    }

    async fn look(&mut self) -> Result<(), SinkError> {
        let (live, who) = (self.connected()?, &self.who);
        let lost = held::look(live.idle()?, &live.place.route, &["live"], who).await?;
        if lost.is_empty() { Ok(()) } else { Err(who.unreachable(held::COPY_GONE)) }
    }

    async fn is_empty(&mut self, into: &str) -> Result<bool, SinkError> {
        let session = self.connected()?.idle()?;
        let empty = self.watch.over(member::is_empty(session, into, &self.who)).await;
        self.keep_if_reached(empty)
    }

    async fn mark(&mut self, mark: &Mark) -> Result<(), SinkError> {
        let live = self.connected()?;
        let marking = member::mark(live.idle()?, &live.place, mark, &self.who);
        let marked = self.watch.over(marking).await;
        self.keep_if(marked)
    }

    async fn seed(&mut self, shapes: &[Arc<Shape>]) -> Result<(), SinkError> {
        let live = self.connected()?;
        let mut seeded = Ok(());
        for shape in shapes {
            let seeding = member::seed(live.idle()?, &live.place, shape, &self.who);
            seeded = self.watch.over(seeding).await;
            if seeded.is_err() {
                break;
            }
        }
        self.keep_if(seeded)
    }

    async fn lanes(&mut self, count: u16) -> Result<Lanes, SinkError> {
        let Some(live) = &mut self.live else {
            return Err(self.who.unreachable("there is no session"));
        };
        self.claimed = 0;
        let claiming = lanes::claim(live, count, self.writer, &self.who);
        let claimed = self.watch.over(claiming).await;
        if claimed.is_ok() {
            self.claimed = live.place.claimed;
        } else {
            self.live = None;
        }
        claimed
    }

    async fn join(&mut self, join: &Join) -> Result<(), SinkError> {
        let live = self.connected()?;
        let joining = swap::join(live.idle()?, &live.place, join, &self.who);
        let joined = self.watch.over(joining).await;
        self.keep_if(joined)
    }

    fn waiting(&self) -> Waiting {
        self.watch.waiting()
    }
}

impl PostgresSink {
    fn connected(&self) -> Result<&Live, SinkError> {
        self.live.as_ref().ok_or_else(|| self.who.unreachable("there is no session"))
    }

    /// After an error nobody knows what the session is about: closing it takes that back.
    fn keep_if(&mut self, done: Result<(), SinkError>) -> Result<(), SinkError> {
        if done.is_err() {
            self.live = None;
        }
        done
    }

    /// A session that broke is closed, also when it was only asked something.
    fn keep_if_reached<T>(&mut self, asked: Result<T, SinkError>) -> Result<T, SinkError> {
        if matches!(asked, Err(SinkError::Unreachable { .. })) {
            self.live = None;
        }
        asked
    }
}
