//! A registry in memory, for tests. It keeps the seam's laws and forgets everything with the
//! process.

use async_trait::async_trait;
use rowcast_core::{Catalog, Edit, Registry, RegistryError, Version};
use tokio::sync::watch;

/// Subscriptions in memory.
#[derive(Debug)]
pub struct MemoryRegistry {
    now: watch::Sender<(Version, Catalog)>,
}

impl Default for MemoryRegistry {
    fn default() -> Self {
        Self { now: watch::Sender::new((Version::default(), Catalog::default())) }
    }
}

impl MemoryRegistry {
    /// An empty registry.
    pub fn new() -> Self {
        Self::default()
    }
}

#[async_trait]
impl Registry for MemoryRegistry {
    async fn load(&self) -> Result<(Version, Catalog), RegistryError> {
        Ok(self.now.borrow().clone())
    }

    async fn edit(&self, seen: Version, edit: Edit) -> Result<Version, RegistryError> {
        let mut answer = Ok(seen);
        self.now.send_if_modified(|(version, catalog)| {
            if *version != seen {
                answer = Err(RegistryError::Stale { seen, now: *version });
                return false;
            }
            match catalog.edit(edit) {
                Ok(true) => *version = Version(version.0 + 1),
                Ok(false) => return false,
                Err(refused) => {
                    answer = Err(refused.into());
                    return false;
                }
            }
            answer = Ok(*version);
            true
        });
        answer
    }

    async fn changed(&self, seen: Version) -> Result<Version, RegistryError> {
        let mut now = self.now.subscribe();
        let newer = now.wait_for(|(version, _)| *version > seen).await;
        Ok(newer.expect("we hold the sender").0)
    }
}
