//! A deep backlog, asked for in large answers instead of being streamed: a server that streams sends
//! every message by itself, which costs it more than decoding it.
//!
//! Law: nothing is taken from the slot but what the log holds. Answers are taken from a copy of the
//! slot that lives as long as they do; the slot itself is moved on only to what was made durable.

use super::super::flow::Peek;
use super::super::prepare::Prepare;
use super::super::publication::slot_name;
use super::super::trouble::Trouble;
use super::super::wire::Wire;
use super::{Capture, Stop};
use crate::source::catalog::literal;
use rowcast_core::{Point, quote};
use std::time::{Duration, Instant};
use tracing::info;

/// Bytes of the server's log from which on a backlog is deep. Most of a stream's answers would be
/// sent before the first of ours is ready.
const DEEP: u64 = 32 << 20;
/// Messages of one answer, and the rest of a transaction that goes on. The server keeps an answer
/// on its disk while it sends it, so it stays small; each costs reading again from where the slot
/// may begin, so it is not smaller.
const MESSAGES: u32 = 400_000;
/// Bytes of the server's log that the last answer may take up, however many messages they are: what
/// is left to the stream waits until that has read everything once more.
const LAST: u64 = 256 << 20;
/// Bytes of the server's log after which the slot is moved on, so that the server may let go of them. That
/// costs reading them again.
const MOVE_EVERY: u64 = 512 << 20;
/// Longest to wait for the log before the next answer; a stream need not wait.
const DURABLE_WITHIN: Duration = Duration::from_secs(10);

/// Whether the server's log goes on far beyond a place. When that cannot be said, it does not.
pub(crate) async fn is_deep(sql: &mut Wire, from: Point) -> bool {
    left(sql, from).await > DEEP
}

/// Bytes of the server's log beyond a place; none when that cannot be said.
async fn left(sql: &mut Wire, from: Point) -> u64 {
    let question = format!("SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), '{from}')");
    let rows = sql.query(&question).await.unwrap_or_default();
    let left = rows.first().and_then(|r| r.first()?.as_deref()?.parse().ok());
    left.unwrap_or_default()
}

