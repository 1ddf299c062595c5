//! From what went wrong on the wire to what the engine is told.

use super::shape::Unfit;
use super::wire::WireError;
use crate::connect::Fault;
use crate::need::{POOLER, POOLER_HELP};
use rowcast_core::{Publish, ServiceName, SourceError};
use std::io;

/// Makes the errors of one service's source.
#[derive(Debug, Clone)]
pub(crate) struct Trouble(pub(crate) ServiceName);

impl Trouble {
    /// An error of the wire while doing `what`.
    pub(crate) fn wire(&self, what: &str, error: WireError) -> SourceError {
        let service = self.0.clone();
        if error.is_pooled() {
            let (what, help) = (POOLER.into(), POOLER_HELP.into());
            return SourceError::Setup { service, what, help, source: Some(Box::new(error)) };
        }
        match error.fault() {
            Fault::Outage => SourceError::Unreachable { service, source: Box::new(error) },
            Fault::Setup | Fault::Schema => {
                let help = setup_help(&error);
                SourceError::Setup {
                    service,
                    what: what.into(),
                    help,
                    source: Some(Box::new(error)),
                }
            }
            Fault::Data if matches!(error.state(), Some("22021" | "22P05")) => {
                let state = error.state().unwrap_or_default();
                self.setup(
                    format!("{what}: a text in the database has no UTF-8 (SQLSTATE {state})"),
                    "the bytes of some text are none of the database's encoding, or UTF-8 lacks the \
                     character: correct the row at the source, and capture goes on",
                )
            }
            // The server's own words on data may hold a value, masked ones too.
            Fault::Data => match error.state() {
                Some(state) => {
                    let what = format!("{what}: the server refuses a value (SQLSTATE {state})");
                    SourceError::Data { service, what }
                }
                None => SourceError::Data { service, what: format!("{what}: {error}") },
            },
        }
    }

    /// A missing setting, privilege or object.
    pub(crate) fn setup(&self, what: impl Into<String>, help: impl Into<String>) -> SourceError {
        let (service, what, help) = (self.0.clone(), what.into(), help.into());
        SourceError::Setup { service, what, help, source: None }
    }

    /// A table that cannot be published.
    pub(crate) fn unfit(&self, publish: &Publish, unfit: &Unfit) -> SourceError {
        SourceError::Schema {
            service: self.0.clone(),
            entity: publish.entity.clone(),
            what: unfit.what.clone(),
            help: unfit.help_with_fix(),
        }
    }

    /// Another history. There is one thing to type, whatever the reason.
    pub(crate) fn epoch(&self, what: impl Into<String>) -> SourceError {
        let help = format!(
            "if the copies may be built again from a new snapshot, stop `rowcast run` and start it as \
             `rowcast run --resnapshot {}`; changes that the old history still held are then read as \
             part of the snapshot",
            self.0
        );
        SourceError::Epoch { service: self.0.clone(), what: what.into(), help }
    }

    /// The history that we ended ourselves.
    pub(crate) fn released(&self, slot: &str) -> SourceError {
        SourceError::Released {
            service: self.0.clone(),
            what: format!(
                "replication slot {slot} kept more than its `retain` limit and was dropped, so the \
                 server's disk is safe and what came since is not captured"
            ),
            help: format!(
                "`action = \"release\"` in the service's `retain` begins a new history by itself; \
                 without it run `rowcast run --resnapshot {}`",
                self.0
            ),
        }
    }

    /// Bytes that make no sense.
    pub(crate) fn data(&self, what: impl ToString) -> SourceError {
        SourceError::Data { service: self.0.clone(), what: what.to_string() }
    }

    /// A broken law of ours.
    pub(crate) fn bug(&self, what: impl Into<String>) -> SourceError {
        SourceError::Bug { service: self.0.clone(), what: what.into() }
    }

    /// The connection, or what stands for it, is gone.
    pub(crate) fn lost(&self, why: &'static str) -> SourceError {
        let source = io::Error::new(io::ErrorKind::ConnectionAborted, why);
        SourceError::Unreachable { service: self.0.clone(), source: Box::new(source) }
    }
}

fn setup_help(error: &WireError) -> String {
    match error.state() {
        Some("28P01" | "28000") => {
            "check user and password in the service's `database`, and the server's pg_hba.conf; for \
             replication the server needs a line for the database itself, as for any connection"
        }
        Some("3D000") => "check the database's name in the service's `database`",
        Some("42501") => {
            "grant what is missing; `rowcast check` prints the statements for everything capture \
             needs"
        }
        _ => "run `rowcast check`: it looks at everything capture needs and says what to do",
    }
    .into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::wire::ServerError;

    #[test]
    fn a_value_in_the_words_of_the_server_is_not_repeated() {
        let error = ServerError {
            state: "22P02".into(),
            message: "invalid input syntax for type integer: \"geheim\"".into(),
        };
        let trouble = Trouble("shop".parse().expect("a name"));
        let told = trouble.wire("the snapshot cannot be read", error.into());
        let told = format!("{told} {told:?}");
        assert!(told.contains("22P02") && !told.contains("geheim"), "{told}");
    }
}
