//! Any error of any seam, and how it is shown.

use rowcast_core::{Code, Diagnose, LogError, ProjectError, Remedy, SinkError, SourceError};
use serde::Serialize;

/// What went wrong in a capture or a route.
#[derive(Debug, thiserror::Error)]
pub enum Trouble {
    /// At the source.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// In the log.
    #[error(transparent)]
    Log(#[from] LogError),
    /// At the sink.
    #[error(transparent)]
    Sink(#[from] SinkError),
    /// Between entity and subscription.
    #[error(transparent)]
    Project(#[from] ProjectError),
}

impl Trouble {
    fn diagnosis(&self) -> &dyn Diagnose {
        match self {
            Self::Source(e) => e,
            Self::Log(e) => e,
            Self::Sink(e) => e,
            Self::Project(e) => e,
        }
    }
}

impl Diagnose for Trouble {
    fn remedy(&self) -> Remedy {
        self.diagnosis().remedy()
    }

    fn help(&self) -> &str {
        self.diagnosis().help()
    }
}

/// An error as a person sees it: no secrets, no row values.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TroubleReport {
    /// The name of the page that explains it; none for an outage.
    pub code: Option<&'static str>,
    /// What happened.
    pub message: String,
    /// Why, outermost first.
    pub causes: Vec<String>,
    /// What to do next; empty when waiting is all.
    pub help: String,
}

impl TroubleReport {
    /// A report of any diagnosable error.
    pub fn of(error: &dyn Diagnose) -> Self {
        let code = match error.remedy() {
            Remedy::Operator(code) | Remedy::Park(code) => Some(code.as_str()),
            Remedy::Retry | Remedy::Bug => None,
        };
        // The causes of bad data are the database's own words and may hold values.
        let quiet = matches!(error.remedy(), Remedy::Park(_));
        let mut causes = Vec::new();
        let mut cause = error.source().filter(|_| !quiet);
        while let Some(e) = cause {
            let text = e.to_string();
            if causes.last() != Some(&text) {
                causes.push(text);
            }
            cause = e.source();
        }
        Self { code, message: error.to_string(), causes, help: error.help().to_string() }
    }

    /// The message with its causes, on one line.
    pub fn line(&self) -> String {
        let mut line = self.message.clone();
        for cause in &self.causes {
            line.push_str(": ");
            line.push_str(cause);
        }
        line
    }
}

/// Whether trying again now and then can help after a person acted. A checkpoint that somebody else
/// moves, and a log that must not be written, need a restart: going on by ourselves would fight.
pub(crate) fn heals(code: Code) -> bool {
    match code {
        Code::SinkCheckpoint | Code::LogFailed | Code::LogDamaged => false,
        Code::Config
        | Code::DataLocked
        | Code::SourceSetup
        | Code::SourceSchema
        | Code::SourceEpoch
        | Code::SourceBusy
        | Code::SourceData
        | Code::SinkSchema
        | Code::SinkSetup
        | Code::SinkData
        | Code::SinkParked
        | Code::LogTrimmed
        | Code::Registry
        | Code::Subscription => true,
    }
}
