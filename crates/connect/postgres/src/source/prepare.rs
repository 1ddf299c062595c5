//! Everything before the first change: look at the server, the tables, the publication and the slot,
//! and refuse whatever would lose or repeat a change.

use super::capture::backlog;
use super::catalog::{self, Table, Which};
use super::cursor::{Cursor, news};
use super::hidden::mark;
use super::holders::told_when_slow;
use super::leaves;
use super::needs;
use super::publication::{self, Publication, slot_name};
use super::retained;
use super::shape::{self, Shape};
use super::slot::{self, Exported, Life, Slot};
use super::snapshot::{self, Snapshotting};
use super::timeline::{self, Server};
use super::trouble::Trouble;
use super::wire::{Purpose, Wire};
use super::withdraw;
use crate::connect::Address;
use rowcast_core::{
    Epoch, Point, Position, Publish, Resume, Snapshot, SourceError, SourceSpec, Start, parse_path,
    quote,
};

/// The oldest server that sends messages in the stream.
pub(crate) const VERSION_MIN: u32 = 140_000;

/// A source that is ready to stream.
pub(crate) struct Prepared {
    /// Streams already, unless there is a backlog to be asked for first.
    pub(crate) stream: Wire,
    /// Whether there is.
    pub(crate) backlog: bool,
    /// For questions on the way.
    pub(crate) sql: Wire,
    /// Where the stream goes on.
    pub(crate) position: Position,
    /// A new history that replaces another one.
    pub(crate) fresh: bool,
    /// A new history in an empty log.
    pub(crate) begun: bool,
    /// The history goes on in another timeline, and this is its epoch from now on.
    pub(crate) onto: Option<Epoch>,
    pub(crate) read: Read,
}

/// What is read, and what of it is still to be copied.
pub(crate) struct Read {
    /// One table and one shape per entity.
    pub(crate) tables: Vec<Table>,
    pub(crate) shapes: Vec<Shape>,
    pub(crate) snapshot: Option<Snapshotting>,
    /// Words to log on entities that are complete.
    pub(crate) words: Vec<Snapshot>,
}

/// What a snapshot has to know.
struct Known<'a> {
    name: &'a str,
    server: &'a Server,
    snapshots: &'a [Snapshot],
    /// What publishes the tables now.
    published: &'a Publication,
    /// Oids of tables whose changes the server was not told to stream, or that got rows and lost
    /// rows together with partitions, so some may be missing.
    unseen: Vec<u32>,
}

/// Where a published table is: its schema and its name. A bare name lies in `public`.
pub(crate) fn place(publish: &Publish) -> Result<(String, String), String> {
    let parts = parse_path(&publish.table).map_err(|e| e.to_string())?;
    match <[String; 2]>::try_from(parts) {
        Ok([schema, table]) => Ok((schema, table)),
        Err(mut parts) if parts.len() == 1 => Ok(("public".into(), parts.remove(0))),
        Err(_) => Err(format!("{:?} must be written SCHEMA.TABLE", publish.table)),
    }
}

/// What has to be said of entities that are complete and will not be read again. Of `unseen` tables
/// nothing is said.
pub(super) fn words(
    entities: &[Publish],
    (tables, shapes): (&[Table], &[Shape]),
    known: &[Snapshot],
    unseen: &[u32],
) -> Vec<Snapshot> {
    let word = |(i, publish): (usize, &Publish)| {
        let known = known.iter().find(|s| s.entity == publish.entity && s.done)?;
        let serves = Cursor::read(&known.cursor)?.serves(&tables[i], &shapes[i], publish)
            && !unseen.contains(&tables[i].oid);
        serves.then(|| news(known, &tables[i], publish)).flatten()
    };
    entities.iter().enumerate().filter_map(word).collect()
}

/// Prepares a start.
pub(crate) struct Prepare<'a> {
    pub(crate) address: &'a Address,
    pub(crate) spec: &'a SourceSpec,
    pub(crate) trouble: &'a Trouble,
    /// A deep backlog may be asked for instead of being streamed.
    pub(crate) peeks: bool,
}

