//! Lanes: further rows in the checkpoint table, one for each lane, and who may move them.
//!
//! Law: a lane's transaction holds the route's row, shared, from its first statement on. So the route
//! stands still while a lane is about to commit, and a lane that comes too late finds it elsewhere.

use super::apply::Live;
use super::checkpoint::{self, Place, literal};
use super::errors::Who;
use super::member::elsewhere;
use crate::connect::Session;
use rowcast_core::{Checkpoint, Claim, LANES_MAX, Lane, Lanes, Offset, RouteId, SinkError, Track};
use std::time::Duration;
use tokio_postgres::Error;

/// How often, and how many times, somebody who needs all lanes at one place looks for it.
pub(super) const LOOK: Duration = Duration::from_millis(20);
pub(super) const LOOKS_MAX: u32 = 500;

const READING: &str = "reading the lanes in rowcast.checkpoint";

/// A lane as its row has it.
struct Found {
    name: String,
    index: u16,
    of: u16,
    ours: bool,
    next: Offset,
}

/// How the names of all lanes' checkpoints begin.
pub(super) fn names(route: &RouteId) -> String {
    format!("{route} (lane ")
}

/// Prepares a lane's step; the same parameters as the route's.
pub(super) fn prepare(place: &Place) -> String {
    let log = literal(&place.log.to_string());
    format!(
        "PREPARE rowcast_step (bigint, text, text, bigint, text) AS WITH route AS (\
         SELECT FROM rowcast.checkpoint WHERE route = {} AND log = {log} AND next = $4 FOR SHARE), \
         moved AS (UPDATE rowcast.checkpoint SET next = $1, position = $2, epoch = $3, \
         updated_at = statement_timestamp() WHERE route = {} AND log = {log} AND writer = {} \
         AND next <= $4 AND EXISTS (SELECT FROM route) RETURNING 1) SELECT 1 / count(*) FROM moved",
        literal(&place.key(Track::Main)),
        literal(&place.key(place.track)),
        literal(&place.writer),
    )
}

/// What goes behind the route's step: fails when somebody else has claimed the lanes.
pub(super) fn check(place: &Place) -> String {
    if place.claimed == 0 {
        return String::new();
    }
    format!(
        "; SELECT 1 / (count(*) = {})::int FROM rowcast.checkpoint \
         WHERE starts_with(route, {}) AND writer = {}",
        place.claimed,
        literal(&place.lanes()),
        literal(&place.writer),
    )
}

/// Why a step failed, when the reason is that the lanes are no longer ours.
pub(super) async fn lost(
    session: &Session,
    place: &Place,
    who: &Who,
) -> Result<Option<SinkError>, Error> {
    let claimed = match place.track {
        Track::Main => place.claimed,
        Track::Side => 0,
        Track::Lane(lane) => lane.of,
    };
    if claimed == 0 {
        return Ok(None);
    }
    let select = "SELECT count(*) FROM rowcast.checkpoint \
                  WHERE starts_with(route, $1) AND writer = $2";
    let row = session.query_one(select, &[&place.lanes(), &place.writer]).await?;
    if row.get::<_, i64>(0) == i64::from(claimed) {
        return Ok(None);
    }
    Ok(Some(who.checkpoint(
        "somebody else has claimed its lanes: another `rowcast run` writes to this copy",
        "stop the other `rowcast run` for this route, then resume this one",
    )))
}

/// Takes the checkpoint's lock in a transaction that stays open, at a moment when all lanes are level.
pub(super) async fn hold(
    session: &Session,
    place: &Place,
    who: &Who,
) -> Result<Checkpoint, SinkError> {
    let refused = |e| who.statement("preparing the checkpoint", e);
    for _ in 0..LOOKS_MAX {
        session.batch_execute("BEGIN READ WRITE").await.map_err(refused)?;
        let checkpoint = checkpoint::read(session, place, who).await?;
        let ahead = format!(
            "SELECT FROM rowcast.checkpoint WHERE {} LIMIT 1",
            is_ahead(place, &checkpoint.next.to_string())
        );
        let ahead = session.query_opt(&ahead, &[]).await.map_err(|e| who.statement(READING, e))?;
        if ahead.is_none() {
            return Ok(checkpoint);
        }
        session.batch_execute("ROLLBACK").await.map_err(refused)?;
        tokio::time::sleep(LOOK).await;
    }
    Err(uneven(who))
}

/// The condition on a lane's row that is ahead of a checkpoint.
fn is_ahead(place: &Place, next: &str) -> String {
    let (lanes, log) = (literal(&place.lanes()), literal(&place.log.to_string()));
    format!("starts_with(route, {lanes}) AND log = {log} AND next > {next}")
}

/// Lanes that do not come to one place.
pub(super) fn uneven(who: &Who) -> SinkError {
    who.setup(
        "its lanes stand at different places, as an interrupted `rowcast run` left them",
        "start `rowcast run`: it brings them to one place",
        None,
    )
}

