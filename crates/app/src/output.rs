//! Where words go: answers to stdout, everything else to stderr.

use crate::cli::{Cli, Command};
use crate::config::Loaded;
use crate::paint::{ColorChoice, Paint};
use crate::report::{Exit, Failure};
use crate::time::now_micros;
use indicatif::MultiProgress;
use std::fmt;
use std::io::{self, Write};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::FormatTime;

/// Both outputs and how they are painted.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Output {
    /// For stdout.
    pub(crate) paint: Paint,
    /// For stderr.
    pub(crate) aside: Paint,
}

impl Output {
    pub(crate) fn new(choice: ColorChoice) -> Self {
        Self { paint: Paint::new(choice, &io::stdout()), aside: Paint::new(choice, &io::stderr()) }
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
        let _ = writeln!(io::stderr(), "{}", text.as_ref());
    }

    /// Shows what somebody should know about a good file.
    pub(crate) fn warnings(&self, loaded: &Loaded) {
        if !loaded.warnings.is_empty() {
            let _ = write!(io::stderr(), "{}", loaded.file.render(&loaded.warnings, self.aside));
        }
    }

    /// Shows why a command failed, and says how to exit.
    pub(crate) fn failure(&self, failure: &Failure) -> Exit {
        if !failure.is_silent() {
            let _ = write!(io::stderr(), "{}", failure.render(self.aside));
        }
        failure.exit
    }
}

/// Sends what the rooms have to say to stderr, above the progress bars.
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
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_target(cli.global.verbose > 0)
        .with_ansi(output.aside.is_on())
        .with_timer(Clock)
        .with_writer(AboveBars(bars.clone()))
        .compact()
        .init();
}

struct Clock;

impl FormatTime for Clock {
    fn format_time(&self, w: &mut Writer<'_>) -> fmt::Result {
        w.write_str(&rowcast_server::rfc3339(now_micros(), 3))
    }
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
        self.0.suspend(|| io::stderr().write_all(line))?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}
