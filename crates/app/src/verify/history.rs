//! The log's files as a comparison reads them, beside a running instance or without one.

use async_trait::async_trait;
use rowcast_core::{
    ByteSize, EntityName, LogError, LogId, Offset, Position, RouteId, ServiceName, Stored,
};
use rowcast_engine::{History, VerifyError};
use rowcast_store::Follower;
use rowcast_store::inspect::{self, StreamStat};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Read at once.
const CHUNK: ByteSize = ByteSize::mib(4);
/// How long what was seen of the stream as a whole is good for.
const FRESH: Duration = Duration::from_secs(1);

/// One stream's files.
pub(crate) struct FileHistory {
    root: PathBuf,
    stream: ServiceName,
    log: LogId,
    seen: (Instant, StreamStat),
    follower: Option<Follower>,
}

impl FileHistory {
    /// The stream of a route's publisher, in the log below `root`.
    pub(crate) async fn open(root: &Path, route: &RouteId) -> Result<Self, VerifyError> {
        let stream = route.from.clone();
        let found = stat(root.to_path_buf(), stream.clone()).await?;
        let log = found.as_ref().and_then(|s| u64::from_str_radix(&s.log, 16).ok());
        let (Some(found), Some(log)) = (found, log) else {
            return Err(VerifyError::NotYet {
                route: route.clone(),
                what: format!("there is no event log of {stream} in {}", root.display()),
                help: "start `rowcast run`; once its copies are there they can be compared".into(),
            });
        };
        let (root, seen) = (root.to_path_buf(), (Instant::now(), found));
        Ok(Self { root, stream, log: LogId(log), seen, follower: None })
    }
}

/// Which log the stream of a publisher below `root` is, and where it ends; `None` when it is not
/// there.
///
/// # Errors
/// When it cannot be read.
pub(crate) async fn tail(
    root: &Path,
    stream: &ServiceName,
) -> Result<Option<(LogId, Offset)>, LogError> {
    let found = stat(root.to_path_buf(), stream.clone()).await?;
    Ok(found.and_then(|s| Some((LogId(u64::from_str_radix(&s.log, 16).ok()?), Offset(s.next)))))
}

async fn stat(root: PathBuf, stream: ServiceName) -> Result<Option<StreamStat>, LogError> {
    let looked = tokio::task::spawn_blocking(move || inspect::stat(root)).await;
    let streams = match looked.unwrap_or_else(|e| Err(io::Error::other(e))) {
        Ok(streams) => streams,
        Err(e) if e.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(e) => return Err(LogError::Unreadable { stream, source: Arc::new(e) }),
    };
    let found = streams.into_iter().find(|s| s.stream == stream.as_str());
    match found {
        Some(StreamStat { error: Some(what), .. }) => Err(LogError::Damaged { stream, what }),
        found => Ok(found),
    }
}

#[async_trait]
impl History for FileHistory {
    fn log(&self) -> LogId {
        self.log
    }

    async fn complete_from(&mut self, entity: &EntityName) -> Result<Option<Offset>, LogError> {
        if self.seen.0.elapsed() > FRESH
            && let Some(stat) = stat(self.root.clone(), self.stream.clone()).await?
        {
            self.seen = (Instant::now(), stat);
        }
        let mut entities = self.seen.1.entities.iter();
        let found = entities.find(|e| e.entity == entity.as_str());
        let snapshot = found.and_then(|e| e.snapshot.as_ref()).filter(|s| s.done);
        Ok(snapshot.map(|s| Offset(s.at)))
    }

    async fn read(&mut self, from: Offset) -> Result<Vec<Stored>, LogError> {
        let follower = self.follower.take().filter(|f| f.next() == from);
        let new = || Follower::new(&self.root, self.stream.clone(), from);
        let mut follower = follower.unwrap_or_else(new);
        let read = tokio::task::spawn_blocking(move || {
            let read = follower.read(CHUNK);
            (follower, read)
        });
        let (follower, read) = read.await.map_err(|e| LogError::Unreadable {
            stream: self.stream.clone(),
            source: Arc::new(io::Error::other(e)),
        })?;
        self.follower = Some(follower);
        read
    }

    fn position(&self) -> Option<Position> {
        self.follower.as_ref()?.position()
    }
}
