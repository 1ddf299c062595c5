//! What capture does by the clock: tell the server how far the log is, say that an idle source went
//! on, and give an idle database's log something of ours to pass.

use super::{
    CONFIRM_WITHIN, Capture, GUARD_EVERY, HEARTBEAT_BYTES, HEARTBEAT_EVERY, HEARTBEAT_WITHIN,
    POSITION_EVERY, PREFIX, SILENCE_MAX, STATUS_EVERY, Stop, tables::publishes,
};
use crate::source::catalog::{FILE, literal};
use crate::source::column_list;
use crate::source::leaves;
use crate::source::prepare::place;
use crate::source::publication::{Publication, slot_name};
use crate::source::wire::{Wire, WireError};
use bytes::{BufMut, BytesMut};
use rowcast_core::{Point, SourceError, SourceSpec};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Seconds from 1970 to 2000, where the server's clock begins.
const EPOCH_2000: Duration = Duration::from_secs(946_684_800);

impl Capture<'_> {
    /// Whatever is due.
    pub(super) async fn timers(&mut self) -> Result<(), Stop> {
        let now = Instant::now();
        if self.flow.asked || now >= self.status_due() {
            self.status().await?;
        }
        if now.duration_since(self.heard) > SILENCE_MAX && self.last_read == 0 {
            return Err(self.flow.trouble.lost("the server fell silent").into());
        }
        self.position(now).await?;
        if now >= self.guard_at {
            self.guard_at = now + GUARD_EVERY;
            self.guard().await;
            self.lists().await?;
        }
        if now >= self.heartbeat_at {
            self.heartbeat_at = now + HEARTBEAT_EVERY;
            self.heartbeat().await?;
        }
        Ok(())
    }

    /// Tells the server what became durable since it heard of us last, so that it keeps no more than
    /// it must, and so that an older copy of the log shows as what it is.
    pub(super) async fn farewell(&mut self) {
        if self.streams && self.task.confirmed.get() != self.confirmed_sent {
            // When it does not arrive the server sends again what the log will skip.
            let _ = self.status().await;
        }
    }

    pub(super) fn due(&self) -> Instant {
        let mut due = self.status_due().min(self.heartbeat_at).min(self.guard_at);
        if let Some(moved) = self.moved {
            due = due.min(moved + POSITION_EVERY);
        }
        due
    }

    pub(super) fn status_due(&self) -> Instant {
        let news = self.task.confirmed.get() != self.confirmed_sent;
        self.status_at + if news { CONFIRM_WITHIN } else { STATUS_EVERY }
    }

    /// A standby status update; asks for an answer, so that a dead server shows.
    pub(super) async fn status(&mut self) -> Result<(), Stop> {
        if !self.streams {
            // Nobody listens for it; the slot is moved on between two answers.
            self.status_at = Instant::now();
            return Ok(());
        }
        let confirmed = self.task.confirmed.get();
        let mut message = BytesMut::with_capacity(39);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let clock = now.saturating_sub(EPOCH_2000).as_micros() as i64;
        let quiet = self.status_at.elapsed() >= STATUS_EVERY;
        message.put_u8(b'd');
        message.put_u32(4 + 34);
        message.put_u8(b'r');
        message.put_u64(confirmed);
        message.put_u64(confirmed);
        message.put_u64(confirmed);
        message.put_i64(clock);
        message.put_u8(u8::from(quiet));
        let sent = self.wire.send(|out| {
            out.extend_from_slice(&message);
            Ok(())
        });
        sent.await.map_err(|e| self.lost(e))?;
        self.flow.asked = false;
        self.confirmed_sent = confirmed;
        self.status_at = Instant::now();
        Ok(())
    }

    /// Says that the source went on without events: soon, and at once after a message of ours.
    async fn position(&mut self, now: Instant) -> Result<(), Stop> {
        if !self.flow.assembler.has_silently_moved() {
            if self.flow.assembler.at_boundary() {
                self.moved = None;
                self.flow.prompt = false;
            }
            return Ok(());
        }
        let moved = *self.moved.get_or_insert(now);
        if self.flow.prompt || now >= moved + POSITION_EVERY {
            self.flow.prompt = false;
            self.hand_out().await?;
        }
        Ok(())
    }

    /// Moves an idle database's log on, and looks whether the published tables are what they were.
    async fn heartbeat(&mut self) -> Result<(), Stop> {
        let question = question(&self.task.spec);
        let asked = async {
            let wire = self.task.sql(&mut self.sql).await?;
            let beat = beat(wire, &question, self.wal).await;
            let beat = beat.map_err(|e| self.flow.trouble.wire("no heartbeat", e))?;
            let found = Publication::find(wire, &slot_name(&self.task.spec.service)).await;
            let found = found.map_err(|e| self.flow.trouble.wire("no heartbeat", e))?;
            Ok::<_, SourceError>((beat, found))
        };
        match tokio::time::timeout(HEARTBEAT_WITHIN, asked).await {
            Ok(Ok((beat, found))) => {
                self.wal = beat.wal;
                // The next start says what of.
                if found.is_none_or(|found| !publishes(&self.tables, &found)) {
                    return Err(Stop::Again);
                }
                if self.looked.as_ref() == Some(&beat.tables) {
                    self.horizon = beat.horizon;
                } else {
                    match self.look().await {
                        Ok(true) if !self.waits => self.looked = Some(beat.tables),
                        Ok(_) => {}
                        Err(Stop::Failed(error)) => return self.end_with(error).await,
                        Err(stop) => return Err(stop),
                    }
                }
            }
            // The stream tells when the server is gone; a heartbeat can wait.
            Ok(Err(error)) => {
                tracing::debug!(service = %self.task.spec.service, %error, "no heartbeat");
                self.sql = None;
            }
            Err(_) => self.sql = None,
        }
        Ok(())
    }
}

