//! The command line.

use crate::config::Secret;
use crate::paint::ColorChoice;
use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;
use rowcast_core::{EntityRef, Point, RouteId, ServiceName};
use std::convert::Infallible;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

/// Keeps the databases of microservices in step.
///
/// Each service owns its data; the others hold read-only copies of the parts they need. Begin with
/// `rowcast demo`, then `rowcast init`.
#[derive(Debug, Parser)]
#[command(name = "rowcast", version, arg_required_else_help = true, max_term_width = 100)]
pub(crate) struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
    /// Settings for every command.
    #[command(flatten)]
    pub(crate) global: Global,
}

/// Settings for every command.
#[derive(Debug, Args)]
pub(crate) struct Global {
    /// The configuration file.
    #[arg(
        long,
        short,
        global = true,
        value_name = "FILE",
        env = "ROWCAST_CONFIG",
        default_value = "rowcast.toml"
    )]
    pub(crate) config: PathBuf,
    /// Say more; twice for everything.
    #[arg(long, short, global = true, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,
    /// When to use colour.
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto")]
    pub(crate) color: ColorChoice,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Show what Rowcast does: two services on SQLite with live traffic, told in plain words.
    Demo(Demo),
    /// Write a commented rowcast.toml, from the tables found in databases if you like.
    Init(Init),
    /// Look at the file, connections, privileges, keys, types and targets: every problem with its
    /// remedy.
    Check(Check),
    /// Copy what is there, then follow every change.
    Run(Run),
    /// Show services, routes, lag, and why something waits.
    Status(Status),
    /// Print a service's events as they come.
    Tail(Tail),
    /// Wait until a change has arrived: read your own write elsewhere.
    Wait(Wait),
    /// Look at the event log.
    #[command(subcommand)]
    Log(Log),
    /// Print a completion script for a shell.
    Completions {
        /// Which shell.
        shell: Shell,
    },
}

/// How long and where the demo runs.
#[derive(Debug, Args)]
pub(crate) struct Demo {
    /// How long to make traffic.
    #[arg(long, default_value_t = 15, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub(crate) seconds: u64,
    /// Keep the databases, the event log and the configuration file in this directory.
    #[arg(long, value_name = "DIR")]
    pub(crate) keep: Option<PathBuf>,
}

/// Where to look for tables.
#[derive(Debug, Args)]
pub(crate) struct Init {
    /// The database that publishes: postgres://… or sqlite:…
    #[arg(long, value_name = "URL", value_parser = secret)]
    pub(crate) from: Option<Secret<String>>,
    /// The database that gets the copies.
    #[arg(long, value_name = "URL", requires = "from", value_parser = secret)]
    pub(crate) to: Option<Secret<String>>,
}

/// What `check` may do.
#[derive(Debug, Args)]
pub(crate) struct Check {
    /// Run the statements that are safe to run, then look again.
    #[arg(long)]
    pub(crate) fix: bool,
    /// As JSON.
    #[arg(long)]
    pub(crate) json: bool,
    /// Longest to wait for each database's answers, such as 10s.
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = duration)]
    pub(crate) timeout: Duration,
}

/// How `run` runs.
#[derive(Debug, Args)]
pub(crate) struct Run {
    /// End once every route has applied all that was committed when we started.
    #[arg(long)]
    pub(crate) until_caught_up: bool,
    /// Give up the history of this service that the event log follows and read all its rows again.
    #[arg(long, value_name = "SERVICE")]
    pub(crate) resnapshot: Vec<ServiceName>,
}

/// How `status` shows.
#[derive(Debug, Args)]
pub(crate) struct Status {
    /// As JSON.
    #[arg(long)]
    pub(crate) json: bool,
    /// Show it again and again.
    #[arg(long, conflicts_with = "json")]
    pub(crate) watch: bool,
}

/// What `tail` prints.
#[derive(Debug, Args)]
pub(crate) struct Tail {
    /// Whose events: SERVICE, or SERVICE.ENTITY.
    #[arg(value_name = "SERVICE[.ENTITY]")]
    pub(crate) of: TailOf,
    /// Where to begin: beginning, end, or an offset. The last ten events if unset.
    #[arg(long, value_name = "beginning|end|OFFSET")]
    pub(crate) from: Option<TailFrom>,
    /// One JSON object a line.
    #[arg(long)]
    pub(crate) json: bool,
    /// End after so many events.
    #[arg(long, value_name = "N")]
    pub(crate) limit: Option<u64>,
    /// End at the end of the log, also while `rowcast run` writes it.
    #[arg(long)]
    pub(crate) no_follow: bool,
}

/// Whose events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum TailOf {
    /// All of a service's.
    Service(ServiceName),
    /// One entity's.
    Entity(EntityRef),
}

impl FromStr for TailOf {
    type Err = rowcast_core::NameError;
    fn from_str(s: &str) -> Result<Self, Self::Err> {
        if s.contains('.') { s.parse().map(Self::Entity) } else { s.parse().map(Self::Service) }
    }
}

/// Where to begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TailFrom {
    /// The oldest event there is.
    Beginning,
    /// What comes from now on.
    End,
    /// This event.
    Offset(u64),
}

impl FromStr for TailFrom {
    type Err = &'static str;
    fn from_str(s: &str) -> Result<Self, Self::Err> {
        match s {
            "beginning" => Ok(Self::Beginning),
            "end" => Ok(Self::End),
            _ => s.parse().map(Self::Offset).map_err(|_| "write beginning, end, or an offset"),
        }
    }
}

/// What to wait for.
#[derive(Debug, Args)]
pub(crate) struct Wait {
    /// The route, written FROM:TO.
    #[arg(long, value_name = "FROM:TO")]
    pub(crate) route: RouteId,
    /// The source's position after the write: 16/B374D848 from `pg_current_wal_lsn()`, or a number.
    #[arg(long, value_name = "POS")]
    pub(crate) position: Point,
    /// Longest to wait, such as 500ms, 5s or 2m.
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = duration)]
    pub(crate) timeout: Duration,
}

/// What to look at.
#[derive(Debug, Subcommand)]
pub(crate) enum Log {
    /// Show each stream's offsets, files and size.
    Stat {
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Read every byte and compare checksums.
    Check {
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
}

/// Addresses may hold passwords.
fn secret(text: &str) -> Result<Secret<String>, Infallible> {
    Ok(Secret::new(text.to_string()))
}

fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || "write a number and a unit: 500ms, 5s, 2m, 1h".to_string();
    let digits = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
    let number: u64 = text[..digits].parse().map_err(|_| wrong())?;
    let factor = match &text[digits..] {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return Err(wrong()),
    };
    number.checked_mul(factor).map(Duration::from_millis).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn durations_have_a_unit() {
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("2m"), Ok(Duration::from_secs(120)));
        for bad in ["", "5", "s", "5 s", "-1s", "5d", "99999999999999999999s"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_entity_may_hold_dots() {
        let of: TailOf = "shop.public.orders".parse().unwrap();
        assert_eq!(of, TailOf::Entity("shop.public.orders".parse().unwrap()));
        assert_eq!("shop".parse(), Ok(TailOf::Service("shop".parse().unwrap())));
    }
}
