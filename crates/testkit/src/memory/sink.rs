//! The sink of a memory database.

use super::row::read;
use super::{Content, Fault, Inner, MemoryDatabase};
use async_trait::async_trait;
use rowcast_core::{
    ChangeOp, Checkpoint, Claim, Join, Lane, Lanes, LeftOut, LogId, Mark, Member, Membership,
    Offset, ParkEdit, Parked, Progress, Roll, Rows, Shape, SideMark, Sink, SinkError, SinkSpec,
    Track,
};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

type Tables = BTreeMap<String, Content>;

/// What an open transaction has written so far, to the tables that it wrote to, and noted.
#[derive(Default)]
struct Open {
    tables: Tables,
    /// Which rows of them: others may write others meanwhile.
    touched: BTreeSet<(String, i64)>,
    parks: Vec<ParkEdit>,
}

pub(super) struct MemorySink {
    database: MemoryDatabase,
    spec: SinkSpec,
    log: Option<LogId>,
    open: Option<Open>,
    /// The claim on the route's lanes, once this sink has made one.
    claim: Option<Claim>,
    /// Tables whose rows go beside them.
    beside: BTreeSet<String>,
}

/// Tables with this name are no reader's business.
fn build(into: &str) -> String {
    format!("(build) {into}")
}

impl MemorySink {
    pub(super) fn new(database: MemoryDatabase, spec: SinkSpec) -> Self {
        Self { database, spec, log: None, open: None, claim: None, beside: BTreeSet::new() }
    }

    fn track(&self, track: Track) -> String {
        match track {
            Track::Main => self.spec.route.to_string(),
            Track::Side => format!("{} (side)", self.spec.route),
            Track::Lane(l) => format!("{} (lane {:02}/{})", self.spec.route, l.index, l.of),
        }
    }

    fn error(&self, fault: Fault) -> SinkError {
        let service = self.spec.route.to.clone();
        match fault {
            Fault::NeedOperator => SinkError::Setup {
                service,
                what: "scripted".into(),
                help: "wait for the next try".into(),
                source: None,
            },
            Fault::None | Fault::Refuse | Fault::LoseAnswer | Fault::NeverAnswer => {
                SinkError::Unreachable { service, source: "scripted".into() }
            }
        }
    }

    /// What goes wrong at this call. Gives others a turn, so that a crash can come here.
    async fn fault(&mut self) -> Result<Fault, SinkError> {
        tokio::task::yield_now().await;
        let fault = self.database.lock().sink_faults.pop_front().unwrap_or(Fault::None);
        if matches!(fault, Fault::Refuse | Fault::NeedOperator) {
            self.open = None;
            return Err(self.error(fault));
        }
        if fault == Fault::NeverAnswer {
            self.open = None;
            std::future::pending::<()>().await;
        }
        Ok(fault)
    }

    fn answer(&self, fault: Fault) -> Result<(), SinkError> {
        if fault == Fault::LoseAnswer { Err(self.error(fault)) } else { Ok(()) }
    }

    fn compare(&self, track: Track, from: Offset) -> Result<(), SinkError> {
        let log = self.log.expect("a sink is asked what it wants before it writes");
        let found = self.database.lock().checkpoints.get(&self.track(track)).copied();
        let what = match found {
            Some((l, at)) if l == log && at.next == from => return Ok(()),
            Some((_, at)) => format!("it is {} and not {from}", at.next),
            None => "it is gone".into(),
        };
        let route = self.spec.route.clone();
        Err(SinkError::Checkpoint { route, what, help: String::new() })
    }

    /// Refuses when somebody else has claimed the lanes since.
    fn compare_claim(&self) -> Result<(), SinkError> {
        let ours = match self.spec.track {
            Track::Main => self.claim,
            Track::Side => None,
            Track::Lane(lane) => Some(lane.claim),
        };
        let route = self.spec.route.clone();
        let claimed = self.database.lock().claims.get(&self.track(Track::Main)).copied();
        if ours.is_none() || ours == claimed {
            return Ok(());
        }
        let what = "somebody else has claimed its lanes".into();
        Err(SinkError::Checkpoint { route, what, help: String::new() })
    }

