//! What capture does by the clock: tell the server how far the log is, say that an idle source went
//! on, and give an idle database's log something of ours to pass.

use super::{
    CONFIRM_WITHIN, Capture, HEARTBEAT_BYTES, HEARTBEAT_EVERY, HEARTBEAT_WITHIN, POSITION_EVERY,
    PREFIX, SILENCE_MAX, STATUS_EVERY, Stop,
};
use crate::source::catalog::literal;
use crate::source::wire::{Wire, WireError};
use bytes::{BufMut, BytesMut};
use rowcast_core::{Point, SourceError};
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
        if now >= self.heartbeat_at {
            self.heartbeat_at = now + HEARTBEAT_EVERY;
            self.heartbeat().await?;
        }
        Ok(())
    }

    /// Tells the server what became durable since it heard of us last, so that it keeps no more than
    /// it must, and so that an older copy of the log shows as what it is.
    pub(super) async fn farewell(&mut self) {
        if self.task.confirmed.get() != self.confirmed_sent {
            // When it does not arrive the server sends again what the log will skip.
            let _ = self.status().await;
        }
    }

    pub(super) fn due(&self) -> Instant {
        let mut due = self.status_due().min(self.heartbeat_at);
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

    /// Moves an idle database's log on, and looks whether the published tables are still there.
    async fn heartbeat(&mut self) -> Result<(), Stop> {
        let oids: Vec<_> = self.tables.iter().map(|t| t.oid.to_string()).collect();
        let oids = format!("'{{{}}}'::oid[]", oids.join(","));
        let question = async {
            let wire = self.task.sql(&mut self.sql).await?;
            beat(wire, &oids, self.wal).await.map_err(|e| self.flow.trouble.wire("no heartbeat", e))
        };
        match tokio::time::timeout(HEARTBEAT_WITHIN, question).await {
            Ok(Ok(beat)) => {
                self.wal = beat.wal;
                let gone = |t: &&super::super::catalog::Table| beat.missing.contains(&t.oid);
                match self.tables.iter().find(gone).map(|t| t.oid) {
                    Some(oid) => Err(self.dropped(oid).into()),
                    None => Ok(()),
                }
            }
            // The stream tells when the server is gone; a heartbeat can wait.
            Ok(Err(error)) => {
                tracing::debug!(service = %self.task.spec.service, %error, "no heartbeat");
                self.sql = None;
                Ok(())
            }
            Err(_) => {
                self.sql = None;
                Ok(())
            }
        }
    }

    fn dropped(&self, oid: u32) -> SourceError {
        let entity = self.tables.iter().position(|t| t.oid == oid).unwrap_or_default();
        SourceError::Schema {
            service: self.task.spec.service.clone(),
            entity: self.task.spec.entities[entity].entity.clone(),
            what: format!("table {} was dropped", self.tables[entity].sql()),
            help: "create it again, or take the entity out of the configuration".into(),
        }
    }
}

struct Beat {
    wal: u64,
    missing: Vec<u32>,
}

async fn beat(wire: &mut Wire, oids: &str, wal: u64) -> Result<Beat, WireError> {
    let sql = format!(
        "SELECT pg_current_wal_insert_lsn(), (SELECT string_agg(o::text, ',') \
         FROM unnest({oids}) o WHERE NOT EXISTS (SELECT FROM pg_class c WHERE c.oid = o))"
    );
    let rows = wire.query(&sql).await?;
    let text = |i: usize| rows.first().and_then(|r| r.get(i)?.clone()).unwrap_or_default();
    let now = lsn(&text(0));
    let missing = text(1).split(',').filter_map(|o| o.parse().ok()).collect();
    if now.saturating_sub(wal) < HEARTBEAT_BYTES {
        return Ok(Beat { wal, missing });
    }
    Ok(Beat { wal: emit(wire).await?, missing })
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
