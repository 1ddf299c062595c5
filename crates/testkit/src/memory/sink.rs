//! The sink of a memory database.

use super::row::read;
use super::{Content, Fault, MemoryDatabase};
use async_trait::async_trait;
use rowcast_core::{
    ChangeOp, Checkpoint, Join, LeftOut, LogId, Mark, Member, Membership, Offset, ParkEdit, Parked,
    Progress, Roll, Rows, Shape, SideMark, Sink, SinkError, SinkSpec, Track,
};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

type Tables = BTreeMap<String, Content>;

pub(super) struct MemorySink {
    database: MemoryDatabase,
    spec: SinkSpec,
    log: Option<LogId>,
    /// What an open transaction has written so far, to the tables that it wrote to, and noted.
    open: Option<(Tables, Vec<ParkEdit>)>,
    /// Tables whose rows go beside them.
    beside: BTreeSet<String>,
}

/// Tables with this name are no reader's business.
fn build(into: &str) -> String {
    format!("(build) {into}")
}

impl MemorySink {
    pub(super) fn new(database: MemoryDatabase, spec: SinkSpec) -> Self {
        Self { database, spec, log: None, open: None, beside: BTreeSet::new() }
    }

    fn track(&self, track: Track) -> String {
        match track {
            Track::Main => self.spec.route.to_string(),
            Track::Side => format!("{} (side)", self.spec.route),
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
            Fault::None | Fault::Refuse | Fault::LoseAnswer => {
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
        self.log = Some(log);
        let none = Checkpoint { next: Offset(0), position: None };
        let track = self.track(self.spec.track);
        let found = {
            let mut inner = self.database.lock();
            match self.spec.track {
                Track::Main => inner.checkpoints.entry(track).or_insert((log, none)).1,
                Track::Side => inner.checkpoints.get(&track).map_or(none, |(_, at)| *at),
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
        let (mut tables, mut parks) = self.open.take().unwrap_or_default();
        let left = self.write(rows, &mut tables)?;
        if !left.is_empty() {
            self.open = Some((tables, parks));
            return Err(left.into_error());
        }
        parks.extend(rows.parks.iter().cloned());
        if !progress.commit {
            self.open = Some((tables, parks));
            return Ok(());
        }
        self.compare(self.spec.track, progress.from)?;
        let mut inner = self.database.lock();
        let stored =
            inner.checkpoints.get_mut(&self.track(self.spec.track)).expect("just compared");
        stored.1 = Checkpoint { next: progress.next, position: Some(progress.position) };
        inner.tables.append(&mut tables);
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

    async fn join(&mut self, join: &Join) -> Result<(), SinkError> {
        let fault = self.fault().await?;
        self.compare(Track::Main, join.from)?;
        self.compare(Track::Side, join.next)?;
        let (route, side) = (self.track(Track::Main), self.track(Track::Side));
        let mut inner = self.database.lock();
        let checkpoint = inner.checkpoints.get_mut(&route).expect("just compared");
        checkpoint.1 = Checkpoint { next: join.next, position: Some(join.position) };
        inner.checkpoints.remove(&side);
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