impl Capture<'_> {
    fn has_lists(&self) -> bool {
        let mut published = self.tables.iter().filter_map(|t| t.published.as_ref());
        published.any(|p| p.columns.is_some())
    }

    /// Sees to it that no column list of ours is in the way of the publisher's own updates and deletes.
    async fn lists(&mut self) -> Result<(), Stop> {
        if !self.has_lists() {
            return Ok(());
        }
        let name = slot_name(&self.task.spec.service);
        let asked = async {
            let wire = self.task.sql(&mut self.sql).await?;
            column_list::relieve(wire, &name, &self.flow.trouble).await
        };
        match tokio::time::timeout(HEARTBEAT_WITHIN, asked).await {
            Ok(Ok(true)) => Err(Stop::Again),
            Ok(Ok(false)) => Ok(()),
            Ok(Err(SourceError::Unreachable { .. })) | Err(_) => {
                self.sql = None;
                Ok(())
            }
            // The publisher's own statements fail: not to be kept to ourselves.
            Ok(Err(error)) => self.end_with(error).await,
        }
    }
}

struct Beat {
    wal: u64,
    /// Changes with anything that the catalog says of a published table.
    tables: String,
    /// Every transaction with a lower number had ended.
    horizon: u64,
}

/// What is asked with every beat.
fn question(spec: &SourceSpec) -> String {
    let places = spec.entities.iter().filter_map(|e| place(e).ok());
    let places = places.map(|(s, t)| format!("({},{})", literal(&s), literal(&t)));
    // A list that is never empty.
    let places = std::iter::once("(NULL,NULL)".to_string()).chain(places);
    let tables = format!(
        "SELECT c.oid, {FILE} AS file, c.relreplident, \
                (SELECT sum(a.xmin::text::bigint) FROM pg_attribute a \
                  WHERE a.attrelid = c.oid AND a.attnum > 0) \
                  + coalesce((SELECT sum(e.xmin::text::bigint) FROM pg_enum e), 0) AS columns, \
                (SELECT sum(i.indexrelid::bigint) FROM pg_index i \
                  WHERE i.indrelid = c.oid AND i.indisunique) AS keys, {} AS leaves \
         FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
         WHERE (n.nspname, c.relname) IN (VALUES {})",
        leaves::fingerprint(),
        places.collect::<Vec<_>>().join(",")
    );
    format!(
        "SELECT pg_current_wal_insert_lsn(), string_agg(concat_ws(' ', t.oid, t.file, \
         t.relreplident, t.columns, t.keys, t.leaves), ',' ORDER BY t.oid), \
         pg_snapshot_xmin(pg_current_snapshot()) FROM ({tables}) t"
    )
}

async fn beat(wire: &mut Wire, question: &str, wal: u64) -> Result<Beat, WireError> {
    let rows = wire.query(question).await?;
    let text = |i: usize| rows.first().and_then(|r| r.get(i)?.clone()).unwrap_or_default();
    let now = lsn(&text(0));
    let (tables, horizon) = (text(1), text(2).parse().unwrap_or_default());
    if now.saturating_sub(wal) < HEARTBEAT_BYTES {
        return Ok(Beat { wal, tables, horizon });
    }
    Ok(Beat { wal: emit(wire).await?, tables, horizon })
}

/// Writes a message of ours into the server's log; the place after it. Nobody has to wait for a
/// standby because of it.
pub(crate) async fn emit(wire: &mut Wire) -> Result<u64, WireError> {
    let sql = format!(
        "SET synchronous_commit = local; SELECT pg_logical_emit_message(true, {}, '')",
        literal(PREFIX)
    );
    let rows = wire.query(&sql).await?;
    Ok(lsn(rows.first().and_then(|r| r.first()?.as_deref()).unwrap_or_default()))
}

fn lsn(text: &str) -> u64 {
    text.parse::<Point>().map_or(0, Point::value)
}
