//! How much of the log one route takes at once; less when there are more of them.

use rowcast_core::ByteSize;
use std::sync::atomic::{AtomicU64, Ordering};

/// Row bytes that a route may take from the log at once. Routes look each time they read.
#[derive(Debug)]
pub(crate) struct Share(AtomicU64);

impl Share {
    pub(crate) fn new(bytes: ByteSize) -> Self {
        Self(AtomicU64::new(bytes.0))
    }

    pub(crate) fn get(&self) -> ByteSize {
        ByteSize(self.0.load(Ordering::Relaxed))
    }

    pub(crate) fn set(&self, bytes: ByteSize) {
        self.0.store(bytes.0, Ordering::Relaxed);
    }
}
