//! Desired: follows the registry and the configuration, and says what the node is to do now.

use crate::backoff::Backoff;
use crate::trouble::TroubleReport;
use crate::wanted::{Services, Wanted, problem};
use rowcast_core::{ByteSize, Diagnose, Origin, Registry, RegistryError, Version};
use std::collections::HashSet;
use std::sync::Arc;
use tokio::sync::watch;

/// Where a node's routes come from while it runs.
pub struct Desired {
    pub(crate) registry: Arc<dyn Registry>,
    pub(crate) services: watch::Receiver<Services>,
    read_bytes_all: ByteSize,
    seen: Version,
    /// What was said already.
    said: HashSet<String>,
}

impl Desired {
    /// Follows a registry and the services of the configuration. All routes together take about
    /// `read_bytes_all` row bytes from the log at once.
    pub fn new(
        registry: Arc<dyn Registry>,
        services: watch::Receiver<Services>,
        read_bytes_all: ByteSize,
    ) -> Self {
        Self { registry, services, read_bytes_all, seen: Version(0), said: HashSet::new() }
    }

    /// What is to be done now, and the version that says so.
    pub(crate) async fn load(&mut self) -> Result<(Version, Wanted), RegistryError> {
        let (version, catalog) = self.registry.load().await?;
        let services = self.services.borrow_and_update().clone();
        self.seen = version;
        // The file's subscriptions fit the file; while it is read again they may be a step ahead.
        for entry in catalog.entries.iter().filter(|e| e.origin == Origin::RunTime) {
            let Some(problem) = problem(entry, &services) else { continue };
            let line = format!("{}'s subscription to {}: {problem}", entry.to, entry.of());
            if self.said.insert(line.clone()) {
                tracing::warn!("{line}");
            }
        }
        Ok((version, Wanted::of(&services, &catalog, self.read_bytes_all)))
    }

    /// Waits for something else to do. A registry that cannot be read is tried again; what runs
    /// goes on meanwhile. Cancel safe.
    pub(crate) async fn next(&mut self) -> (Version, Wanted) {
        let mut backoff = Backoff::default();
        loop {
            let registry = self.registry.clone();
            let newer = tokio::select! {
                newer = registry.changed(self.seen) => newer.map(|_| ()),
                // Who sends has gone: the services stay as they are.
                changed = self.services.changed() => match changed {
                    Ok(()) => {
                        self.services.mark_changed();
                        Ok(())
                    }
                    Err(_) => registry.changed(self.seen).await.map(|_| ()),
                },
            };
            let loaded = match newer {
                // Should this be cut short here, the change is seen again: nothing is marked as
                // seen before it is loaded.
                Ok(()) => self.load().await,
                Err(e) => Err(e),
            };
            match loaded {
                Ok(loaded) => return loaded,
                Err(e) => {
                    let (line, help) = (TroubleReport::of(&e).line(), e.help().to_string());
                    tracing::error!("changes of subscriptions wait: {line}\n  help: {help}");
                    let wait = backoff.next(&mut rand::rng());
                    tokio::time::sleep(wait).await;
                }
            }
        }
    }
}
