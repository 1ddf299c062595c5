//! The checkpoint: one row for each route, in the target, moved in the transaction that writes the rows.

use super::errors::Who;
use super::{lanes, parked};
use crate::connect::{Fault, Session, fault};
use rowcast_core::{
    Checkpoint, Epoch, LogId, Offset, Position, Progress, RouteId, SinkError, Track,
};

/// What makes room for checkpoints; printed when we may not run it ourselves.
pub(super) const SETUP: &[&str] = &[
    "CREATE SCHEMA IF NOT EXISTS rowcast",
    "CREATE TABLE IF NOT EXISTS rowcast.checkpoint (route text PRIMARY KEY, log text NOT NULL, \
     epoch text, next bigint NOT NULL, position text, writer text, \
     updated_at timestamptz NOT NULL DEFAULT now()) WITH (fillfactor = 50)",
    "COMMENT ON TABLE rowcast.checkpoint IS 'How far Rowcast has brought each route; moved in the \
     same transaction as the rows'",
    "CREATE TABLE IF NOT EXISTS rowcast.member (route text, copy text, entity text NOT NULL, \
     definition text NOT NULL, state text NOT NULL, start bigint NOT NULL, log text NOT NULL, \
     build oid, relation oid, storage text, updated_at timestamptz NOT NULL DEFAULT now(), \
     PRIMARY KEY (route, copy))",
    "COMMENT ON TABLE rowcast.member IS 'Which copies the checkpoint of a route covers, and which \
     are being built beside them'",
    parked::TABLE,
];

/// What a table of an earlier Rowcast lacks.
const GROW: &str = "ALTER TABLE rowcast.member ADD COLUMN IF NOT EXISTS build oid, \
    ADD COLUMN IF NOT EXISTS relation oid, ADD COLUMN IF NOT EXISTS storage text";

/// Which row is ours, and how to tell ourselves from another writer.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub(super) route: RouteId,
    pub(super) track: Track,
    pub(super) log: LogId,
    /// Made anew for each sink. A checkpoint that carries it was moved by us.
    pub(super) writer: String,
    /// How many lanes carry it too. Should one not any more, then somebody else writes here.
    pub(super) claimed: u16,
}

impl Place {
    /// The checkpoint's name.
    pub(super) fn key(&self, track: Track) -> String {
        match track {
            Track::Main => self.route.to_string(),
            Track::Side => format!("{} (side)", self.route),
            Track::Lane(lane) => format!("{}{}/{})", self.lanes(), lane.index + 1, lane.of),
        }
    }

    /// How the names of all lanes' checkpoints begin.
    pub(super) fn lanes(&self) -> String {
        lanes::names(&self.route)
    }
}

/// Makes the table when it is missing, the row when it is missing, and reads it. Waits for a commit
/// of ours that an earlier, broken session may still be about.
pub(super) async fn read(
    session: &Session,
    place: &Place,
    who: &Who,
) -> Result<Checkpoint, SinkError> {
    ensure_table(session, who).await?;
    let route = place.key(place.track);
    let log = place.log.to_string();
    let read = async {
        let select =
            "SELECT log, epoch, next, position FROM rowcast.checkpoint WHERE route = $1 FOR UPDATE";
        if place.track != Track::Main {
            // Made, and taken away, by the main track and by the join.
            return session.query_opt(select, &[&route]).await;
        }
        let insert = "INSERT INTO rowcast.checkpoint (route, log, next) VALUES ($1, $2, 0) \
                      ON CONFLICT (route) DO NOTHING";
        session.execute(insert, &[&route, &log]).await?;
        let adopt = "UPDATE rowcast.checkpoint SET log = $2 \
                     WHERE route = $1 AND log <> $2 AND next = 0 AND epoch IS NULL";
        session.execute(adopt, &[&route, &log]).await?;
        session.query_one(select, &[&route]).await.map(Some)
    };
    let row = read.await.map_err(|e| who.statement("reading rowcast.checkpoint", e))?;
    let Some(row) = row else { return Ok(Checkpoint { next: Offset(0), position: None }) };
    let (stored, epoch): (String, Option<String>) = (row.get(0), row.get(1));
    if stored != log {
        return Err(other_log(who, &route, &stored, &log));
    }
    let next = u64::try_from(row.get::<_, i64>(2)).unwrap_or_default();
    let position: Option<String> = row.get(3);
    let position = match (epoch, position) {
        (None, _) => None,
        (Some(epoch), position) => {
            let position = position.unwrap_or_default();
            let read = read_epoch(&epoch).map(|e| Position::parse(e, &position));
            let Some(Ok(read)) = read else {
                let what = format!("its epoch {epoch:?} and position {position:?} are none");
                return Err(who.checkpoint(what, restart_copy(&route)));
            };
            Some(read)
        }
    };
    Ok(Checkpoint { next: Offset(next), position })
}

