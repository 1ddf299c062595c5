//! The checkpoint: compared before it is set, in the transaction that writes the rows.

use rowcast_core::{
    Checkpoint, Epoch, LogId, Offset, Point, Position, Progress, RouteId, SinkError,
};
use rusqlite::{Connection, Error, OptionalExtension, params};

pub(super) fn make_table(c: &Connection) -> Result<(), Error> {
    c.execute_batch(
        "CREATE TABLE IF NOT EXISTS _rowcast_checkpoint (route TEXT PRIMARY KEY, \
         log TEXT NOT NULL, next INTEGER NOT NULL, identity TEXT NOT NULL, birth INTEGER NOT NULL, \
         position TEXT NOT NULL, updated TEXT NOT NULL) WITHOUT ROWID",
    )
}

/// Whose checkpoint it is, and where it stands.
pub(crate) type Found = (LogId, Checkpoint);

pub(crate) fn read(c: &Connection, key: &str) -> Result<Option<Found>, Error> {
    let find =
        "SELECT log, next, identity, birth, position FROM _rowcast_checkpoint WHERE route = ?1";
    let mut find = c.prepare_cached(find)?;
    let found = find.query_row([key], |row| {
        let number = |i| -> Result<u64, Error> {
            let text: String = row.get(i)?;
            // What does not read was written by somebody else: a number that matches nothing.
            Ok(u64::from_str_radix(&text, 16).unwrap_or(0))
        };
        let birth = row.get::<_, i64>(3)? as u64;
        let epoch = Epoch { identity: number(2)?, birth };
        let next = Offset(row.get::<_, i64>(1)? as u64);
        let nowhere = Position::new(epoch, Point::Sequence(u64::MAX));
        let position: String = row.get(4)?;
        // A side track that has not begun stands somewhere without having been there.
        let position =
            (!position.is_empty()).then(|| Position::parse(epoch, &position).unwrap_or(nowhere));
        Ok((LogId(number(0)?), Checkpoint { next, position }))
    });
    found.optional()
}

pub(super) fn of_another_log(route: &RouteId, found: LogId, here: LogId) -> SinkError {
    let help = format!(
        "start `rowcast run` with the data directory that wrote it; or, to have the copy built anew \
         from this log, beside the rows that are there, run this in the subscriber's file: \
         DELETE FROM _rowcast_checkpoint WHERE route = '{route}'; then `rowcast resume {route}`"
    );
    SinkError::other_log(route.clone(), found, here, help)
}

/// Refuses unless the target stands where we left it and where this step begins.
pub(super) fn compare(
    route: &RouteId,
    here: Option<Found>,
    (log, known): Found,
    from: Offset,
) -> Result<(), SinkError> {
    let moved = |what: String| SinkError::Checkpoint {
        route: route.clone(),
        what,
        help: "another `rowcast run` writes this copy, perhaps from a copy of this data \
               directory: keep one of them running, then restart it"
            .into(),
    };
    let checkpoint = match here {
        None => Checkpoint { next: Offset(0), position: None },
        Some((found, _)) if found != log => return Err(of_another_log(route, found, log)),
        Some((_, checkpoint)) => checkpoint,
    };
    if checkpoint.next != from {
        return Err(moved(format!("it stands at {}, not at {from}", checkpoint.next)));
    }
    if checkpoint.epoch() != known.epoch() {
        return Err(moved("it was written for another history of the source".into()));
    }
    Ok(())
}

/// Makes a side track's checkpoint, unless there is one.
pub(super) fn open(c: &Connection, key: &str, log: LogId, at: Offset) -> Result<(), Error> {
    let make = "INSERT OR IGNORE INTO _rowcast_checkpoint VALUES (?1, ?2, ?3, '', 0, '', \
                strftime('%Y-%m-%d %H:%M:%f', 'now'))";
    c.execute(make, params![key, log.to_string(), at.0 as i64])?;
    Ok(())
}

pub(super) fn write(
    c: &Connection,
    key: &str,
    log: LogId,
    progress: &Progress,
) -> Result<Checkpoint, Error> {
    let epoch = progress.position.epoch;
    let write = "INSERT INTO _rowcast_checkpoint VALUES (?1, ?2, ?3, ?4, ?5, ?6, \
                 strftime('%Y-%m-%d %H:%M:%f', 'now')) \
                 ON CONFLICT (route) DO UPDATE SET log = excluded.log, next = excluded.next, \
                 identity = excluded.identity, birth = excluded.birth, \
                 position = excluded.position, updated = excluded.updated";
    c.prepare_cached(write)?.execute(params![
        key,
        log.to_string(),
        progress.next.0 as i64,
        format!("{:016x}", epoch.identity),
        epoch.birth as i64,
        progress.position.to_string(),
    ])?;
    Ok(Checkpoint { next: progress.next, position: Some(progress.position) })
}