    /// The lanes of the route, with their names, in order.
    fn lanes_there(&self, inner: &Inner) -> Vec<(String, LogId, Offset)> {
        let prefix = format!("{} (lane ", self.spec.route);
        let ours = inner.checkpoints.iter().filter(|(name, _)| name.starts_with(&prefix));
        let mut lanes: Vec<_> = ours.map(|(n, (log, at))| (n.clone(), *log, at.next)).collect();
        lanes.sort_by(|a, b| a.0.cmp(&b.0));
        lanes
    }

    /// Writes the rows, and tells what does not fit and is left out. When it may not be, the first
    /// change that does not fit is the answer.
    fn write(&self, rows: &Rows, tables: &mut Tables) -> Result<LeftOut, SinkError> {
        let mut left = LeftOut::default();
        let table = |into: &str| if self.beside.contains(into) { build(into) } else { into.into() };
        let inner = self.database.lock();
        let mut fetch = |name: String| {
            let there = || inner.tables.get(&name).cloned().unwrap_or_default();
            tables.entry(name.clone()).or_insert_with(there);
        };
        rows.shapes.iter().for_each(|used| fetch(table(&used.shape.into)));
        for (index, change) in (0..).zip(&rows.changes) {
            match left.skips(rows, index).expect("rows of a test are sound") {
                Some(true) => continue,
                Some(false) => {}
                None => return Err(left.first().expect("something was left out")),
            }
            let table = tables.get_mut(&table(&rows.shape(change).into)).expect("just fetched");
            match change.op {
                ChangeOp::Create | ChangeOp::Read | ChangeOp::Update => {
                    let (key, value) = read(rows.after(change));
                    let value = value.expect("a whole row");
                    if inner.refused.as_ref().is_some_and(|prefix| value.starts_with(prefix)) {
                        let unfit = self.unfit(rows, index);
                        if !rows.leave_out {
                            return Err(unfit);
                        }
                        left.note(rows, index, unfit)?;
                        continue;
                    }
                    table.insert(key, value);
                }
                ChangeOp::Delete | ChangeOp::Leave => {
                    drop(table.remove(&read(rows.found_by(change)).0));
                }
                ChangeOp::Truncate => table.clear(),
                ChangeOp::Patch => {}
                ChangeOp::Rekey => {
                    let value = table.remove(&read(rows.before(change)).0);
                    table.extend(value.map(|v| (read(rows.after(change)).0, v)));
                }
            }
        }
        Ok(left)
    }

    fn unfit(&self, rows: &Rows, change: u32) -> SinkError {
        SinkError::Data {
            service: self.spec.route.to.clone(),
            table: rows.shape(&rows.changes[change as usize]).into.clone(),
            key: None,
            change: Some(change),
            what: "its value is refused".into(),
            help: "stop refusing it".into(),
            source: None,
        }
    }
}

#[async_trait]
impl Sink for MemorySink {
    async fn wants(&mut self, log: LogId) -> Result<Checkpoint, SinkError> {
        self.open = None;
        if self.database.lock().sinks_away {
            return Err(self.error(Fault::Refuse));
        }
        self.log = Some(log);
        let none = Checkpoint { next: Offset(0), position: None };
        let track = self.track(self.spec.track);
        let found = {
            let mut inner = self.database.lock();
            match self.spec.track {
                Track::Main => inner.checkpoints.entry(track).or_insert((log, none)).1,
                Track::Side | Track::Lane(_) => {
                    inner.checkpoints.get(&track).map_or(none, |(_, at)| *at)
                }
            }
        };
        let members = self.roll().await?.members;
        let beside = members.into_iter().filter(|m| m.state.has_build_table());
        self.beside = beside.filter(|_| self.spec.track == Track::Side).map(|m| m.into).collect();
        Ok(found)
    }

