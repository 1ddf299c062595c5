//! Where words go: answers to stdout, everything else to stderr.

mod aside;
mod screen;
mod trace;

pub(crate) use screen::bars;
pub(crate) use trace::{LogFormat, trace};

use crate::cli::Global;
use crate::config::Loaded;
use crate::paint::{ColorChoice, Paint};
use crate::report::{Exit, Failure};
use serde_json::Value;
use std::io::{self, Write};
use std::time::Duration;

/// Longest to wait at the end for whoever reads stderr.
const SETTLED: Duration = Duration::from_secs(1);

/// Both outputs and how they are painted.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Output {
    /// For stdout.
    pub(crate) paint: Paint,
    /// For stderr.
    pub(crate) aside: Paint,
    format: LogFormat,
}

impl Output {
    pub(crate) fn new(global: &Global) -> Self {
        aside::start();
        // Machines read no colours.
        let choice = match global.log_format {
            LogFormat::Text => global.color,
            LogFormat::Json => ColorChoice::Never,
        };
        Self {
            paint: Paint::new(global.color, &io::stdout()),
            aside: Paint::new(choice, &io::stderr()),
            format: global.log_format,
        }
    }

    /// A line of an answer.
    pub(crate) fn line(&self, text: impl AsRef<str>) -> Result<(), Failure> {
        self.raw(format!("{}\n", text.as_ref()).as_bytes())
    }

    /// Bytes of an answer.
    pub(crate) fn raw(&self, bytes: &[u8]) -> Result<(), Failure> {
        let mut out = io::stdout().lock();
        out.write_all(bytes).and_then(|()| out.flush()).map_err(|e| Failure::output(&e))
    }

    /// A line beside the answer. Nobody may be listening, and that is fine.
    pub(crate) fn aside(&self, text: impl AsRef<str>) {
        self.say("INFO", format!("{}\n", text.as_ref()));
    }

    /// A question to a person at a terminal; the answer is read from where they type.
    pub(crate) fn ask(&self, question: &str) {
        aside::say(question);
        aside::settle(SETTLED);
    }

    /// Shows what somebody should know about a good file.
    pub(crate) fn warnings(&self, loaded: &Loaded) {
        if !loaded.warnings.is_empty() {
            self.say("WARN", loaded.file.render(&loaded.warnings, self.aside));
        }
    }

    /// Shows why a command failed, and says how to exit.
    pub(crate) fn failure(&self, failure: &Failure) -> Exit {
        match self.format {
            _ if failure.is_silent() => {}
            LogFormat::Text => aside::say(failure.render(self.aside)),
            LogFormat::Json => {
                let mut object = trace::said("ERROR", &failure.message());
                failure.fields(&mut object);
                aside::say(format!("{}\n", Value::Object(object)));
            }
        }
        failure.exit
    }

    /// Lets what was said arrive, as far as somebody reads it.
    pub(crate) fn settle(&self) {
        aside::settle(SETTLED);
    }

    fn say(&self, level: &str, text: String) {
        match self.format {
            LogFormat::Text => aside::say(text),
            LogFormat::Json => {
                aside::say(format!("{}\n", Value::Object(trace::said(level, &text))));
            }
        }
    }
}
