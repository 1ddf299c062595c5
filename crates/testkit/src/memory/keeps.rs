//! What the database says it keeps for its capture.

use super::MemoryDatabase;
use rowcast_core::{Epoch, Retained};

impl MemoryDatabase {
    /// Scripts what it says from now on. Letting go of it makes the history another one.
    pub fn keeps(&self, kept: Option<Retained>) {
        self.lock().kept = kept;
    }

    /// Forgets what it keeps; the history becomes another one, and the old one a known gap.
    pub(super) fn let_go(&self, of: Option<Epoch>) {
        self.replace_history();
        let mut inner = self.lock();
        (inner.kept, inner.released) = (None, of);
    }

    pub(super) fn was_released(&self, history: Epoch) -> bool {
        self.lock().released == Some(history)
    }
}
