//! What `rowcast check` finds.

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Looked at, and good.
    Good,
    /// Works, but somebody should know.
    Warning,
    /// Will not work.
    Error,
}

/// Statements that mend a finding, run as they are printed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fix {
    /// What to run, in order.
    pub statements: Vec<String>,
    /// `check --fix` may run them: they neither lose data nor restart anything.
    pub safe: bool,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// What was looked at, such as `public.customers` or `wal_level`.
    pub subject: String,
    /// What was found, as a sentence.
    pub message: String,
    /// What to do, in words; empty when nothing is to be done.
    pub help: String,
    /// What to run, when SQL can mend it.
    pub fix: Option<Fix>,
}

impl Finding {
    /// A finding without a fix.
    pub fn new(
        severity: Severity,
        subject: impl Into<String>,
        message: impl Into<String>,
        help: impl Into<String>,
    ) -> Self {
        let (subject, message, help) = (subject.into(), message.into(), help.into());
        Self { severity, subject, message, help, fix: None }
    }

    /// The same with statements that mend it.
    pub fn with_fix(mut self, safe: bool, statements: Vec<String>) -> Self {
        self.fix = Some(Fix { statements, safe });
        self
    }
}
