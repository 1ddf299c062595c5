//! Where a copy begins that does not begin at the beginning, in offsets of the log.
//!
//! Law: from there on the log holds every change of the entity, deletes too, and a transaction begins
//! there. To begin earlier than was asked for does no harm: changes apply twice to the same end.

use rowcast_core::{
    Begin, ByteSize, EntityName, Entry, EventLog, LogError, Offset, Point, Position, ServiceName,
    Stored, Tail,
};
use std::slice;
use std::time::Duration;

/// Says where `now` is for a subscription that begins there and does not know.
///
/// # Errors
/// When the log cannot be read.
pub async fn begin_now(entry: &mut Entry, log: &dyn EventLog) -> Result<(), LogError> {
    if entry.subscription.from == Begin::Now(None) {
        entry.subscription.from = Begin::Now(Some(log.tail(&entry.from).await?.next));
    }
    Ok(())
}

/// The offset from which on a copy of `entity` takes events.
///
/// # Errors
/// [`LogError::Older`] when the log no longer holds everything from there on, [`LogError::NotYet`]
/// when it has not come that far.
pub(crate) async fn start(
    log: &dyn EventLog,
    (stream, entity): (&ServiceName, &EntityName),
    begin: Begin,
) -> Result<Offset, LogError> {
    if begin == Begin::Beginning {
        return Ok(Offset(0));
    }
    let tail = log.tail(stream).await?;
    let from = Place { log, stream, entity, begin, tail };
    let available = from.available()?;
    let at = match begin {
        Begin::Beginning => Offset(0),
        Begin::Now(at) => at.unwrap_or(from.tail.next),
        Begin::Offset(at) => at,
        Begin::Position(point) => from.find(available, point).await?,
    };
    if at > from.tail.next {
        return Err(from.not_yet(format!("it ends at offset {}", from.tail.next)));
    }
    if at < available {
        return Err(from.older(available).await?);
    }
    Ok(from.whole(at).await?.max(available))
}

/// As [`start`], and waits for the log to come that far. Not to an offset: those are its own, so one
/// that it has not come to is a mistake, where a position may have been there a moment ago.
pub(crate) async fn start_soon(
    log: &dyn EventLog,
    (stream, entity): (&ServiceName, &EntityName),
    begin: Begin,
    within: Duration,
) -> Result<Offset, LogError> {
    let until = tokio::time::Instant::now() + within;
    loop {
        let Tail { next, position, .. } = log.tail(stream).await?;
        let error = match start(log, (stream, entity), begin).await {
            Err(error @ LogError::NotYet { .. }) => error,
            other => return other,
        };
        let ahead = matches!(begin, Begin::Offset(at) if at > next);
        if ahead || tokio::time::timeout_at(until, log.moved(stream, position)).await.is_err() {
            return Err(error);
        }
    }
}

struct Place<'a> {
    log: &'a dyn EventLog,
    stream: &'a ServiceName,
    entity: &'a EntityName,
    begin: Begin,
    tail: Tail,
}

impl Place<'_> {
    /// From where on the log holds everything.
    fn available(&self) -> Result<Offset, LogError> {
        let kept = self.tail.first.max(self.tail.complete_history);
        if self.begin.is_now() {
            return Ok(kept);
        }
        let complete = self.tail.complete_from(self.entity);
        let complete = complete.ok_or_else(|| {
            self.not_yet(format!("the rows of {} are still being read", self.entity))
        })?;
        Ok(kept.max(complete))
    }

    fn not_yet(&self, reached: String) -> LogError {
        let (stream, wanted) = (self.stream.clone(), self.begin);
        LogError::NotYet { stream, wanted, reached }
    }

    async fn older(&self, available: Offset) -> Result<LogError, LogError> {
        let position = self.position(available).await?;
        let (stream, entity) = (self.stream.clone(), self.entity.clone());
        Ok(LogError::Older { stream, entity, wanted: self.begin, available, position })
    }

    /// The batch that holds an offset before the end.
    async fn batch(&self, at: Offset) -> Result<Option<Stored>, LogError> {
        let chunk = self.log.read(self.stream, at, ByteSize(1)).await?;
        Ok(chunk.batches.into_iter().find(|stored| stored.end() > at))
    }

    /// The source's position at an offset, as exact as the log says; `None` at its beginning.
    async fn position(&self, at: Offset) -> Result<Option<Position>, LogError> {
        let Some(last) = at.0.checked_sub(1).filter(|last| *last >= self.tail.first.0) else {
            return Ok(None);
        };
        let stored = self.batch(Offset(last)).await?;
        Ok(stored.map(|stored| crate::deliver::position_at(&[stored], at)))
    }

    /// The last place for which everything before it was committed before `point`.
    async fn find(&self, available: Offset, point: Point) -> Result<Offset, LogError> {
        let Some(end) = self.tail.position else {
            return Err(self.not_yet("it is empty".into()));
        };
        if std::mem::discriminant(&end.point) != std::mem::discriminant(&point) {
            let (stream, wanted) = (self.stream.clone(), self.begin);
            return Err(LogError::Foreign { stream, wanted, example: end.point });
        }
        if !end.covers(point) {
            return Err(self.not_yet(format!("it has come to {end}")));
        }
        let first = self.position(available).await?;
        if first.is_some_and(|p| p.epoch.goes_on_in(&end.epoch) && p.point.value() > point.value())
        {
            return Err(self.older(available).await?);
        }
        let (mut low, mut high) = (available, self.tail.next);
        let mut found = None;
        while low < high {
            let middle = Offset(low.0 + (high.0 - low.0) / 2);
            let Some(stored) = self.batch(middle).await? else { break };
            if stored.batch.until.point.value() > point.value() {
                high = stored.base.max(low);
                found = Some(stored);
            } else {
                low = stored.end();
            }
        }
        Ok(found.map_or(self.tail.next, |stored| before(&stored, point)).max(available))
    }

    /// The beginning of the transaction that `at` lies in. What compaction left has none.
    async fn whole(&self, mut at: Offset) -> Result<Offset, LogError> {
        while let Some(last) = at.0.checked_sub(1).filter(|last| *last >= self.tail.first.0) {
            let Some(stored) = self.batch(Offset(last)).await? else { break };
            if stored.batch.sparse.is_some()
                || crate::deliver::ends_at(slice::from_ref(&stored), at)
            {
                break;
            }
            at =
                begins(&stored).take_while(|(_, begin)| begin.0 <= last).last().map_or(at, |b| b.1);
        }
        Ok(at)
    }
}

/// Where transactions commit, and where in the batch they begin.
fn begins(stored: &Stored) -> impl Iterator<Item = (Point, Offset)> {
    let mut next = stored.base.0;
    stored.batch.transactions.iter().map(move |t| {
        let begin = next;
        next += u64::from(t.events);
        (t.at, Offset(begin))
    })
}

/// The last beginning in a batch that everything committed before `point` lies behind.
fn before(stored: &Stored, point: Point) -> Offset {
    if stored.batch.sparse.is_some() {
        return stored.base;
    }
    let early = begins(stored).take_while(|(at, _)| at.value() <= point.value());
    early.last().map_or(stored.base, |(_, begin)| begin)
}
