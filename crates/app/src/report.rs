//! Errors as people see them: code, message, causes, help and the page that says more. The only
//! place that renders them.

use crate::config::{ConfigError, without_passwords};
use crate::paint::Paint;
use rowcast_core::{Code, Diagnose, Finding, Severity};
use rowcast_engine::TroubleReport;
use serde_json::{Map, Value};
use std::fmt::Write as _;
use std::process::ExitCode;

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Good.
    Good,
    /// The answer is no.
    No,
    /// Wrong usage.
    Usage,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        match exit {
            Exit::Good => ExitCode::SUCCESS,
            Exit::No => ExitCode::from(1),
            Exit::Usage => ExitCode::from(2),
        }
    }
}

/// Why a command did not do what was asked.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) exit: Exit,
    code: Option<&'static str>,
    message: String,
    causes: Vec<String>,
    help: String,
    /// Shown before everything else: problems in a file, with their lines.
    config: Option<Box<ConfigError>>,
}

impl Failure {
    /// The answer is no.
    pub(crate) fn new(message: impl Into<String>, help: impl Into<String>) -> Self {
        Self {
            exit: Exit::No,
            code: None,
            message: message.into(),
            causes: Vec::new(),
            help: help.into(),
            config: None,
        }
    }

    /// The command line asks for what is not there.
    pub(crate) fn usage(message: impl Into<String>, help: impl Into<String>) -> Self {
        Self::new(message, help).with_code(Code::Config).with_exit(Exit::Usage)
    }

    pub(crate) fn with_code(mut self, code: Code) -> Self {
        self.code = Some(code.as_str());
        self
    }

    pub(crate) fn with_exit(mut self, exit: Exit) -> Self {
        self.exit = exit;
        self
    }

    /// An answer could not be written. A reader that has seen enough, such as `head`, is no failure.
    pub(crate) fn output(error: &std::io::Error) -> Self {
        if error.kind() == std::io::ErrorKind::BrokenPipe {
            return Self::new("", "").with_exit(Exit::Good);
        }
        Self::new("the answer cannot be written", "").because(error)
    }

    /// What happened, in one line.
    pub(crate) fn message(&self) -> String {
        without_passwords(&self.message).to_string()
    }

    /// Nothing needs to be shown.
    pub(crate) fn is_silent(&self) -> bool {
        self.message.is_empty()
    }

    /// Adds an error and everything behind it as causes.
    pub(crate) fn because(mut self, error: &dyn std::error::Error) -> Self {
        let mut next = Some(error);
        while let Some(e) = next {
            let text = e.to_string();
            if self.causes.last() != Some(&text) {
                self.causes.push(text);
            }
            next = e.source();
        }
        self
    }

    /// As `check` shows it.
    pub(crate) fn finding(&self, subject: impl Into<String>) -> Finding {
        let mut message = self.message();
        for cause in &self.causes {
            message = format!("{message}: {}", without_passwords(cause));
        }
        Finding::new(Severity::Error, subject, message, self.help.clone())
    }

    /// An error that knows its remedy.
    pub(crate) fn of(error: &dyn Diagnose) -> Self {
        TroubleReport::of(error).into()
    }

    /// What else is known, for machines.
    pub(crate) fn fields(&self, object: &mut Map<String, Value>) {
        if let Some(ConfigError::Wrong { file, problems }) = self.config.as_deref() {
            object.insert("problems".into(), file.json(problems).into());
        }
        object.extend(self.code.map(|code| ("code".into(), code.into())));
        let causes = self.causes.iter().map(|cause| without_passwords(cause).to_string());
        object.insert("causes".into(), causes.collect());
        object.insert("help".into(), self.help.clone().into());
    }

    pub(crate) fn render(&self, paint: Paint) -> String {
        let mut out = String::new();
        if let Some(ConfigError::Wrong { file, problems }) = self.config.as_deref() {
            out.push_str(&file.render(problems, paint));
        }
        let code = self.code.map(|c| format!("[{c}]")).unwrap_or_default();
        let message = without_passwords(&self.message);
        let _ = writeln!(out, "{}: {}", paint.red(&format!("error{code}")), paint.bold(&message));
        for cause in &self.causes {
            let _ = writeln!(out, "  {} {}", paint.dim("because:"), without_passwords(cause));
        }
        if !self.help.is_empty() {
            let help = self.help.replace('\n', "\n        ");
            let _ = writeln!(out, "  {} {help}", paint.cyan("help:"));
        }
        if let Some(code) = self.code {
            let _ = writeln!(out, "  {}", paint.dim(&format!("page: docs/errors/{code}.md")));
        }
        out
    }
}

impl From<TroubleReport> for Failure {
    fn from(report: TroubleReport) -> Self {
        let mut failure = Self::new(report.message, report.help);
        failure.code = report.code;
        failure.causes = report.causes;
        failure
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        let failure = match &error {
            ConfigError::Missing(name) => Self::usage(
                format!("there is no {name}"),
                "`rowcast init` writes a first one; `--config FILE` names another",
            ),
            ConfigError::Unreadable { name, source } => {
                Self::usage(format!("{name} cannot be read"), "").because(source)
            }
            ConfigError::Wrong { .. } => Self::usage(error.to_string(), ""),
        };
        Self { config: Some(Box::new(error)), ..failure }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_shows_code_message_causes_help_and_page_but_no_password() {
        let cause = std::io::Error::other("postgres://a:geheim@h/d said no");
        let failure = Failure::new("it did not work", "try again\nlater")
            .with_code(Code::SourceSetup)
            .because(&cause);
        assert_eq!(
            failure.render(Paint::PLAIN),
            "error[SOURCE-SETUP]: it did not work\n  because: postgres://a:***@h/d said no\n  \
             help: try again\n        later\n  page: docs/errors/SOURCE-SETUP.md\n"
        );
    }
}
