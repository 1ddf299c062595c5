//! Whether target, log and publisher belong together: compared before anything is written.

use super::Deliver;
use super::ends::position_at;
use crate::trouble::Trouble;
use rowcast_core::{ByteSize, Checkpoint, LogError, Offset, SinkError};
use tokio_util::sync::CancellationToken;

impl Deliver {
    /// Waits until the publisher is known to be the one whose changes the log holds; says whether it
    /// is, or somebody stopped the waiting.
    pub(super) async fn source_is_compared(&self, stop: &CancellationToken) -> bool {
        let Some(capture) = &self.capture else { return true };
        let mut state = capture.subscribe();
        let compared = state.wait_for(|s| s.compared);
        stop.run_until_cancelled(compared).await.is_some_and(|found| found.is_ok())
    }

    /// Refuses a target that this log has not filled: an old copy of a data directory may have
    /// captured other events under the offsets that the target knows.
    pub(super) async fn compare(&self, checkpoint: &Checkpoint) -> Result<(), Trouble> {
        let (Some(position), Some(last)) = (checkpoint.position, checkpoint.next.0.checked_sub(1))
        else {
            return Ok(());
        };
        let tail = self.log.tail(&self.route.from).await?;
        if checkpoint.next <= tail.first {
            // Retention has removed what could be compared.
            return Ok(());
        }
        if checkpoint.next > tail.next {
            let (at, next) = (checkpoint.next, tail.next);
            return Err(LogError::Ahead { stream: self.route.from.clone(), at, next }.into());
        }
        let chunk = self.log.read(&self.route.from, Offset(last), ByteSize(1)).await?;
        let here = position_at(&chunk.batches, checkpoint.next);
        // A compacted batch says only where it ends, and the checkpoint may lie inside of it.
        let compacted = chunk.batches.first().is_some_and(|s| s.batch.sparse.is_some());
        if here == position || (compacted && here.is_at_or_after(&position) == Some(true)) {
            return Ok(());
        }
        let what = format!(
            "it stands at offset {} and the source's position {position}, where this log has {here}",
            checkpoint.next
        );
        let help = "this data directory is an old copy, or two were used in turn: start `rowcast \
                    run` on the one that wrote the copy; or delete its row in the checkpoint table \
                    and resume the route: the copy is built anew from this log, beside the rows \
                    that are there";
        let route = self.route.clone();
        Err(SinkError::Checkpoint { route, what, help: help.into() }.into())
    }
}
