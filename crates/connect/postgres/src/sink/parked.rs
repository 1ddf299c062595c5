//! Parked keys, in the target beside the checkpoint, noted in the transaction that writes the rows.

use super::checkpoint::Place;
use super::errors::{LACKS_LABEL, Who};
use crate::connect::Session;
use rowcast_core::{Offset, ParkEdit, Parked, Pending, SinkError, Track};
use tokio_postgres::Error;
use tokio_postgres::types::ToSql;

/// Makes room for parked keys.
pub(super) const TABLE: &str = "CREATE TABLE IF NOT EXISTS rowcast.parked (route text NOT NULL, \
    into_table text NOT NULL, key bytea NOT NULL, shown text NOT NULL, code text NOT NULL, \
    message text NOT NULL, words text NOT NULL, since_us bigint NOT NULL, \
    first bigint NOT NULL, last bigint NOT NULL, events bigint NOT NULL, pending bytea NOT NULL, \
    PRIMARY KEY (route, into_table, key))";

const SELECT: &str = "SELECT into_table, key, shown, code, message, words, since_us, first, last, \
    events, pending FROM rowcast.parked WHERE route = $1";

const PUT: &str = "INSERT INTO rowcast.parked (route, into_table, key, shown, code, message, words, \
    since_us, first, last, events, pending) SELECT $1, * FROM unnest($2::text[], $3::bytea[], \
    $4::text[], $5::text[], $6::text[], $7::text[], $8::bigint[], $9::bigint[], $10::bigint[], \
    $11::bigint[], $12::bytea[]) ON CONFLICT (route, into_table, key) DO UPDATE SET \
    shown = EXCLUDED.shown, code = EXCLUDED.code, message = EXCLUDED.message, \
    words = EXCLUDED.words, since_us = EXCLUDED.since_us, first = EXCLUDED.first, \
    last = EXCLUDED.last, events = EXCLUDED.events, pending = EXCLUDED.pending";

const REMOVE: &str = "DELETE FROM rowcast.parked AS p USING unnest($2::text[], $3::bytea[]) \
    AS u (into_table, key) WHERE p.route = $1 AND p.into_table = u.into_table AND p.key = u.key";

/// Everything that the sink's track has parked.
pub(super) async fn read(
    session: &Session,
    place: &Place,
    who: &Who,
) -> Result<Vec<Parked>, SinkError> {
    let rows = session.query(SELECT, &[&place.key(place.track)]).await;
    let rows = rows.map_err(|e| who.statement("reading rowcast.parked", e))?;
    let parked = rows.iter().map(|row| {
        let number = |column: usize| row.get::<_, i64>(column) as u64;
        let shown: String = row.get(2);
        let pending = Pending::decode(row.get(10)).map_err(|_| {
            let what = format!("rowcast.parked holds something unknown for key {shown}");
            let help = "a newer version wrote it: run that one; or delete the row";
            who.setup(what, help, None)
        })?;
        Ok(Parked {
            table: row.get(0),
            key: row.get(1),
            shown,
            code: row.get(3),
            message: row.get(4),
            words: row.get(5),
            since: row.get(6),
            first: Offset(number(7)),
            last: Offset(number(8)),
            events: number(9),
            pending,
        })
    });
    parked.collect()
}

/// Notes the edits in the open transaction.
pub(super) async fn write(
    session: &Session,
    place: &Place,
    edits: &[ParkEdit],
) -> Result<(), Error> {
    let route = place.key(place.track);
    let (mut puts, mut tables, mut keys) = (Vec::new(), Vec::new(), Vec::new());
    for edit in edits {
        match edit {
            ParkEdit::Put(parked) => puts.push(parked.as_ref()),
            ParkEdit::Remove { table, key } => {
                tables.push(table.as_str());
                keys.push(key.as_slice());
            }
        }
    }
    if !tables.is_empty() {
        session.execute(REMOVE, &[&route, &tables, &keys]).await?;
    }
    if puts.is_empty() {
        return Ok(());
    }
    // PostgreSQL's text has no NUL, which a key from elsewhere may have.
    let texts = |of: fn(&Parked) -> &String| -> Vec<String> {
        puts.iter().map(|p| of(p).replace('\0', "\u{fffd}")).collect()
    };
    let numbers = |of: fn(&Parked) -> i64| -> Vec<i64> { puts.iter().map(|p| of(p)).collect() };
    let tables: Vec<&str> = puts.iter().map(|p| p.table.as_str()).collect();
    let keys: Vec<&[u8]> = puts.iter().map(|p| p.key.as_slice()).collect();
    let pending: Vec<Vec<u8>> = puts.iter().map(|p| p.pending.encode()).collect();
    let (shown, code) = (texts(|p| &p.shown), texts(|p| &p.code));
    let (message, words) = (texts(|p| &p.message), texts(|p| &p.words));
    let (since, first) = (numbers(|p| p.since), numbers(|p| p.first.0 as i64));
    let (last, events) = (numbers(|p| p.last.0 as i64), numbers(|p| p.events as i64));
    let params: [&(dyn ToSql + Sync); 12] = [
        &route, &tables, &keys, &shown, &code, &message, &words, &since, &first, &last, &events,
        &pending,
    ];
    session.execute(PUT, &params).await.map(|_| ())
}

/// Forgets what either track has parked of a copy that has to be built, in the open transaction.
pub(super) async fn forget(session: &Session, place: &Place, into: &str) -> Result<(), Error> {
    let forget = "DELETE FROM rowcast.parked WHERE route IN ($1, $2) AND into_table = $3";
    let (main, side) = (place.key(Track::Main), place.key(Track::Side));
    session.execute(forget, &[&main, &side, &into]).await.map(|_| ())
}

/// A copy of which the side track has parked a row because its type lacks a value, among these.
pub(super) async fn lacks_label(
    session: &Session,
    place: &Place,
    copies: &[String],
) -> Result<Option<String>, Error> {
    let find = "SELECT into_table FROM rowcast.parked WHERE route = $1 \
                AND starts_with(message, $2) AND into_table = ANY ($3) LIMIT 1";
    // Not every encoding has the characters behind it.
    let said = LACKS_LABEL.split(':').next().unwrap_or_default();
    let found = session.query_opt(find, &[&place.key(Track::Side), &said, &copies]).await?;
    Ok(found.map(|row| row.get(0)))
}

/// What the side track has parked is the main track's from here on, in the open transaction.
pub(super) async fn join(session: &Session, place: &Place) -> Result<(), Error> {
    let join = "UPDATE rowcast.parked SET route = $1 WHERE route = $2";
    let (main, side) = (place.key(Track::Main), place.key(Track::Side));
    session.execute(join, &[&main, &side]).await.map(|_| ())
}
