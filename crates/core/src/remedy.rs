//! What to do about an error. Every error enum of a seam maps each variant to one remedy, without a
//! catch-all arm, so a new variant has to choose.

use std::fmt;

/// A cause, whatever its type.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The one thing to do about an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Remedy {
    /// An outage: wait, back off, try again, for ever.
    Retry,
    /// This row's data cannot be applied. Everything else can.
    Park(Code),
    /// A person must act; what is affected pauses and says so.
    Operator(Code),
    /// Our own law is broken: stop, and exit non-zero.
    Bug,
}

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)*) => {
        /// A stable name for a kind of trouble; `docs/errors/<CODE>.md` says what to do.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Code { $($(#[$doc])* $name,)* }

        impl Code {
            /// Every code there is.
            pub const ALL: &'static [Code] = &[$(Code::$name,)*];

            /// The code as it is printed and as its page is named.
            pub fn as_str(self) -> &'static str {
                match self { $(Code::$name => $text,)* }
            }
        }
    };
}

codes! {
    /// The configuration file or the command line is wrong.
    Config = "CONFIG",
    /// Another process uses this data directory.
    DataLocked = "DATA-LOCKED",
    /// A source database lacks a setting, a privilege or an object we need.
    SourceSetup = "SOURCE-SETUP",
    /// A published table is missing, has no key, or lacks a published field.
    SourceSchema = "SOURCE-SCHEMA",
    /// The source's history is not the one the log follows.
    SourceEpoch = "SOURCE-EPOCH",
    /// Somebody else captures this source.
    SourceBusy = "SOURCE-BUSY",
    /// A source sent something we cannot carry.
    SourceData = "SOURCE-DATA",
    /// A subscription and the entity or the target table do not fit.
    SinkSchema = "SINK-SCHEMA",
    /// A target database lacks a privilege or an object we need.
    SinkSetup = "SINK-SETUP",
    /// A row's data does not fit the target.
    SinkData = "SINK-DATA",
    /// More keys are parked than a route may park.
    SinkParked = "SINK-PARKED",
    /// The target's checkpoint is not the one this log wrote.
    SinkCheckpoint = "SINK-CHECKPOINT",
    /// The event log is damaged.
    LogDamaged = "LOG-DAMAGED",
    /// The event log could not be written to its disk.
    LogFailed = "LOG-FAILED",
    /// The log no longer holds what a route still needs.
    LogTrimmed = "LOG-TRIMMED",
    /// The registry of subscriptions is damaged, foreign or too new.
    Registry = "REGISTRY",
    /// A change to the subscriptions is refused.
    Subscription = "SUBSCRIPTION",
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// An error that knows its remedy and can tell a person what to type next.
pub trait Diagnose: std::error::Error + Send + Sync + 'static {
    /// What to do about it.
    fn remedy(&self) -> Remedy;

    /// What a person can do next, in one or two sentences; empty when waiting is all.
    fn help(&self) -> &str;
}