async fn ensure_table(session: &Session, who: &Who) -> Result<(), SinkError> {
    let found = "SELECT to_regnamespace('rowcast') IS NOT NULL, \
                 to_regclass('rowcast.checkpoint') IS NOT NULL, \
                 to_regclass('rowcast.member') IS NOT NULL, \
                 to_regclass('rowcast.parked') IS NOT NULL, \
                 EXISTS (SELECT FROM pg_attribute \
                         WHERE attrelid = to_regclass('rowcast.member') AND attname = 'storage')";
    let row = session.query_one(found, &[]).await;
    let row = row.map_err(|e| who.statement("looking for rowcast.checkpoint", e))?;
    // `IF NOT EXISTS` asks for the right to create even when there is nothing to create.
    let (member, grown): (bool, bool) = (row.get(2), row.get(4));
    let mut statements: Vec<_> = match (row.get(0), row.get(1), member, row.get(3)) {
        (_, true, true, true) if grown => return Ok(()),
        (false, ..) => SETUP.to_vec(),
        (true, checkpoint, member, parked) => {
            let (first, rest) = SETUP[1..].split_at(2);
            let (second, third) = rest.split_at(2);
            let missing = [(checkpoint, first), (member, second), (parked, third)];
            let missing = missing.into_iter().filter(|(there, _)| !there);
            missing.flat_map(|(_, statements)| statements.iter().copied()).collect()
        }
    };
    if member && !grown {
        statements.push(GROW);
    }
    let Err(error) = session.batch_execute(&statements.join(";")).await else { return Ok(()) };
    match (fault(&error), error.code().map(|c| c.code())) {
        // Two routes began at the same moment; the other one made it.
        (_, Some("23505" | "42P06" | "42P07" | "42710")) | (Fault::Outage, _) => {
            Err(who.unreachable(error))
        }
        _ => Err(who.setup(
            "there is no table rowcast.checkpoint, rowcast.member or rowcast.parked, and Rowcast may \
             not make it",
            format!(
                "run this as somebody who may: {}; then GRANT USAGE, CREATE ON SCHEMA rowcast and GRANT \
                 SELECT, INSERT, UPDATE, DELETE ON rowcast.checkpoint, rowcast.member, rowcast.parked to \
                 Rowcast's user",
                [SETUP, &[GROW]].concat().join("; ")
            ),
            Some(error.into()),
        )),
    }
}

pub(super) fn other_log(who: &Who, route: &str, stored: &str, log: &str) -> SinkError {
    who.checkpoint(format!("it counts in log {stored}, and this is log {log}"), restart_copy(route))
}

fn restart_copy(route: &str) -> String {
    let route = route.replace('\'', "''");
    format!(
        "start `rowcast run` with the data directory that wrote it; or, to have the copy built anew \
         from this log, beside the rows that are there, run this at the subscriber: \
         DELETE FROM rowcast.checkpoint WHERE route = '{route}'; then `rowcast resume {route}`"
    )
}

/// Prepares [`step`]. A checkpoint that is not where it should be raises an error (a division by
/// zero, the only one that plain SQL can raise), so that everything sent behind it fails too.
pub(super) fn prepare(place: &Place) -> String {
    if let Track::Lane(_) = place.track {
        return lanes::prepare(place);
    }
    format!(
        "PREPARE rowcast_step (bigint, text, text, bigint, text) AS WITH moved AS (\
         UPDATE rowcast.checkpoint SET next = $1, position = $2, epoch = $3, writer = {}, \
         updated_at = statement_timestamp() WHERE route = {} AND log = {} AND next = $4 \
         AND epoch IS NOT DISTINCT FROM $5 RETURNING 1) SELECT 1 / count(*) FROM moved",
        literal(&place.writer),
        literal(&place.key(place.track)),
        literal(&place.log.to_string()),
    )
}

pub(super) fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// Moves the checkpoint from `from` as the progress says.
pub(super) fn step(place: &Place, from: Checkpoint, progress: &Progress) -> String {
    let epoch = from.epoch().map_or("NULL".to_string(), |e| format!("'{e}'"));
    let Progress { next, position, .. } = progress;
    format!(
        "EXECUTE rowcast_step({next}, '{position}', '{}', {}, {epoch}){}",
        position.epoch,
        from.next,
        lanes::check(place)
    )
}

/// Why a step failed: another writer, or ourselves through a session that broke.
pub(super) async fn moved(
    session: &Session,
    place: &Place,
    from: Offset,
    who: &Who,
) -> Result<SinkError, tokio_postgres::Error> {
    if let Some(error) = lanes::lost(session, place, who).await? {
        return Ok(error);
    }
    let route = place.key(place.track);
    let select = "SELECT log, next, writer FROM rowcast.checkpoint WHERE route = $1";
    let Some(row) = session.query_opt(select, &[&route]).await? else {
        let what = "it was removed while the route ran";
        return Ok(who.checkpoint(what, "restart `rowcast run`: the copy is then built anew"));
    };
    let (log, next, writer): (String, i64, Option<String>) = (row.get(0), row.get(1), row.get(2));
    if log != place.log.to_string() {
        return Ok(other_log(who, &route, &log, &place.log.to_string()));
    }
    if writer.as_deref() == Some(&place.writer) {
        return Ok(who.unreachable("an earlier commit arrived after its session broke"));
    }
    Ok(who.checkpoint(
        format!(
            "it stands at {next}, where {from} was expected: somebody else writes to this copy"
        ),
        "stop the other `rowcast run` for this route, then resume this one",
    ))
}

pub(super) fn read_epoch(text: &str) -> Option<Epoch> {
    let (identity, birth) = text.split_once('-')?;
    let number = |t| u64::from_str_radix(t, 16).ok();
    Some(Epoch { identity: number(identity)?, birth: number(birth)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_epoch_reads_back_what_it_prints() {
        let epoch = Epoch { identity: 0xfeed_0000_0000_0001, birth: u64::MAX };
        assert_eq!(read_epoch(&epoch.to_string()), Some(epoch));
        assert_eq!(read_epoch("x"), None);
    }
}
