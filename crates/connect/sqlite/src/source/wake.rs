//! Tells when the database's files were written to. Only a hint: a look at `data_version` decides,
//! and a slow poll behind it covers what no notification tells (network drives, mapped memory).

use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher, recommended_watcher};
use std::path::Path;

/// A running watch; dropping it ends it.
pub(super) struct Wake {
    _watcher: RecommendedWatcher,
}

impl Wake {
    /// Calls `ring` after writes to the database or its log. `None` when the system cannot watch.
    pub(super) fn start(database: &Path, ring: impl Fn() + Send + 'static) -> Option<Self> {
        let database = std::path::absolute(database).ok()?;
        let name = database.file_name()?.to_os_string();
        let folder = database.parent()?;
        let concerns = move |path: &Path| {
            let file = path.file_name().unwrap_or_default();
            file.as_encoded_bytes().starts_with(name.as_encoded_bytes())
        };
        let seen = move |event: Result<notify::Event, notify::Error>| {
            let Ok(event) = event else { return ring() };
            let writes = !matches!(event.kind, EventKind::Access(_));
            if writes && (event.need_rescan() || event.paths.iter().any(|p| concerns(p))) {
                ring();
            }
        };
        let mut watcher = recommended_watcher(seen).ok()?;
        watcher.watch(folder, RecursiveMode::NonRecursive).ok()?;
        Some(Self { _watcher: watcher })
    }
}
