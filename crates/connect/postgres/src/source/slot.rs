//! The replication slot: the server's promise to keep what we have not confirmed.

use super::catalog::literal;
use super::trouble::Trouble;
use super::wire::{Wire, WireError};
use rowcast_core::{Epoch, Point, Position, SourceError, quote};

/// A slot as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Slot {
    pub(crate) plugin: String,
    pub(crate) here: bool,
    /// Of which database; of none, for a standby's.
    pub(crate) database: Option<String>,
    pub(crate) active_pid: Option<String>,
    pub(crate) confirmed: Option<Point>,
    pub(crate) lost: Option<String>,
}

impl Slot {
    /// Looks it up.
    pub(crate) async fn find(wire: &mut Wire, name: &str) -> Result<Option<Self>, WireError> {
        // The reason came with 17; to_jsonb lets one query ask all versions.
        let rows = wire
            .query(&format!(
                "SELECT coalesce(plugin, slot_type), database = current_database(), active_pid, \
                        confirmed_flush_lsn, \
                        CASE WHEN wal_status = 'lost' OR to_jsonb(s)->>'conflicting' = 'true' \
                             THEN coalesce(to_jsonb(s)->>'invalidation_reason', 'wal_removed') END, \
                        database \
                 FROM pg_replication_slots s WHERE slot_name = {}",
                literal(name)
            ))
            .await?;
        let Some(row) = rows.into_iter().next() else { return Ok(None) };
        let text = |i: usize| row.get(i).cloned().flatten();
        Ok(Some(Self {
            plugin: text(0).unwrap_or_default(),
            here: text(1).as_deref() == Some("t"),
            active_pid: text(2),
            confirmed: text(3).and_then(|lsn| lsn.parse().ok()),
            lost: text(4),
            database: text(5),
        }))
    }

    /// What is wrong and what to do when a slot of our name is not ours to use: names of slots are
    /// the whole server's.
    pub(crate) fn elsewhere(&self, name: &str) -> Option<(String, &'static str)> {
        let of = match &self.database {
            _ if self.here => return None,
            Some(database) => format!("database {}", quote(database)),
            None => "a standby".into(),
        };
        let what = format!("{of} of the same server has a replication slot called {name}");
        let help = "slots are named after services, one name for the whole server: give this service \
                    another name, or drop that slot there if nothing uses it any more";
        Some((what, help))
    }
}

/// Who holds a slot, as far as it shows.
pub(crate) async fn busy(
    wire: &mut Wire,
    name: &str,
    pid: Option<&str>,
    trouble: &Trouble,
) -> SourceError {
    let sql = format!(
        "SELECT a.pid, a.application_name, CASE WHEN a.client_addr IS NOT NULL \
           THEN host(a.client_addr) WHEN a.client_port = -1 THEN 'a local socket' \
           ELSE 'an address that our role may not see' END \
         FROM pg_stat_activity a WHERE a.pid = coalesce({}::int, (SELECT active_pid \
           FROM pg_replication_slots WHERE slot_name = {}))",
        pid.map_or("NULL".into(), literal),
        literal(name)
    );
    let who = match wire.query(&sql).await.unwrap_or_default().into_iter().next() {
        Some(row) => {
            let text = |i: usize| row.get(i).cloned().flatten().unwrap_or_default();
            format!("process {} ({:?} from {})", text(0), text(1), text(2))
        }
        None => "a process that does not show".into(),
    };
    SourceError::Busy {
        service: trouble.0.clone(),
        what: format!("slot {name} is held by {who}"),
        help: "stop the other one; if it is a connection that died, the server notices within a \
               minute"
            .into(),
    }
}

/// A slot just made: where it begins and the name of the snapshot that shows what was before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Exported {
    /// Commits before it are in the snapshot, commits from it on in the stream.
    pub(crate) consistent: Point,
    /// For `SET TRANSACTION SNAPSHOT`, as long as the connection does nothing else.
    pub(crate) snapshot: String,
}

impl Exported {
    /// Where a history begins that this slot captures.
    pub(crate) fn beginning(&self, identity: u64) -> Position {
        let epoch = Epoch { identity, birth: self.consistent.value() };
        Position::new(epoch, self.consistent)
    }
}

/// What kind of slot to make.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Life {
    /// Stays, and follows a fail-over where the server can do that.
    Permanent,
    /// Ends with its connection.
    Temporary,
}

/// Makes a slot and exports its snapshot. Waits for the transactions that write at this moment.
pub(crate) async fn create(
    wire: &mut Wire,
    name: &str,
    life: Life,
    version: u32,
) -> Result<Exported, WireError> {
    let name = quote(name);
    let temporary = if life == Life::Temporary { " TEMPORARY" } else { "" };
    let begin = format!("CREATE_REPLICATION_SLOT {name}{temporary} LOGICAL pgoutput");
    let rows = match version {
        ..150_000 => wire.query(&format!("{begin} EXPORT_SNAPSHOT")).await?,
        170_000.. if life == Life::Permanent => {
            match wire.query(&format!("{begin} (SNAPSHOT 'export', FAILOVER true)")).await {
                // Syntax, or a server that cannot: without it, then.
                Err(WireError::Server(e))
                    if matches!(&e.state[..], "42601" | "0A000" | "55000") =>
                {
                    wire.query(&format!("{begin} (SNAPSHOT 'export')")).await?
                }
                other => other?,
            }
        }
        _ => wire.query(&format!("{begin} (SNAPSHOT 'export')")).await?,
    };
    let row = rows.into_iter().next().unwrap_or_default();
    let text = |i: usize| row.get(i).cloned().flatten();
    let consistent = text(1).and_then(|lsn| lsn.parse().ok());
    match (consistent, text(2)) {
        (Some(consistent), Some(snapshot)) => Ok(Exported { consistent, snapshot }),
        _ => Err(WireError::Protocol("a new slot without its snapshot")),
    }
}
