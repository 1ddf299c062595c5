//! What the rooms have to say while they work: lines for people, or one JSON object a line for
//! machines, above the progress bars.

use super::{Output, aside};
use crate::cli::{Cli, Command};
use crate::config::without_passwords;
use crate::time::now_micros;
use clap::ValueEnum;
use indicatif::MultiProgress;
use serde_json::{Map, Value};
use std::fmt;
use std::io::{self, Write};
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::{FormatEvent, FormatFields, Writer};
use tracing_subscriber::fmt::time::FormatTime;
use tracing_subscriber::fmt::{FmtContext, MakeWriter};
use tracing_subscriber::registry::LookupSpan;

/// How lines on stderr look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// Lines that people read.
    Text,
    /// One JSON object a line.
    Json,
}

/// Sends what the rooms have to say to stderr.
pub(crate) fn trace(cli: &Cli, bars: &MultiProgress, output: Output) {
    let quiet = !matches!(cli.command, Command::Run(_));
    let default = match (cli.global.verbose, quiet) {
        (0, true) => "error",
        (0, false) => "warn,rowcast=info,rowcast_engine=info,rowcast_store=info",
        (1, _) => {
            "info,rowcast=debug,rowcast_engine=debug,rowcast_store=debug,\
                   rowcast_postgres=debug,rowcast_sqlite=debug,rowcast_server=debug"
        }
        (_, _) => "trace",
    };
    // Flag over environment over default.
    let from_env = std::env::var("RUST_LOG").ok().filter(|_| cli.global.verbose == 0);
    let filter = match from_env.map(EnvFilter::try_new) {
        Some(Ok(filter)) => filter,
        Some(Err(_)) | None => EnvFilter::new(default),
    };
    // Its own complaints of a line that cannot be written would end the process.
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(AboveBars(bars.clone()))
        .log_internal_errors(false);
    match cli.global.log_format {
        LogFormat::Json => lines.event_format(Json).init(),
        LogFormat::Text => lines
            .with_target(cli.global.verbose > 0)
            .with_ansi(output.aside.is_on())
            .with_timer(Clock)
            .compact()
            .init(),
    }
}

fn now() -> String {
    rowcast_server::rfc3339(now_micros(), 3)
}

struct Clock;

impl FormatTime for Clock {
    fn format_time(&self, w: &mut Writer<'_>) -> fmt::Result {
        w.write_str(&now())
    }
}

/// One JSON object a line: time, level, target, message, help, and an event's own fields.
struct Json;

impl<S, N> FormatEvent<S, N> for Json
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let level = event.metadata().level().as_str();
        let mut object = said(level, &fields.message);
        object.insert("target".into(), event.metadata().target().into());
        object.extend(fields.others);
        writeln!(writer, "{}", Value::Object(object))
    }
}

#[derive(Default)]
struct Fields {
    message: String,
    others: Map<String, Value>,
}

impl Fields {
    fn keep(&mut self, field: &Field, value: Value) {
        match (field.name(), value) {
            ("message", Value::String(text)) => self.message = text,
            (name, value) => drop(self.others.insert(name.into(), value)),
        }
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.keep(field, format!("{value:?}").into());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.keep(field, value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.keep(field, value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.keep(field, value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.keep(field, value.into());
    }
}

/// A text as an object; what stands after `help:` becomes a field of its own.
pub(super) fn said(level: &str, text: &str) -> Map<String, Value> {
    let (message, help) = match text.split_once("\n  help: ") {
        Some((message, help)) => (message, Some(help.trim_end())),
        None => (text, None),
    };
    let mut object = Map::new();
    object.insert("time".into(), now().into());
    object.insert("level".into(), level.into());
    object.insert("message".into(), without_passwords(message.trim_end()).to_string().into());
    object.extend(help.map(|h| ("help".to_string(), h.into())));
    object
}

struct AboveBars(MultiProgress);

impl<'a> MakeWriter<'a> for AboveBars {
    type Writer = BarWriter<'a>;
    fn make_writer(&'a self) -> BarWriter<'a> {
        BarWriter(&self.0)
    }
}

struct BarWriter<'a>(&'a MultiProgress);

impl Write for BarWriter<'_> {
    /// One call holds one whole line.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.suspend(|| aside::say(line));
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn help_is_a_field_of_its_own_and_passwords_are_none() {
        let object = said("WARN", "postgres://a:geheim@h/d is away\n  help: start it\n");
        assert_eq!(object["message"], "postgres://a:***@h/d is away");
        assert_eq!(object["help"], "start it");
        assert_eq!(object["level"], "WARN");
    }
}
