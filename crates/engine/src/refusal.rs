//! Why a change to the subscriptions is not accepted.

use rowcast_core::{Code, Diagnose, LogError, RegistryError, Remedy, ServiceName};
use std::time::Duration;

/// What a refusal's help ends with.
pub(crate) const UNCHANGED: &str = "nothing was changed";

/// Why a change to the subscriptions is not accepted. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// A service, an entity or a subscription that is named is not there.
    #[error("{what}")]
    Missing {
        /// What is not there.
        what: String,
        /// What may have been meant.
        help: String,
    },
    /// Entity, subscription and target table do not fit each other.
    #[error("{what}")]
    Unfit {
        /// What does not fit.
        what: String,
        /// What to do.
        help: String,
    },
    /// More than one subscription is meant.
    #[error("{what}")]
    Ambiguous {
        /// Which ones.
        what: String,
        /// How to name one.
        help: String,
    },
    /// The route is in no state for it now.
    #[error("{what}")]
    NotNow {
        /// What it is doing instead.
        what: String,
        /// What to wait for, or to do first.
        help: String,
    },
    /// The subscriber's database does not answer.
    #[error("{service}'s database did not answer within {waited:?}")]
    Late {
        /// Whose.
        service: ServiceName,
        /// How long it was waited for.
        waited: Duration,
    },
    /// The log cannot be asked for the entity's schema.
    #[error("the published fields are not known")]
    Log(#[from] LogError),
    /// The registry does not take it.
    #[error(transparent)]
    Registry(#[from] RegistryError),
}

impl Diagnose for Refusal {
    fn remedy(&self) -> Remedy {
        match self {
            Self::Missing { .. }
            | Self::Unfit { .. }
            | Self::Ambiguous { .. }
            | Self::NotNow { .. } => Remedy::Operator(Code::Subscription),
            Self::Late { .. } => Remedy::Retry,
            Self::Log(e) => e.remedy(),
            Self::Registry(e) => e.remedy(),
        }
    }

    fn help(&self) -> &str {
        match self {
            Self::Missing { help, .. }
            | Self::Unfit { help, .. }
            | Self::Ambiguous { help, .. }
            | Self::NotNow { help, .. } => help,
            Self::Late { .. } => "is the database running and not overloaded? nothing was changed",
            Self::Log(e) => e.help(),
            Self::Registry(e) => e.help(),
        }
    }
}
