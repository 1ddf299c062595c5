//! Parked keys, in the target beside the checkpoint, noted in the transaction that writes the rows.

use super::member;
use rowcast_core::{Offset, ParkEdit, Parked, Pending, RouteId, Track};
use rusqlite::types::Type;
use rusqlite::{Connection, Error, params};

pub(super) fn make_table(c: &Connection) -> Result<(), Error> {
    c.execute_batch(
        "CREATE TABLE IF NOT EXISTS _rowcast_parked (route TEXT NOT NULL, into_table TEXT NOT NULL, \
         key BLOB NOT NULL, shown TEXT NOT NULL, code TEXT NOT NULL, message TEXT NOT NULL, \
         words TEXT NOT NULL, since_us INTEGER NOT NULL, first INTEGER NOT NULL, \
         last INTEGER NOT NULL, events INTEGER NOT NULL, pending BLOB NOT NULL, \
         PRIMARY KEY (route, into_table, key)) WITHOUT ROWID",
    )
}

/// Everything that a track has parked; `track` names its checkpoint.
pub(crate) fn read(c: &Connection, track: &str) -> Result<Vec<Parked>, Error> {
    let mut select = c.prepare(
        "SELECT into_table, key, shown, code, message, words, since_us, first, last, events, \
         pending FROM _rowcast_parked WHERE route = ?1",
    )?;
    let rows = select.query_map([track], |row| {
        let number = |column: usize| row.get::<_, i64>(column).map(|n| n as u64);
        let pending: Vec<u8> = row.get(10)?;
        let pending = Pending::decode(&pending)
            .map_err(|e| Error::FromSqlConversionFailure(10, Type::Blob, e.into()))?;
        Ok(Parked {
            table: row.get(0)?,
            key: row.get(1)?,
            shown: row.get(2)?,
            code: row.get(3)?,
            message: row.get(4)?,
            words: row.get(5)?,
            since: row.get(6)?,
            first: Offset(number(7)?),
            last: Offset(number(8)?),
            events: number(9)?,
            pending,
        })
    })?;
    rows.collect()
}

/// Notes the edits in the open transaction.
pub(super) fn write(c: &Connection, track: &str, edits: &[ParkEdit]) -> Result<(), Error> {
    for edit in edits {
        match edit {
            ParkEdit::Put(p) => {
                let put = "INSERT OR REPLACE INTO _rowcast_parked VALUES \
                           (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)";
                c.prepare_cached(put)?.execute(params![
                    track,
                    p.table,
                    p.key,
                    p.shown,
                    p.code,
                    p.message,
                    p.words,
                    p.since,
                    p.first.0 as i64,
                    p.last.0 as i64,
                    p.events as i64,
                    p.pending.encode(),
                ])?;
            }
            ParkEdit::Remove { table, key } => {
                let remove = "DELETE FROM _rowcast_parked \
                              WHERE route = ?1 AND into_table = ?2 AND key = ?3";
                c.prepare_cached(remove)?.execute(params![track, table, key])?;
            }
        }
    }
    Ok(())
}

/// Forgets what either track has parked of a copy that has to be built, inside a transaction.
pub(super) fn forget(c: &Connection, route: &RouteId, into: &str) -> Result<(), Error> {
    let forget = "DELETE FROM _rowcast_parked WHERE route IN (?1, ?2) AND into_table = ?3";
    let (main, side) = (member::key(route, Track::Main), member::key(route, Track::Side));
    c.execute(forget, params![main, side, into]).map(|_| ())
}

/// What the side track has parked is the main track's from here on, inside a transaction.
pub(super) fn join(c: &Connection, route: &RouteId) -> Result<(), Error> {
    let join = "UPDATE _rowcast_parked SET route = ?1 WHERE route = ?2";
    let (main, side) = (member::key(route, Track::Main), member::key(route, Track::Side));
    c.execute(join, params![main, side]).map(|_| ())
}
