//! Whether partitions that are not what they were may have rows that the log does not know, or lack
//! rows that it does.

use super::{Leaf, LeafNote, Noted, by_oid, is_empty, says_yes};
use crate::source::catalog::Table;
use crate::source::cursor::Cursor;
use crate::source::wire::{Wire, WireError};
use rowcast_core::{Publish, Snapshot};
use std::time::Duration;
use tracing::info;

/// Rows looked at for a proof, so that a look takes no longer than a moment.
const ROWS_MAX: u32 = 100_000;

/// Longest for all proofs of one table. What is not proven by then is read again.
const PROOF_WITHIN: Duration = Duration::from_secs(20);

/// Why the log may not know the rows that an entity's table has, or know some that it has no more;
/// `None` when it knows them. `known` is what the log says of the entity. `horizon` is a later moment,
/// if there is one, at which the partitions were still what the log remembers.
pub(crate) async fn doubt(
    wire: &mut Wire,
    table: &Table,
    known: &Snapshot,
    horizon: u64,
) -> Result<Option<String>, WireError> {
    let Some(Cursor { oid, made: Some(made), .. }) = Cursor::read(&known.cursor) else {
        return Ok(None);
    };
    if table.kind != 'p' || oid != table.oid {
        return Ok(None);
    }
    let Some(noted) = made.leaves() else {
        // An earlier Rowcast did not remember them, but the sum of their files.
        let same = made.file() == table.file;
        return Ok((!same).then(|| "partitions came or went".into()));
    };
    match tokio::time::timeout(PROOF_WITHIN, judge(wire, table, noted, horizon)).await {
        Ok(doubt) => doubt,
        Err(_) => Ok(Some("what became of its partitions was not seen in time".into())),
    }
}

/// Remembers of a table's partitions since when they are known.
pub(crate) fn remember(table: &mut Table, known: Option<&Snapshot>) {
    let made = known.and_then(|s| Cursor::read(&s.cursor)?.made);
    if let Some(noted) = made.as_ref().and_then(|m| m.leaves()) {
        table.leaves.remember(noted);
    }
}

/// The tables, by their numbers, that have to be read again because of their partitions.
pub(crate) async fn doubted(
    wire: &mut Wire,
    entities: &[Publish],
    tables: &mut [Table],
    snapshots: &[Snapshot],
) -> Result<Vec<u32>, WireError> {
    let mut doubted = Vec::new();
    for (publish, table) in entities.iter().zip(tables) {
        let Some(known) = snapshots.iter().find(|s| s.entity == publish.entity) else { continue };
        remember(table, Some(known));
        if let Some(why) = doubt(wire, table, known, 0).await? {
            info!(entity = %publish.entity, table = %table.sql(), "{why}: the table is read again");
            doubted.push(table.oid);
        }
    }
    Ok(doubted)
}

/// Compares partitions with what the log remembers of them.
async fn judge(
    wire: &mut Wire,
    table: &Table,
    noted: &Noted,
    horizon: u64,
) -> Result<Option<String>, WireError> {
    let now = &table.leaves.list;
    for was in &noted.list {
        match now.iter().find(|l| l.oid == was.oid) {
            Some(leaf) if leaf.attached == was.attached => {}
            Some(leaf) => {
                let what = format!("partition {} was detached and attached again", leaf.sql());
                return Ok(Some(what));
            }
            None => {
                let what = match by_oid(wire, was.oid).await? {
                    Some(name) => format!("partition {name} was detached"),
                    None => "a partition was dropped".into(),
                };
                return Ok(Some(what));
            }
        }
    }
    let horizon = horizon.max(noted.horizon);
    for leaf in now {
        let doubt = match noted.find(leaf.oid) {
            Some(was) => doubt_kept(wire, leaf, was, horizon).await?,
            None => doubt_new(wire, leaf).await?,
        };
        if let Some(doubt) = doubt {
            return Ok(Some(format!("partition {} {doubt}", leaf.sql())));
        }
    }
    Ok(None)
}

/// A partition with other storage was truncated, or its rows were written anew as they are. A
/// truncation leaves no row from before it, so one row from before the last look proves that there
/// was none: `VACUUM FULL` and `CLUSTER` keep the number of the transaction that wrote a row.
async fn doubt_kept(
    wire: &mut Wire,
    leaf: &Leaf,
    was: &LeafNote,
    horizon: u64,
) -> Result<Option<&'static str>, WireError> {
    if leaf.file == was.file {
        return Ok(None);
    }
    // Numbers go round, so they are compared as far as half the circle reaches.
    let sql = format!(
        "SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint - {horizon} < 2147483648 AND \
         EXISTS (SELECT FROM (SELECT xmin::text::bigint AS x FROM ONLY {} LIMIT {ROWS_MAX}) r \
                 WHERE r.x < 3 OR ((r.x - {horizon}) & 4294967295) >= 2147483648)",
        leaf.sql()
    );
    let proven = says_yes(wire, &sql).await?;
    Ok((!proven).then_some("was truncated, or none of its rows is from before it got new storage"))
}

/// A new partition was made as one, so that all of its rows were told, or a table was attached with
/// rows of its own.
async fn doubt_new(wire: &mut Wire, leaf: &Leaf) -> Result<Option<&'static str>, WireError> {
    // A table's first file has the table's number.
    if leaf.file != i64::from(leaf.oid) {
        return Ok(Some("is new and was truncated or written anew since it was made"));
    }
    if leaf.born {
        return Ok(None);
    }
    let empty = is_empty(wire, leaf).await?;
    Ok((!empty).then_some("was attached with rows"))
}
