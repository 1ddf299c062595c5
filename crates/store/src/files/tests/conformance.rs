//! The seam's laws, in every configuration that changes a path.

use crate::{FileLog, LogConfig};
use async_trait::async_trait;
use rowcast_core::{ByteSize, EventLog};
use rowcast_testkit::log_suite::Logs;

/// Logs in a directory that goes with them.
struct InFiles {
    dir: tempfile::TempDir,
    config: LogConfig,
}

impl InFiles {
    fn new(config: LogConfig) -> Self {
        Self { dir: tempfile::tempdir().unwrap(), config }
    }
}

#[async_trait]
impl Logs for InFiles {
    async fn open(&self) -> Box<dyn EventLog> {
        Box::new(FileLog::open(self.dir.path(), self.config.clone()).unwrap())
    }

    async fn reopen(&self, log: Box<dyn EventLog>) -> Option<Box<dyn EventLog>> {
        drop(log);
        Some(self.open().await)
    }
}

mod as_configured_by_default {
    use super::*;
    rowcast_testkit::log_suite!(InFiles::new(LogConfig::default()));
}

mod without_a_cache_and_with_a_new_segment_for_every_batch {
    use super::*;
    rowcast_testkit::log_suite!(InFiles::new(LogConfig {
        segment: ByteSize(1),
        cache: ByteSize(0),
        ..LogConfig::default()
    }));
}

mod compressed_and_read_from_disk {
    use super::*;
    rowcast_testkit::log_suite!(InFiles::new(LogConfig {
        segment: ByteSize::kib(8),
        cache: ByteSize(0),
        compress: true,
        ..LogConfig::default()
    }));
}