impl Prepare<'_> {
    /// Does all of it. A first start that fails takes its slot away again: the next one would find it
    /// used, with an empty log.
    ///
    /// After a stop because the server's log says that there was no publication (`unpublished`), nothing
    /// can be streamed from there on until there was one again.
    pub(crate) async fn run(
        &self,
        start: &Start,
        unpublished: bool,
    ) -> Result<Prepared, SourceError> {
        let mut begun = false;
        let done = self.prepare(start, unpublished, &mut begun).await;
        if done.is_err() && begun {
            self.give_back().await;
        }
        done
    }

    /// Drops the slot that was made for a history of which nothing was handed out.
    pub(super) async fn give_back(&self) {
        let Ok(mut sql) = self.connect(Purpose::Sql).await else { return };
        if let Err(error) = retained::release(&mut sql, &self.spec.service, None).await {
            tracing::warn!(%error, "the slot of a start that failed cannot be dropped");
        }
    }

    /// All of it; `begun` once there is a slot that no log knows.
    async fn prepare(
        &self,
        start: &Start,
        unpublished: bool,
        begun: &mut bool,
    ) -> Result<Prepared, SourceError> {
        let name = slot_name(&self.spec.service);
        let mut sql = self.connect(Purpose::Sql).await?;
        let mut stream = self.connect(Purpose::Replication).await?;
        let server = self.server(&mut sql, &mut stream).await?;
        self.relieve(&mut sql).await?;
        let (mut tables, mut shapes) = match self.tables(&mut sql).await {
            Ok(found) => found,
            Err(error) => return Err(withdraw::harmful(&mut sql, self.spec, error).await),
        };
        needs::refuse(self, &mut sql, (&tables, &shapes), start).await?;
        let wanted = self.wanted(&mut sql, &tables, &shapes).await?;
        let (found, published) =
            publication::ensure(&mut sql, &name, &wanted, self.trouble).await?;
        mark(&mut tables, &published);
        let slot = self.slot(&mut sql, &name).await?;
        let mut onto = None;
        let resume = match start {
            Start::After(resume) => {
                let gap = publication::gap(found.as_ref());
                onto = self.same_history(&server, &name, (slot.as_ref(), gap), resume)?;
                publication::forget_gap(&mut sql, &name, found.as_ref()).await;
                Some(resume)
            }
            Start::Beginning | Start::Afresh => None,
        };
        if let Some(slot) = slot {
            let never_used = publication::never_used(found.as_ref(), slot.confirmed);
            self.clear(&mut sql, &name, slot, start, never_used).await?;
        }
        let made = match resume {
            Some(_) => None,
            None => {
                // Until the log has the new history, it has to be known what became of the old one.
                let gap = publication::gap(found.as_ref());
                let made = self.make_slot(&mut sql, &mut stream, &name, (&server, gap)).await;
                *begun = made.is_ok() && *start == Start::Beginning;
                Some(made?)
            }
        };
        let position = self.position(resume, made.as_ref(), server.identity(&name))?;
        let snapshots = resume.map_or(&[][..], |r| &r.snapshots);
        let hidden = self.hidden(&tables, &wanted, found.as_ref(), (snapshots, unpublished));
        let passes = self.passes(&hidden, snapshots, position, unpublished)?;
        let unseen = hidden.iter().map(|entity| tables[*entity].oid).collect();
        let mut known =
            Known { name: &name, server: &server, snapshots, published: &published, unseen };
        self.doubt(&mut sql, &mut tables, &mut known).await?;
        let snapshot =
            self.snapshot(&mut sql, &mut known, (&mut tables, &mut shapes), made).await?;
        let words = words(&self.spec.entities, (&tables, &shapes), snapshots, &known.unseen);
        let position = match &snapshot {
            Some(snapshot) if passes => Position::new(position.epoch, Point::Lsn(snapshot.at)),
            _ => position,
        };
        let settled = resume.is_some() && snapshot.is_none() && onto.is_none();
        let backlog = self.peeks && settled && backlog::is_deep(&mut sql, position.point).await;
        if !backlog {
            self.begin_stream(&mut sql, &mut stream, position.point).await?;
        }
        let (begun, fresh) = (*begun, *start == Start::Afresh);
        let read = Read { tables, shapes, snapshot, words };
        Ok(Prepared { stream, backlog, sql, position, fresh, onto, begun, read })
    }

    async fn slot(&self, sql: &mut Wire, name: &str) -> Result<Option<Slot>, SourceError> {
        let found = Slot::find(sql, name).await;
        found.map_err(|e| self.trouble.wire("its slots cannot be read", e))
    }

    /// Where the stream goes on: where the log ends, or where a new history begins.
    fn position(
        &self,
        resume: Option<&Resume>,
        made: Option<&Exported>,
        identity: u64,
    ) -> Result<Position, SourceError> {
        match (resume, made) {
            (Some(resume), _) => Ok(resume.position),
            (None, Some(made)) => Ok(made.beginning(identity)),
            (None, None) => Err(self.trouble.bug("a start without a slot")),
        }
    }

    /// Sees to a slot that is there: nobody may hold it, and a beginning needs it out of the way,
    /// which is done only when nobody can miss it or a person said so.
    async fn clear(
        &self,
        sql: &mut Wire,
        name: &str,
        slot: Slot,
        start: &Start,
        never_used: bool,
    ) -> Result<(), SourceError> {
        // Before who holds it: that goes on, and waiting would be in vain.
        if let Some((what, help)) = slot.elsewhere(name) {
            return Err(self.trouble.setup(what, help));
        }
        if let Some(pid) = &slot.active_pid {
            return Err(slot::busy(sql, name, Some(pid), self.trouble).await);
        }
        match start {
            Start::After(_) => Ok(()),
            Start::Beginning if !never_used => Err(self.left_over(name)),
            Start::Beginning | Start::Afresh => self.drop_slot(sql, name).await,
        }
    }

    /// One connection.
    pub(crate) async fn connect(&self, purpose: Purpose) -> Result<Wire, SourceError> {
        let connected = Wire::connect(self.address, "rowcast", purpose).await;
        connected.map_err(|e| {
            let denied = e.state() == Some("42501") && purpose == Purpose::Replication;
            let error = self.trouble.wire("no session", e);
            match error {
                SourceError::Setup { service, source, .. } if denied => SourceError::Setup {
                    service,
                    what: "the role may not replicate".into(),
                    help: "let a superuser run: ALTER ROLE the_role REPLICATION".into(),
                    source,
                },
                other => other,
            }
        })
    }

    /// Looks at the server, and refuses one that cannot be captured.
    pub(super) async fn server(
        &self,
        sql: &mut Wire,
        stream: &mut Wire,
    ) -> Result<Server, SourceError> {
        const WHAT: &str = "the server's identity cannot be read";
        let rows = sql
            .query(
                "SELECT current_setting('server_version_num'), pg_is_in_recovery(), \
                 current_setting('wal_level'), \
                 (SELECT oid FROM pg_database WHERE datname = current_database())",
            )
            .await
            .map_err(|e| self.trouble.wire(WHAT, e))?;
        let text = |i: usize| rows.first().and_then(|r| r.get(i)?.clone()).unwrap_or_default();
        let version = text(0).parse().unwrap_or_default();
        if version < VERSION_MIN {
            let what =
                format!("its PostgreSQL is {}, and 14 is the oldest supported", version / 10_000);
            return Err(self.trouble.setup(what, "upgrade the server"));
        }
        if text(1) == "t" {
            return Err(self.trouble.setup(
                "the server is a standby",
                "let the service's `database` name the primary",
            ));
        }
        if text(2) != "logical" {
            return Err(self.trouble.setup(
                format!("wal_level is {}", text(2)),
                "let a superuser run: ALTER SYSTEM SET wal_level = logical; then restart the server",
            ));
        }
        let system = stream.query("IDENTIFY_SYSTEM").await;
        let system = system.map_err(|e| self.trouble.wire(WHAT, e))?;
        let of = |i: usize| system.first().and_then(|r| r.get(i)?.clone()).unwrap_or_default();
        let database = format!("{} {}", of(3), text(3));
        let (system, timeline) = (of(0), of(1));
        let past = timeline::past(stream, &timeline).await;
        let past = past.map_err(|e| self.trouble.wire(WHAT, e))?;
        Ok(Server { version, system, timeline, database, past })
    }

    /// The published tables and what their rows look like, in the order of the spec.
    pub(super) async fn tables(
        &self,
        sql: &mut Wire,
    ) -> Result<(Vec<Table>, Vec<Shape>), SourceError> {
        let places = self.spec.entities.iter().map(|e| {
            place(e).map_err(|what| SourceError::Schema {
                service: self.spec.service.clone(),
                entity: e.entity.clone(),
                what,
                help: "correct the entity's `table`".into(),
            })
        });
        let places = places.collect::<Result<Vec<_>, _>>()?;
        let found = catalog::tables(sql, Which::Named(&places)).await;
        let found = found.map_err(|e| self.trouble.wire("its tables cannot be read", e))?;
        let (mut tables, mut shapes) = (Vec::new(), Vec::new());
        for (publish, (schema, name)) in self.spec.entities.iter().zip(&places) {
            let table = found.iter().find(|t| t.schema == *schema && t.name == *name);
            let table = table.ok_or_else(|| SourceError::Schema {
                service: self.spec.service.clone(),
                entity: publish.entity.clone(),
                what: format!("there is no table {}", rowcast_core::quote_path(&[schema, name])),
                help: "create the table, or correct the entity's `table`".into(),
            })?;
            shapes.push(
                shape::of_table(table, publish).map_err(|u| self.trouble.unfit(publish, &u))?,
            );
            tables.push(table.clone());
        }
        Ok((tables, shapes))
    }

    fn left_over(&self, name: &str) -> SourceError {
        self.trouble.epoch(format!(
            "the event log is empty, but replication slot {name} was used before: a data directory \
             was lost, or another one belongs to this service"
        ))
    }

    async fn drop_slot(&self, sql: &mut Wire, name: &str) -> Result<(), SourceError> {
        let drop = format!("SELECT pg_drop_replication_slot({})", catalog::literal(name));
        match sql.query(&drop).await {
            Ok(_) => Ok(()),
            Err(e) if e.state() == Some("55006") => {
                Err(slot::busy(sql, name, None, self.trouble).await)
            }
            Err(e) => Err(self.trouble.wire("the old slot cannot be dropped", e)),
        }
    }

    async fn make_slot(
        &self,
        sql: &mut Wire,
        stream: &mut Wire,
        name: &str,
        (server, gap): (&Server, Option<Point>),
    ) -> Result<Exported, SourceError> {
        publication::note(sql, name, None, gap).await;
        let made = slot::create(stream, name, Life::Permanent, server.version);
        let made = told_when_slow(name, sql, made).await;
        let made = made.map_err(|e| self.trouble.wire("the replication slot cannot be made", e))?;
        publication::note(sql, name, Some(made.consistent), gap).await;
        Ok(made)
    }

    /// The snapshot of what the log lacks, if it lacks anything: of the slot just made, or of one
    /// beside the running slot, which ends as soon as the readers hold its snapshot.
    ///
    /// Tables and shapes become those of the snapshot. Making a slot may take long, and a column that
    /// came meanwhile has values that only the snapshot knows.
    async fn snapshot(
        &self,
        sql: &mut Wire,
        known: &mut Known<'_>,
        (tables, shapes): (&mut Vec<Table>, &mut Vec<Shape>),
        made: Option<Exported>,
    ) -> Result<Option<Snapshotting>, SourceError> {
        let entities = &self.spec.entities;
        let todo = |tables: &[Table], shapes: &[Shape], known: &Known<'_>| {
            snapshot::todo(entities, (tables, shapes), known.snapshots, &known.unseen)
        };
        if todo(tables, shapes, known).is_empty() {
            return Ok(None);
        }
        let mut beside = None;
        let made = match made {
            Some(made) => made,
            None => {
                let wire = beside.insert(self.connect(Purpose::Replication).await?);
                let name = format!("{}_{:08x}", known.name, rand::random::<u32>());
                let made = slot::create(wire, &name, Life::Temporary, known.server.version);
                let made = told_when_slow(&name, sql, made).await;
                made.map_err(|e| self.trouble.wire("no slot for a snapshot can be made", e))?
            }
        };
        let mut view = snapshot::View::open(self, &made).await?;
        let before: Vec<u32> = tables.iter().map(|t| t.oid).collect();
        (*tables, *shapes) = self.tables(&mut view.wire).await?;
        if !tables.iter().map(|t| t.oid).eq(before) {
            return Err(self.trouble.lost("a table was made anew while capture began"));
        }
        // Whatever alters the publication after this snapshot shows in its marks.
        let seen = Publication::find(&mut view.wire, known.name).await;
        let seen = seen.map_err(|e| self.trouble.wire("its publications cannot be read", e))?;
        if !known.published.is(seen.as_ref()) {
            return Err(self.trouble.lost("the publication was altered while capture began"));
        }
        mark(tables, known.published);
        // The snapshot shows them, so they were there where it was taken.
        tables.iter_mut().for_each(|t| t.leaves.seen_at(made.consistent.value()));
        // What is noted of partitions is what the snapshot shows, so it is that which has to be judged.
        self.doubt(sql, tables, known).await?;
        let todo = todo(tables, shapes, known);
        let snapshot = Snapshotting::open(self, view, todo, &made).await?;
        drop(beside);
        Ok(Some(snapshot))
    }

    /// Adds to `unseen` the tables that partitions brought rows, or took rows from.
    async fn doubt(
        &self,
        sql: &mut Wire,
        tables: &mut [Table],
        known: &mut Known<'_>,
    ) -> Result<(), SourceError> {
        let doubted = leaves::doubted(sql, &self.spec.entities, tables, known.snapshots).await;
        let doubted = doubted.map_err(|e| self.trouble.wire("its partitions cannot be seen", e))?;
        known.unseen.extend(doubted);
        Ok(())
    }

    pub(super) async fn begin_stream(
        &self,
        sql: &mut Wire,
        stream: &mut Wire,
        from: Point,
    ) -> Result<(), SourceError> {
        let name = &slot_name(&self.spec.service);
        let quoted = quote(name);
        let command = format!(
            "START_REPLICATION SLOT {quoted} LOGICAL {from} (proto_version '1', \
             publication_names {}, messages 'true')",
            catalog::literal(&quoted)
        );
        match stream.stream(&command).await {
            Ok(()) => Ok(()),
            Err(e) if e.state() == Some("55006") => {
                Err(slot::busy(sql, name, None, self.trouble).await)
            }
            Err(e) => Err(self.trouble.wire("streaming does not begin", e)),
        }
    }
}
