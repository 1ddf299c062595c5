//! What a comparison found.

use rowcast_core::{
    Code, Diagnose, LogError, Offset, Point, ProjectError, Remedy, RouteId, SinkError, SourceError,
};
use serde::Serialize;

/// How a row of a copy is not what it should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// The copy lacks it.
    Missing,
    /// Only the copy has it.
    Extra,
    /// Some of its values are others.
    Different,
}

impl Kind {
    /// The word for people and scripts.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Extra => "extra",
            Self::Different => "different",
        }
    }
}

/// One value that differs. The values are the user's: show them only when asked to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DifferentValue {
    /// The copy's column.
    pub column: String,
    /// What it should hold; `None` for NULL.
    pub expected: Option<String>,
    /// What it holds.
    pub found: Option<String>,
}

/// One row that differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// How.
    pub kind: Kind,
    /// The row's key: columns of the copy with their values.
    pub key: Vec<(String, Option<String>)>,
    /// The values that differ, of a row that both sides have.
    pub values: Vec<DifferentValue>,
    /// It differed and no longer does.
    pub mended: bool,
    /// Why it could not be mended, when that was tried and refused.
    pub refused: Option<String>,
}

/// What came of comparing one copy.
#[derive(Debug, Clone)]
pub struct CopyReport {
    /// The publisher's entity.
    pub entity: String,
    /// The subscriber's table, as the configuration writes it.
    pub into: String,
    /// Rows that the copy should hold.
    pub rows: u64,
    /// Rows that differed when they were first compared.
    pub differences: u64,
    /// The first of them by name.
    pub listed: Vec<Difference>,
    /// Rows that differ now: fewer than `differences` after mending.
    pub left: u64,
    /// Keys that are parked. Their rows are neither compared nor mended.
    pub parked: u64,
    /// Published fields that the copy has no column for yet.
    pub not_compared: Vec<String>,
    /// Columns that the copy computes otherwise than its source does.
    pub otherwise: Vec<String>,
    /// How long it took to compare, mending included.
    pub seconds: f64,
}

/// What came of verifying one route.
#[derive(Debug, Clone)]
pub struct Verified {
    /// The route.
    pub route: RouteId,
    /// The place in the source's history at which its rows were seen.
    pub point: Point,
    /// The copy's checkpoint, to which the log was replayed over those rows.
    pub checkpoint: Offset,
    /// One for each subscription.
    pub copies: Vec<CopyReport>,
}

impl Verified {
    /// Rows that differ now.
    pub fn left(&self) -> u64 {
        self.copies.iter().map(|c| c.left).sum()
    }

    /// Keys that are parked.
    pub fn parked(&self) -> u64 {
        self.copies.iter().map(|c| c.parked).sum()
    }

    /// Whether some copy is known not to be what its source is.
    pub fn differs(&self) -> bool {
        self.left() > 0 || self.copies.iter().any(|c| !c.otherwise.is_empty())
    }

    /// Whether every copy holds what its source holds.
    pub fn is_identical(&self) -> bool {
        !self.differs() && self.parked() == 0
    }
}

/// Why a route cannot be verified.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// The publisher.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The subscriber.
    #[error(transparent)]
    Sink(#[from] SinkError),
    /// The log.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The subscription and the entity do not fit.
    #[error(transparent)]
    Project(#[from] ProjectError),
    /// There is nothing to compare yet, or it does not come.
    #[error("{route} cannot be compared yet: {what}")]
    NotYet {
        /// Which route.
        route: RouteId,
        /// What is missing.
        what: String,
        /// What to do.
        help: String,
    },
    /// The tables changed more, each time, than can be kept in mind.
    #[error("{route} could not be compared: {what}, and it happened again and again")]
    Unsettled {
        /// Which route.
        route: RouteId,
        /// What happened.
        what: &'static str,
    },
}

impl Diagnose for VerifyError {
    fn remedy(&self) -> Remedy {
        match self {
            Self::Source(e) => e.remedy(),
            Self::Sink(SinkError::Data { .. }) => Remedy::Operator(Code::SinkData),
            Self::Sink(e) => e.remedy(),
            Self::Log(e) => e.remedy(),
            Self::Project(e) => e.remedy(),
            Self::NotYet { .. } | Self::Unsettled { .. } => Remedy::Retry,
        }
    }

    fn help(&self) -> &str {
        match self {
            Self::Source(e) => e.help(),
            Self::Sink(e) => e.help(),
            Self::Log(e) => e.help(),
            Self::Project(e) => e.help(),
            Self::NotYet { help, .. } => help,
            Self::Unsettled { .. } => "try again when fewer rows change, or one route at a time",
        }
    }
}
