//! What a main track does now and then where no rows come that would do it.

use super::Track;
use crate::trouble::Trouble;
use std::time::Duration;
use tokio::time::Instant;

/// How often to look at the copies' tables themselves: what became of them shows nowhere else.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// Longest that the stored checkpoint stays behind while nothing concerns the route. Deletes are kept
/// for a time only, and after a crash the stored one is all that is known.
pub(super) const UNSTORED_WITHIN: Duration = Duration::from_secs(10 * 60);

/// When to look next.
pub(super) fn next() -> Instant {
    Instant::now() + LOOK_EVERY
}

impl Track<'_> {
    /// Looks at the copies' tables, and stores a checkpoint that only we know for long. When to look
    /// next.
    pub(super) async fn look(&mut self) -> Result<Instant, Trouble> {
        if self.is_between() {
            self.sink.look().await?;
        }
        if self.stored_at.elapsed() >= UNSTORED_WITHIN {
            self.store().await?;
        }
        Ok(next())
    }
}
