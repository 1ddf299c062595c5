//! A route's state, as others may see it.

use crate::latency::Latency;
use crate::pace::{Condition, HasCondition};
use rowcast_core::{Offset, Waiting};

/// What others may see of a route.
#[derive(Debug, Clone, Default)]
pub(crate) struct RouteState {
    pub(crate) condition: Condition,
    /// The next offset the target lacks; unknown before it was reached once.
    pub(crate) applied: Option<Offset>,
    /// Changes that this process applied and committed.
    pub(crate) applied_events: u64,
    /// What the target makes it wait for.
    pub(crate) waiting: Waiting,
    /// From the publisher's commits to ours.
    pub(crate) latency: Latency,
}

impl HasCondition for RouteState {
    fn condition(&mut self) -> &mut Condition {
        &mut self.condition
    }
}