impl Capture<'_> {
    /// Takes the backlog, answer by answer, and begins the stream behind it.
    pub(super) async fn work_off(&mut self) -> Result<(), Stop> {
        self.open_history().await?;
        let copy = self.copy_slot().await?;
        let service = self.task.spec.service.clone();
        info!(%service, "takes a deep backlog in large answers");
        let (mut answers, mut moved) = (0, self.reached());
        let mut limit = Some(MESSAGES);
        loop {
            let before = self.reached();
            self.answer(&copy, limit).await?;
            answers += 1;
            let taken = self.reached().saturating_sub(before);
            let left = self.left().await?;
            // All of it was somebody else's, or little enough for the stream.
            if taken == 0 || left <= DEEP {
                break;
            }
            limit = (left > LAST.min(taken + taken / 2)).then_some(MESSAGES);
            if self.reached().saturating_sub(moved) > MOVE_EVERY {
                // Nobody confirms.
                if !self.made_durable().await? {
                    break;
                }
                moved = self.reached();
            }
        }
        self.drop_copy(&copy).await?;
        info!(%service, answers, "took a deep backlog; streaming from here on");
        let trouble = Trouble(service);
        let (address, spec) = (&self.task.address, &self.task.spec);
        let prepare = Prepare { address, spec, trouble: &trouble, peeks: false };
        let from = self.flow.assembler.reached().point;
        let sql = self.task.sql(&mut self.sql).await?;
        prepare.begin_stream(sql, &mut self.wire, from).await?;
        self.heard = Instant::now();
        self.streams = true;
        Ok(())
    }

    fn reached(&self) -> u64 {
        self.flow.assembler.reached().point.value()
    }

    async fn left(&mut self) -> Result<u64, Stop> {
        let from = self.flow.assembler.reached().point;
        let sql = self.task.sql(&mut self.sql).await?;
        Ok(left(sql, from).await)
    }

    /// A slot that stands where ours does and ends with the connection. What is taken from it is not
    /// taken from ours, and to take is cheaper than to look and to move on afterwards.
    async fn copy_slot(&mut self) -> Result<String, Stop> {
        let slot = slot_name(&self.task.spec.service);
        let copy = format!("{slot}_{:08x}", rand::random::<u32>());
        let make = format!(
            "SELECT pg_catalog.pg_copy_logical_replication_slot({}, {}, true)",
            literal(&slot),
            literal(&copy)
        );
        match self.wire.query(&make).await {
            Ok(_) => Ok(copy),
            Err(error) => Err(self.no_answer(&error)),
        }
    }

    async fn drop_copy(&mut self, copy: &str) -> Result<(), Stop> {
        let drop = format!("SELECT pg_catalog.pg_drop_replication_slot({})", literal(copy));
        match self.wire.query(&drop).await {
            Ok(_) => Ok(()),
            // With the connection it goes as well.
            Err(error) => Err(self.no_answer(&error)),
        }
    }

    /// One answer, handed out.
    async fn answer(&mut self, copy: &str, limit: Option<u32>) -> Result<(), Stop> {
        let publication = literal(&quote(&slot_name(&self.task.spec.service)));
        let limit = limit.map_or_else(|| "NULL".into(), |limit| limit.to_string());
        let question = format!(
            "COPY (SELECT data FROM pg_catalog.pg_logical_slot_get_binary_changes({}, NULL, \
             {limit}, 'proto_version', '1', 'publication_names', {publication}, 'messages', \
             'true')) TO STDOUT (FORMAT binary)",
            literal(copy)
        );
        // Every answer tells its relations anew.
        self.flow.relations.clear();
        if let Err(error) = self.wire.stream(&question).await {
            return Err(self.no_answer(&error));
        }
        self.flow.peek = Some(Peek::default());
        loop {
            // What came with the first word of the answer waits already.
            self.drain().await?;
            if self.flow.peek.as_ref().is_none_or(|p| p.over) {
                break;
            }
            self.wire.fill().await.map_err(|e| self.lost(e))?;
        }
        let refused = self.flow.peek.take().and_then(|p| p.refused);
        self.flow.relations.clear();
        self.flow.behind = 0;
        if let Some(error) = refused {
            return Err(self.no_answer(&error.into()));
        }
        let assembler = &self.flow.assembler;
        if !assembler.is_empty() || assembler.has_silently_moved() {
            self.hand_out().await?;
        }
        Ok(())
    }

    /// Waits until the log holds what was handed out, and moves the slot on to there. Says whether it
    /// came to that.
    async fn made_durable(&mut self) -> Result<bool, Stop> {
        let upto = self.flow.assembler.handed().point;
        let durable = self.task.confirmed.reached(upto.value());
        if tokio::time::timeout(DURABLE_WITHIN, durable).await.is_err() {
            return Ok(false);
        }
        let slot = literal(&slot_name(&self.task.spec.service));
        // Refused when the slot stands there already.
        let advance = format!(
            "SELECT pg_catalog.pg_replication_slot_advance(slot_name, '{upto}') \
             FROM pg_catalog.pg_replication_slots \
             WHERE slot_name = {slot} AND confirmed_flush_lsn < '{upto}'"
        );
        match self.wire.query(&advance).await {
            Ok(_) => {
                self.confirmed_sent = upto.value();
                Ok(true)
            }
            Err(error) => Err(self.no_answer(&error)),
        }
    }

    /// The stream takes over: what is really wrong shows there, in the words for it.
    fn no_answer(&mut self, error: &super::super::wire::WireError) -> Stop {
        info!(service = %self.task.spec.service, %error, "the backlog is streamed instead");
        self.task.peeks = false;
        Stop::Again
    }
}
