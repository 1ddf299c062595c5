//! When an entity is read again: the live copy stays as it is, and a new one is built beside it.

use super::Track;
use crate::trouble::Trouble;
use rowcast_core::{
    Chunk, EntityName, LogId, Mark, Member, Membership, Offset, SideMark, Subscription,
};

/// The first transaction of a chunk in which entities are read again.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Anew {
    /// Where it begins; no later than where the track stands when it began before the chunk.
    begins: Offset,
    /// Which entities, and where their new reading begins.
    entities: Vec<(EntityName, Offset)>,
}

/// Looks for the mark of a new reading of what somebody has subscribed to, from `at` on.
pub(super) fn first(chunk: &Chunk, at: Offset, live: &[Subscription]) -> Option<Anew> {
    let mut begins = Offset(0);
    let mut goes_on = false;
    let mut entities: Vec<(EntityName, Offset)> = Vec::new();
    for stored in &chunk.batches {
        let batch = &stored.batch;
        let mut index = 0;
        for transaction in &batch.transactions {
            if !goes_on {
                begins = stored.offset(index);
            }
            for event in &batch.events[index..index + transaction.events as usize] {
                let offset = stored.offset(index);
                index += 1;
                if offset < at || !batch.is_anew(event) {
                    continue;
                }
                let entity = &batch.schema(event).entity;
                let wanted = live.iter().any(|s| s.entity == *entity && !s.from.is_now());
                if wanted && !entities.iter().any(|(e, _)| e == entity) {
                    entities.push((entity.clone(), offset));
                }
            }
            goes_on = index == batch.events.len() && !batch.whole;
            if !goes_on && !entities.is_empty() {
                return Some(Anew { begins, entities });
            }
        }
    }
    (!entities.is_empty()).then_some(Anew { begins, entities })
}

impl Track<'_> {
    /// Applies what comes before, and hands the subscriptions that are read again to the side track.
    /// Everything is then looked at anew: others go on from here without them.
    pub(super) async fn give_way(
        &mut self,
        chunk: &Chunk,
        anew: Anew,
        live: &[Subscription],
        log: LogId,
    ) -> Result<(), Trouble> {
        if anew.begins > self.at {
            for stored in &chunk.batches {
                self.notice_snapshots(stored);
            }
            self.piece(&chunk.batches, anew.begins, true).await?;
        }
        if self.is_whole() {
            self.store().await?;
        } else {
            // Earlier pieces of the same transaction are open at the target: they come again.
            self.sink.wants(log).await?;
        }
        let place = self.stored;
        let member = |s: &Subscription| {
            let (_, start) = anew.entities.iter().find(|(e, _)| *e == s.entity)?;
            Some(Member {
                into: s.into.clone(),
                entity: s.entity.clone(),
                definition: s.definition(),
                state: Membership::Beside,
                start: *start,
                log,
            })
        };
        let members: Vec<_> = live.iter().filter(|s| !s.from.is_now()).filter_map(member).collect();
        for member in &members {
            tracing::info!(
                "route {}: {} is read again; {} stays as it is until the new copy is whole",
                self.deliver.route,
                member.entity,
                member.into
            );
        }
        let mark = Mark { at: place, members, side: SideMark::Open(place) };
        self.sink.mark(&mark).await?;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
