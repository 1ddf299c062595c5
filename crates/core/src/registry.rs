//! The seam to what remembers who subscribes to what.

use crate::{BoxError, Catalog, Code, Diagnose, Edit, EditError, Remedy};
use async_trait::async_trait;
use std::fmt;

/// Counts the edits of a registry. A later one is greater.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version(pub u64);

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Who subscribes to what, durably.
///
/// Laws, proved by the conformance suite:
/// - An edit is applied whole or not at all, by [`Catalog::edit`]. Once it returned it stays across
///   any crash; one that a crash cut short is there as a whole or not at all.
/// - The version is compared and set: of two edits made after seeing one version, one is refused as
///   [`RegistryError::Stale`]. An edit that changes nothing keeps the version.
#[async_trait]
pub trait Registry: Send + Sync {
    /// One consistent picture and its version.
    async fn load(&self) -> Result<(Version, Catalog), RegistryError>;

    /// Applies an edit and gives the version after it. Not cancel safe: a dropped edit may or may
    /// not have been made.
    ///
    /// # Errors
    /// [`RegistryError::Stale`] when somebody else edited after `seen`; load and look again.
    async fn edit(&self, seen: Version, edit: Edit) -> Result<Version, RegistryError>;

    /// Waits for a version newer than `seen`. Cancel safe.
    async fn changed(&self, seen: Version) -> Result<Version, RegistryError>;
}

/// Why the registry cannot do it.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// Somebody else edited meanwhile.
    #[error("the subscriptions changed meanwhile: version {seen} was seen, {now} is there")]
    Stale {
        /// What the editor had seen.
        seen: Version,
        /// What is there.
        now: Version,
    },
    /// The rules do not allow it.
    #[error(transparent)]
    Refused(#[from] EditError),
    /// The disk or the system refused.
    #[error("the registry {place} cannot be used")]
    Unusable {
        /// Where it is.
        place: String,
        /// What happened.
        source: BoxError,
    },
    /// What is there is not what was written, or not ours.
    #[error("the registry {place} cannot be trusted: {what}")]
    Damaged {
        /// Where it is.
        place: String,
        /// How it shows.
        what: String,
    },
    /// A newer Rowcast wrote it.
    #[error("the registry {place} was written by a newer Rowcast: {what}")]
    Newer {
        /// Where it is.
        place: String,
        /// How it shows.
        what: String,
    },
}

impl Diagnose for RegistryError {
    fn remedy(&self) -> Remedy {
        match self {
            Self::Stale { .. } | Self::Unusable { .. } => Remedy::Retry,
            Self::Refused(e) => e.remedy(),
            Self::Damaged { .. } | Self::Newer { .. } => Remedy::Operator(Code::Registry),
        }
    }

    fn help(&self) -> &str {
        match self {
            Self::Stale { .. } => "",
            Self::Refused(e) => e.help(),
            Self::Unusable { .. } => {
                "let us read and write the data directory, and look for room on its disk; nothing \
                 was changed"
            }
            Self::Damaged { .. } => {
                "put a good copy of the file in its place, or an empty file and subscribe again to what \
                 the configuration file does not name; copies and the event log are untouched"
            }
            Self::Newer { .. } => {
                "run the newer Rowcast on this data directory; nothing was changed"
            }
        }
    }
}
