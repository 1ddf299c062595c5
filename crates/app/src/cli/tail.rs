//! Which events, and from where on.

use rowcast_core::{EntityRef, ServiceName};
use std::str::FromStr;

/// Whose events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum TailOf {
    /// All of a service's.
    Service(ServiceName),
    /// One entity's.
    Entity(EntityRef),
}

impl FromStr for TailOf {
    type Err = rowcast_core::NameError;
    fn from_str(s: &str) -> Result<Self, Self::Err> {
        if s.contains('.') { s.parse().map(Self::Entity) } else { s.parse().map(Self::Service) }
    }
}

/// Where to begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TailFrom {
    /// The oldest event there is.
    Beginning,
    /// What comes from now on.
    End,
    /// This event.
    Offset(u64),
}

impl FromStr for TailFrom {
    type Err = &'static str;
    fn from_str(s: &str) -> Result<Self, Self::Err> {
        match s {
            "beginning" => Ok(Self::Beginning),
            "end" => Ok(Self::End),
            _ => s.parse().map(Self::Offset).map_err(|_| "write beginning, end, or an offset"),
        }
    }
}
