//! The log as `verify` reads it, beside whoever writes it.

use async_trait::async_trait;
use rowcast_core::{EntityName, LogError, LogId, Offset, Position, Stored};

/// A stream's events, read without changing them.
#[async_trait]
pub trait History: Send {
    /// Which log.
    fn log(&self) -> LogId;

    /// Offset from which on an entity is complete, as [`Tail::complete_from`] says.
    ///
    /// [`Tail::complete_from`]: rowcast_core::Tail::complete_from
    async fn complete_from(&mut self, entity: &EntityName) -> Result<Option<Offset>, LogError>;

    /// Some of what lies from an offset on; nothing at the end. The first batch may begin before
    /// the offset.
    async fn read(&mut self, from: Offset) -> Result<Vec<Stored>, LogError>;

    /// The source's position at the end of what was read last.
    fn position(&self) -> Option<Position>;
}
