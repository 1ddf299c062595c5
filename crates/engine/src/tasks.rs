//! The one place where the engine starts tasks: each has a name, an owner and an end.

use std::future::Future;
use tokio::task::{JoinError, JoinSet};

/// Tasks of one kind, joined by their owner; dropping it aborts them.
pub(crate) struct Tasks<T> {
    set: JoinSet<T>,
    names: std::collections::HashMap<tokio::task::Id, String>,
}

impl<T: Send + 'static> Tasks<T> {
    pub(crate) fn new() -> Self {
        Self { set: JoinSet::new(), names: Default::default() }
    }

    pub(crate) fn spawn(&mut self, name: String, task: impl Future<Output = T> + Send + 'static) {
        let handle = self.set.spawn(task);
        self.names.insert(handle.id(), name);
    }

    /// Ends all that are still running, wherever they stand; their names.
    pub(crate) fn abort(&mut self) -> Vec<String> {
        self.set.abort_all();
        self.names.values().cloned().collect()
    }

    /// The next task that ended, with its name; `None` when all have. Cancel safe.
    pub(crate) async fn join_next(&mut self) -> Option<(String, Result<T, JoinError>)> {
        let (id, result) = match self.set.join_next_with_id().await? {
            Ok((id, value)) => (id, Ok(value)),
            Err(e) => (e.id(), Err(e)),
        };
        Some((self.names.remove(&id).unwrap_or_default(), result))
    }
}
