//! What the database says it keeps for its capture.

use super::MemoryDatabase;
use rowcast_core::Retained;

impl MemoryDatabase {
    /// Scripts what it says from now on. Letting go of it makes the history another one.
    pub fn keeps(&self, kept: Option<Retained>) {
        self.lock().kept = kept;
    }
}
