//! What the routes of an instance share: memory for what they read, and the machine.

use crate::throttle::Throttle;
use rowcast_core::ByteSize;
use std::sync::atomic::{AtomicU64, Ordering};

/// What there is for one route.
#[derive(Debug)]
pub(crate) struct Share {
    bytes: AtomicU64,
    /// Who is to be spared by what is being built.
    pub(crate) throttle: Throttle,
}

impl Share {
    pub(crate) fn new(bytes: ByteSize) -> Self {
        Self { bytes: AtomicU64::new(bytes.0), throttle: Throttle::default() }
    }

    /// Row bytes that a route may take from the log at once, less when there are more of them. Routes
    /// look each time they read.
    pub(crate) fn get(&self) -> ByteSize {
        ByteSize(self.bytes.load(Ordering::Relaxed))
    }

    pub(crate) fn set(&self, bytes: ByteSize) {
        self.bytes.store(bytes.0, Ordering::Relaxed);
    }
}