    async fn parked(&mut self) -> Result<Vec<Parked>, SinkError> {
        let track = self.track(self.spec.track);
        let inner = self.database.lock();
        let ours = inner.parked.iter().filter(|((l, ..), _)| *l == track);
        Ok(ours.map(|(_, parked)| parked.clone()).collect())
    }

    async fn hold(&mut self, log: LogId) -> Result<Checkpoint, SinkError> {
        // Nothing else runs between two calls of a test that mends.
        self.wants(log).await
    }

    async fn apply(&mut self, rows: &Rows, progress: Progress) -> Result<(), SinkError> {
        let fault = self.fault().await?;
        let mut open = self.open.take().unwrap_or_default();
        let left = self.write(rows, &mut open.tables)?;
        let lane = matches!(self.spec.track, Track::Lane(_));
        for change in rows.changes.iter().filter(|_| lane) {
            let key = read(rows.found_by(change)).0;
            open.touched.insert((rows.shape(change).into.clone(), key));
        }
        if !left.is_empty() {
            self.open = Some(open);
            return Err(left.into_error());
        }
        open.parks.extend(rows.parks.iter().cloned());
        if !progress.commit {
            self.open = Some(open);
            return Ok(());
        }
        let Open { mut tables, touched, parks } = open;
        self.compare_claim()?;
        self.compare(if lane { Track::Main } else { self.spec.track }, progress.from)?;
        let mut inner = self.database.lock();
        let stored =
            inner.checkpoints.get_mut(&self.track(self.spec.track)).expect("just compared");
        assert!(!lane || stored.1.next <= progress.from, "a lane that is ahead writes nothing");
        stored.1 = Checkpoint { next: progress.next, position: Some(progress.position) };
        if lane {
            for (into, key) in touched {
                let value = tables.get(&into).and_then(|t| t.get(&key)).cloned();
                let table = inner.tables.entry(into).or_default();
                table.remove(&key);
                table.extend(value.map(|v| (key, v)));
            }
        } else {
            inner.tables.append(&mut tables);
        }
        let track = self.track(self.spec.track);
        for edit in parks {
            match edit {
                ParkEdit::Put(p) => {
                    let id = (track.clone(), p.table.clone(), p.key.clone());
                    inner.parked.insert(id, Parked::clone(&p));
                }
                ParkEdit::Remove { table, key } => {
                    inner.parked.remove(&(track.clone(), table, key));
                }
            }
        }
        inner.look();
        drop(inner);
        self.answer(fault)
    }

    async fn roll(&mut self) -> Result<Roll, SinkError> {
        let route = self.track(Track::Main);
        let inner = self.database.lock();
        let ours = inner.members.iter().filter(|((r, _), _)| *r == route);
        let side = inner.checkpoints.get(&self.track(Track::Side)).map(|(_, at)| at.next);
        Ok(Roll { members: ours.map(|(_, m)| m.clone()).collect(), side })
    }

    async fn look(&mut self) -> Result<(), SinkError> {
        // Nobody takes a table out of this database.
        if self.database.lock().sinks_away { Err(self.error(Fault::Refuse)) } else { Ok(()) }
    }

    async fn is_empty(&mut self, into: &str) -> Result<bool, SinkError> {
        Ok(self.database.table(into).is_empty())
    }

