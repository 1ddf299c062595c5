//! How a capture's starts are prepared, the first one and those that follow.

use super::super::prepare::{Prepare, Prepared};
use super::super::trouble::Trouble;
use super::super::wire::{Purpose, Wire};
use super::{OWN_GHOST_MAX, Task};
use rowcast_core::{SourceError, Start};
use std::time::{Duration, Instant};

impl Task {
    /// Nothing of the history that was begun is in anybody's hands.
    pub(super) async fn give_back(&self) {
        self.preparing(&Trouble(self.spec.service.clone())).give_back().await;
    }

    pub(super) async fn prepare(
        &self,
        start: &Start,
        unpublished: bool,
    ) -> Result<Prepared, SourceError> {
        self.preparing(&Trouble(self.spec.service.clone())).run(start, unpublished).await
    }

    pub(super) fn preparing<'a>(&'a self, trouble: &'a Trouble) -> Prepare<'a> {
        Prepare { address: &self.address, spec: &self.spec, trouble, peeks: self.peeks }
    }

    /// As [`prepare`](Self::prepare), while our last connection may still be dying.
    pub(super) async fn again(
        &self,
        start: &Start,
        unpublished: bool,
    ) -> Result<Prepared, SourceError> {
        let began = Instant::now();
        loop {
            match self.prepare(start, unpublished).await {
                Err(SourceError::Busy { .. }) if began.elapsed() < OWN_GHOST_MAX => {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                other => return other,
            }
        }
    }

    /// The connection for questions, made anew when it broke.
    pub(super) async fn sql<'w>(
        &self,
        wire: &'w mut Option<Wire>,
    ) -> Result<&'w mut Wire, SourceError> {
        let trouble = Trouble(self.spec.service.clone());
        let made = match wire.take() {
            Some(wire) => wire,
            None => self.preparing(&trouble).connect(Purpose::Sql).await?,
        };
        Ok(wire.insert(made))
    }
}
