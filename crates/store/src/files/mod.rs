//! A log in files: one directory for each stream, append-only segments of checksummed frames, one
//! thread that writes. What the files look like is in `docs/log-format.md`.
//!
//! The one law: only what a sync covered is delivered or acknowledged, and it stays as it was.

mod cache;
mod codec;
mod compact;
mod compactor;
pub(crate) mod disk;
mod durable;
mod follow;
mod frame;
mod queue;
mod reader;
mod recover;
mod segment;
mod stream;
#[cfg(test)]
mod tests;
mod view;
mod walk;
mod writer;

pub mod inspect;

pub use follow::Follower;

use crate::config::LogConfig;
use crate::private;
use async_trait::async_trait;
use disk::{Disk, RealDisk};
use rowcast_core::{
    Batch, ByteSize, Chunk, Commit, EventLog, LogError, Offset, Position, ServiceName, Tail,
};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use stream::Stream;
use tokio::sync::OnceCell;

/// The log's directory cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("the event log's directory {path} cannot be made or read")]
pub struct OpenError {
    path: PathBuf,
    source: std::io::Error,
}

/// An event log in files below one directory.
///
/// Nothing here keeps two processes out of one directory: whoever opens it holds a lock elsewhere.
/// Must be used inside a Tokio runtime.
#[derive(Debug)]
pub struct FileLog {
    root: PathBuf,
    config: LogConfig,
    disk: Arc<dyn Disk>,
    streams: Mutex<HashMap<ServiceName, Arc<OnceCell<Stream>>>>,
}

impl FileLog {
    /// Opens the log below `root`, which is made when it is missing. Streams are opened, and
    /// recovered, when they are first used.
    ///
    /// # Errors
    /// When the directory cannot be made.
    pub fn open(root: impl AsRef<Path>, config: LogConfig) -> Result<Self, OpenError> {
        Self::with_disk(root.as_ref(), config, Arc::new(RealDisk))
    }

    fn with_disk(root: &Path, config: LogConfig, disk: Arc<dyn Disk>) -> Result<Self, OpenError> {
        let made = || {
            private::create_dir_all(root)?;
            disk.sync_dir(root)?;
            // The root's own name must outlive a power cut as well.
            match root.canonicalize()?.parent() {
                Some(parent) => disk.sync_dir(parent),
                None => Ok(()),
            }
        };
        made().map_err(|source| OpenError { path: root.into(), source })?;
        Ok(Self { root: root.into(), config, disk, streams: Mutex::default() })
    }

    /// Writes what waits, then ends every writer. Later calls answer [`LogError::Closed`]. Dropping
    /// the log does the same.
    pub async fn close(&self) {
        let cells: Vec<_> = {
            let streams = self.streams.lock().unwrap_or_else(PoisonError::into_inner);
            streams.values().cloned().collect()
        };
        // First all, then one by one: they drain at the same time.
        cells.iter().filter_map(|c| c.get()).for_each(Stream::close);
        let join = move || cells.iter().filter_map(|c| c.get()).for_each(Stream::join);
        // Only a runtime that is going down already leaves the joining to `Drop`.
        let _ = tokio::task::spawn_blocking(join).await;
    }

    async fn stream(&self, name: &ServiceName) -> Result<StreamRef, LogError> {
        let cell = {
            let mut streams = self.streams.lock().unwrap_or_else(PoisonError::into_inner);
            streams.entry(name.clone()).or_default().clone()
        };
        let open = || async {
            let (name, disk, config) = (name.clone(), self.disk.clone(), self.config.clone());
            let dir = self.root.join(name.as_str());
            let closed = LogError::Closed { stream: name.clone() };
            let opened =
                tokio::task::spawn_blocking(move || Stream::open(name, dir, disk, config)).await;
            opened.unwrap_or(Err(closed))
        };
        cell.get_or_try_init(open).await?;
        Ok(StreamRef(cell))
    }
}

/// An open stream.
struct StreamRef(Arc<OnceCell<Stream>>);

impl std::ops::Deref for StreamRef {
    type Target = Stream;
    fn deref(&self) -> &Stream {
        self.0.get().expect("made only for an open stream")
    }
}

#[async_trait]
impl EventLog for FileLog {
    async fn append(&self, stream: &ServiceName, batch: Batch) -> Result<Commit, LogError> {
        self.stream(stream).await?.append(batch).await
    }

    async fn read(
        &self,
        stream: &ServiceName,
        at: Offset,
        max: ByteSize,
    ) -> Result<Chunk, LogError> {
        self.stream(stream).await?.read(at, max).await
    }

    async fn tail(&self, stream: &ServiceName) -> Result<Tail, LogError> {
        self.stream(stream).await?.tail().await
    }

    async fn moved(
        &self,
        stream: &ServiceName,
        seen: Option<Position>,
    ) -> Result<(Offset, Option<Position>), LogError> {
        self.stream(stream).await?.moved(seen).await
    }

    async fn trim(&self, stream: &ServiceName, keep: Offset) -> Result<(), LogError> {
        self.stream(stream).await?.trim(keep).await
    }

    async fn compact(&self, stream: &ServiceName, upto: Offset) -> Result<Offset, LogError> {
        self.stream(stream).await?.compact(upto).await
    }
}