    async fn mark(&mut self, mark: &Mark) -> Result<(), SinkError> {
        let fault = self.fault().await?;
        self.compare(Track::Main, mark.at)?;
        let log = self.log.expect("just compared");
        let (route, side) = (self.track(Track::Main), self.track(Track::Side));
        let mut inner = self.database.lock();
        for member in &mark.members {
            let name = (route.clone(), member.into.clone());
            let was = inner.members.get(&name).map(|m| m.state);
            if was != Some(member.state) || !member.state.has_build_table() {
                inner.tables.remove(&build(&member.into));
            }
            if member.state != Membership::Live {
                let tracks = [&route, &side];
                inner.parked.retain(|(l, into, _), _| !tracks.contains(&l) || *into != member.into);
            }
            inner.members.insert(name, member.clone());
        }
        match mark.side {
            SideMark::Leave => {}
            SideMark::Open(next) => {
                let at = Checkpoint { next, position: None };
                inner.checkpoints.entry(side).or_insert((log, at));
            }
            SideMark::Drop => drop(inner.checkpoints.remove(&side)),
        }
        drop(inner);
        self.answer(fault)
    }

    async fn seed(&mut self, shapes: &[Arc<Shape>]) -> Result<(), SinkError> {
        let fault = self.fault().await?;
        let mut inner = self.database.lock();
        for shape in shapes {
            let rows = inner.tables.get(&shape.into).cloned().unwrap_or_default();
            inner.tables.entry(build(&shape.into)).or_insert(rows);
        }
        drop(inner);
        self.answer(fault)
    }

    async fn lanes(&mut self, count: u16) -> Result<Lanes, SinkError> {
        let fault = self.fault().await?;
        let log = self.log.expect("a sink is asked what it wants before its lanes");
        let route = self.track(Track::Main);
        let lanes = {
            let mut inner = self.database.lock();
            let (_, at) = inner.checkpoints[&route];
            inner.claimed += 1;
            let claim = Claim(inner.claimed);
            inner.claims.insert(route.clone(), claim);
            self.claim = Some(claim);
            let there = self.lanes_there(&inner);
            let ours = |l: &&(String, LogId, Offset)| l.1 == log;
            let ahead = there.iter().filter(ours).any(|(_, _, next)| *next > at.next);
            if ahead {
                Lanes { claim, places: there.iter().map(|(_, _, next)| *next).collect() }
            } else {
                for (name, ..) in &there {
                    inner.checkpoints.remove(name);
                }
                let of = if count > 1 { count } else { 0 };
                for index in 0..of {
                    let name = self.track(Track::Lane(Lane { index, of, claim }));
                    inner.checkpoints.insert(name, (log, at));
                }
                Lanes { claim, places: vec![at.next; usize::from(of)] }
            }
        };
        self.answer(fault)?;
        Ok(lanes)
    }

    async fn join(&mut self, join: &Join) -> Result<(), SinkError> {
        let fault = self.fault().await?;
        self.compare(Track::Main, join.from)?;
        self.compare(Track::Side, join.next)?;
        let (route, side) = (self.track(Track::Main), self.track(Track::Side));
        let mut inner = self.database.lock();
        let checkpoint = inner.checkpoints.get_mut(&route).expect("just compared");
        checkpoint.1 = Checkpoint { next: join.next, position: Some(join.position) };
        inner.checkpoints.remove(&side);
        for (name, ..) in self.lanes_there(&inner) {
            inner.checkpoints.remove(&name);
        }
        let all = std::mem::take(&mut inner.parked).into_iter();
        let joined = |l: String| if l == side { route.clone() } else { l };
        inner.parked = all.map(|((l, into, key), p)| ((joined(l), into, key), p)).collect();
        let building =
            |((r, _), m): &(&(String, String), &mut Member)| *r == route && m.state.is_building();
        let mut swaps = Vec::new();
        for (_, member) in inner.members.iter_mut().filter(building) {
            if member.state.has_build_table() {
                swaps.push(member.into.clone());
            }
            member.state = Membership::Live;
        }
        for into in swaps {
            let built = inner.tables.remove(&build(&into)).unwrap_or_default();
            inner.tables.insert(into, built);
        }
        inner.look();
        drop(inner);
        self.answer(fault)
    }
}