/// Claims the lanes for this writer.
pub(super) async fn claim(
    live: &mut Live,
    count: u16,
    claim: Claim,
    who: &Who,
) -> Result<Lanes, SinkError> {
    let at = live.committed().next;
    live.place.claimed = 0;
    let place = live.place.clone();
    let session = live.idle()?;
    let refused = |e| who.statement(READING, e);
    let lanes = place.lanes();
    if count <= 1 {
        let there = "SELECT FROM rowcast.checkpoint WHERE starts_with(route, $1) LIMIT 1";
        if session.query_opt(there, &[&lanes]).await.map_err(refused)?.is_none() {
            return Ok(Lanes { claim, places: Vec::new() });
        }
    }
    session.batch_execute("BEGIN READ WRITE").await.map_err(refused)?;
    let (route, log) = (place.key(Track::Main), place.log.to_string());
    // Written, not only locked: whoever waits for this row then sees the lanes as they are now.
    let compare = "UPDATE rowcast.checkpoint SET updated_at = statement_timestamp() \
                   WHERE route = $1 AND log = $2 RETURNING next";
    let row = session.query_opt(compare, &[&route, &log]).await.map_err(refused)?;
    let next = row.map(|row| row.get::<_, i64>(0));
    if next != Some(at.0 as i64) {
        return Err(elsewhere(who, next, at));
    }
    let found = found(session, &place).await.map_err(refused)?;
    let claimed = match ahead(&found, at) {
        Some(of) => keep(session, &place, (&found, of)).await,
        None => renew(session, &place, (count, at)).await,
    };
    let (places, claimed) = claimed.map_err(refused)?;
    session.batch_execute("COMMIT").await.map_err(refused)?;
    live.place.claimed = u16::try_from(claimed).unwrap_or(LANES_MAX);
    Ok(Lanes { claim, places })
}

/// The lanes that are there, locked; waits for those that are about to commit.
async fn found(session: &Session, place: &Place) -> Result<Vec<Found>, Error> {
    let prefix = place.lanes();
    let select = "SELECT route, log, next FROM rowcast.checkpoint WHERE starts_with(route, $1) \
                  ORDER BY route FOR UPDATE";
    let rows = session.query(select, &[&prefix]).await?;
    let log = place.log.to_string();
    let lane = |row: &tokio_postgres::Row| {
        let name: String = row.get(0);
        let (index, of) = name.strip_prefix(&prefix)?.strip_suffix(')')?.split_once('/')?;
        let (index, of): (u16, u16) = (index.parse().ok()?, of.parse().ok()?);
        let good = (1..=LANES_MAX).contains(&of) && (1..=of).contains(&index);
        let next = Offset(u64::try_from(row.get::<_, i64>(2)).unwrap_or_default());
        let (index, ours) = (index.wrapping_sub(1), row.get::<_, String>(1) == log);
        good.then_some(Found { name, index, of, ours, next })
    };
    Ok(rows.iter().filter_map(lane).collect())
}

/// Of how many lanes some are ahead.
fn ahead(found: &[Found], at: Offset) -> Option<u16> {
    found.iter().find(|lane| lane.ours && lane.next > at).map(|lane| lane.of)
}

/// Claims the lanes that are there; their places, and how many they are.
async fn keep(
    session: &Session,
    place: &Place,
    (found, of): (&[Found], u16),
) -> Result<(Vec<Offset>, usize), Error> {
    let mut places = vec![Offset(0); usize::from(of)];
    let mut names = Vec::new();
    for lane in found.iter().filter(|lane| lane.of == of && lane.ours) {
        places[usize::from(lane.index)] = lane.next;
        names.push(lane.name.as_str());
    }
    let claim = "UPDATE rowcast.checkpoint SET writer = $2 WHERE route = ANY($1)";
    session.execute(claim, &[&names, &place.writer]).await?;
    Ok((places, names.len()))
}

/// Makes lanes anew, all of them where the route is.
async fn renew(
    session: &Session,
    place: &Place,
    (count, at): (u16, Offset),
) -> Result<(Vec<Offset>, usize), Error> {
    let delete = "DELETE FROM rowcast.checkpoint WHERE starts_with(route, $1)";
    session.execute(delete, &[&place.lanes()]).await?;
    let of = if count > 1 { count } else { 0 };
    let lane = |index| Track::Lane(Lane { index, of, claim: Claim::default() });
    let names: Vec<_> = (0..of).map(|index| place.key(lane(index))).collect();
    let insert = "INSERT INTO rowcast.checkpoint (route, log, next, writer) \
                  SELECT name, $2::text, $3::bigint, $4::text FROM unnest($1::text[]) AS name";
    let log = place.log.to_string();
    session.execute(insert, &[&names, &log, &(at.0 as i64), &place.writer]).await?;
    Ok((vec![at; usize::from(of)], names.len()))
}
