//! The command line.

mod tail;

pub(crate) use tail::{TailFrom, TailOf};

use crate::config::Secret;
use crate::output::LogFormat;
use crate::paint::ColorChoice;
use crate::torture;
use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;
use rowcast_core::{Begin, EntityName, EntityRef, Point, RouteId, ServiceName};
use std::convert::Infallible;
use std::path::PathBuf;
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
    /// How lines on stderr look: for people, or one JSON object a line.
    #[arg(
        long,
        global = true,
        value_name = "FORMAT",
        env = "ROWCAST_LOG_FORMAT",
        default_value = "text"
    )]
    pub(crate) log_format: LogFormat,
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
    /// Show rows that do not fit their copy, try them again, or give them up.
    Parked(ParkedAt),
    /// Wait until a change has arrived: read your own write elsewhere.
    Wait(Wait),
    /// Let a service have a copy of another's entity.
    Subscribe(Subscribe),
    /// Stop a copy. Its table stays, with its rows.
    Unsubscribe(Unsubscribe),
    /// List who gets what, and who asked for it.
    Subscriptions(Subscriptions),
    /// Stop a route, also across restarts; the log keeps what comes.
    Pause(Pause),
    /// Let a paused route go on; one that waits looks again at once.
    Resume(Resume),
    /// Apply the log to copies again; readers see them as they are until the new ones are whole.
    Replay(Replay),
    /// Let the running instance read its file again.
    Reload,
    /// Make an access token for the running instance.
    Token,
    /// Compare copies with their source while both go on, row by row, and mend what differs.
    Verify(Verify),
    /// Make random trouble between two scratch databases, and judge the copies afterwards.
    Torture(torture::Arguments),
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
    /// The database that publishes: postgres://… or sqlite:… Others on the machine can read a command
    /// line: set ROWCAST_FROM instead, or leave the password out and type it when you are asked.
    #[arg(
        long,
        value_name = "URL",
        env = "ROWCAST_FROM",
        hide_env_values = true,
        value_parser = secret
    )]
    pub(crate) from: Option<Secret<String>>,
    /// The database that gets the copies. The same goes for ROWCAST_TO.
    #[arg(
        long,
        value_name = "URL",
        env = "ROWCAST_TO",
        hide_env_values = true,
        requires = "from",
        value_parser = secret
    )]
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
    /// Whom to ask.
    #[command(flatten)]
    pub(crate) reach: Reach,
}

/// Which running instance to ask: the one of the configuration file's data directory, unless an
/// address is given.
#[derive(Debug, Args)]
pub(crate) struct Reach {
    /// Ask the instance at this address, http://… or https://…, without reading a file.
    #[arg(long, value_name = "URL", env = "ROWCAST_URL")]
    pub(crate) url: Option<String>,
    /// The access token to send. The running instance on this machine needs none from those who
    /// may read its data directory.
    #[arg(long, value_name = "TOKEN", env = "ROWCAST_TOKEN", hide_env_values = true, value_parser = secret)]
    pub(crate) token: Option<Secret<String>>,
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

/// What to wait for.
#[derive(Debug, Args)]
pub(crate) struct Wait {
    /// The route, written FROM:TO.
    #[arg(long, value_name = "FROM:TO")]
    pub(crate) route: RouteId,
    /// The source's position after the write: 16/B374D848 from `pg_current_wal_lsn()`, or a number.
    #[arg(long, value_name = "POS", required_unless_present = "live")]
    pub(crate) position: Option<Point>,
    /// Wait until the route's copies hold every row that was there.
    #[arg(long)]
    pub(crate) live: bool,
    /// Longest to wait, such as 500ms, 5s or 2m.
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = duration)]
    pub(crate) timeout: Duration,
    /// Whom to ask.
    #[command(flatten)]
    pub(crate) reach: Reach,
}

/// What to compare.
#[derive(Debug, Args)]
pub(crate) struct Verify {
    /// Only this route, written FROM:TO. All of them if unset.
    #[arg(long, value_name = "FROM:TO")]
    pub(crate) route: Option<RouteId>,
    /// Write the rows that differ as the source has them, then compare again.
    #[arg(long)]
    pub(crate) repair: bool,
    /// Show the values that differ, not only their columns.
    #[arg(long)]
    pub(crate) values: bool,
    /// As JSON.
    #[arg(long)]
    pub(crate) json: bool,
    /// Longest to wait until the log, and then a copy, has come as far as its source.
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = duration)]
    pub(crate) timeout: Duration,
}

/// Parked keys of an instance.
#[derive(Debug, Args)]
pub(crate) struct ParkedAt {
    /// Which instance.
    #[command(flatten)]
    pub(crate) reach: Reach,
    /// What to do.
    #[command(subcommand)]
    pub(crate) what: Parked,
}

/// What to do about parked keys.
#[derive(Debug, Subcommand)]
pub(crate) enum Parked {
    /// Show what is parked, and why.
    List {
        /// Of this route only, written FROM:TO.
        #[arg(long, value_name = "FROM:TO")]
        route: Option<RouteId>,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Show the database's words and the pending row of one key.
    Show {
        /// The route, written FROM:TO.
        #[arg(value_name = "FROM:TO")]
        route: RouteId,
        /// The table, as `list` shows it.
        table: String,
        /// The key, as `list` shows it.
        key: String,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Try parked keys again now.
    Retry(ParkedWhich),
    /// Give up pending rows: the copy keeps what it has until the key's next whole row.
    Drop {
        /// Which.
        #[command(flatten)]
        which: ParkedWhich,
        /// Do not ask.
        #[arg(long)]
        yes: bool,
    },
}

/// Which parked keys.
#[derive(Debug, Args)]
pub(crate) struct ParkedWhich {
    /// The route, written FROM:TO.
    #[arg(value_name = "FROM:TO")]
    pub(crate) route: RouteId,
    /// The table, as `list` shows it.
    pub(crate) table: Option<String>,
    /// The key, as `list` shows it.
    pub(crate) key: Option<String>,
    /// All of the route.
    #[arg(long, conflicts_with = "table")]
    pub(crate) all: bool,
}

/// Who gets what.
#[derive(Debug, Args)]
pub(crate) struct Subscribe {
    /// The subscriber.
    #[arg(value_name = "SERVICE")]
    pub(crate) to: ServiceName,
    /// The entity.
    #[arg(value_name = "SERVICE.ENTITY")]
    pub(crate) of: EntityRef,
    /// The copy's table. The entity's name if unset.
    #[arg(long, value_name = "TABLE")]
    pub(crate) into: Option<String>,
    /// Which fields, as NAME or LOCAL=NAME. All, also those that come later, if unset.
    #[arg(long, value_name = "FIELDS", value_delimiter = ',')]
    pub(crate) fields: Option<Vec<String>>,
    /// Which rows: an SQL condition over the entity's fields.
    #[arg(long = "where", value_name = "CONDITION")]
    pub(crate) filter: Option<String>,
    /// Where the copy begins. `beginning` builds all of it. `now` takes only what is committed from
    /// here on. From an offset of the event log, or a position of the publisher's such as 0/16B3748
    /// or position:1234, every change after it is applied to the rows that the table has: load a
    /// backup, then follow from its position.
    #[arg(long, value_name = "beginning|now|OFFSET|POSITION", default_value = "beginning")]
    pub(crate) from: Begin,
    /// The table must be there; it is not made.
    #[arg(long)]
    pub(crate) no_create: bool,
    /// Return once the copy is complete.
    #[arg(long)]
    pub(crate) wait_live: bool,
    /// Longest to wait for that.
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = duration)]
    pub(crate) timeout: Duration,
}

/// Which copy is no longer wanted.
#[derive(Debug, Args)]
pub(crate) struct Unsubscribe {
    /// The subscriber.
    #[arg(value_name = "SERVICE")]
    pub(crate) to: ServiceName,
    /// The entity.
    #[arg(value_name = "SERVICE.ENTITY")]
    pub(crate) of: EntityRef,
    /// The copy's table, when there are several.
    #[arg(long, value_name = "TABLE")]
    pub(crate) into: Option<String>,
}

/// How `subscriptions` shows.
#[derive(Debug, Args)]
pub(crate) struct Subscriptions {
    /// As JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

/// What to stop.
#[derive(Debug, Args)]
pub(crate) struct Pause {
    /// The route, written FROM:TO.
    #[arg(value_name = "FROM:TO")]
    pub(crate) route: RouteId,
    /// Why, for others who look at the status.
    #[arg(long, value_name = "TEXT")]
    pub(crate) why: Option<String>,
}

/// What to let go on.
#[derive(Debug, Args)]
pub(crate) struct Resume {
    /// The route, written FROM:TO.
    #[arg(value_name = "FROM:TO")]
    pub(crate) route: RouteId,
}

/// What to apply again.
#[derive(Debug, Args)]
pub(crate) struct Replay {
    /// The route, written FROM:TO.
    #[arg(value_name = "FROM:TO")]
    pub(crate) route: RouteId,
    /// Only copies of these entities. All of the route's if unset.
    #[arg(value_name = "ENTITY")]
    pub(crate) entities: Vec<EntityName>,
    /// From where on. `beginning` builds the copies anew from nothing, so that rows that the
    /// publisher does not have go. From an offset of the event log, or a position of the publisher's
    /// such as 0/16B3748 or position:1234, every change after it is applied to the rows that the
    /// copies have.
    #[arg(long, value_name = "beginning|OFFSET|POSITION", default_value = "beginning")]
    pub(crate) from: Begin,
    /// Return once the copies are live again.
    #[arg(long)]
    pub(crate) wait_live: bool,
    /// Longest to wait for that.
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = duration)]
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
    /// Keep only every key's latest state of all that is in the log; nothing may run meanwhile.
    Compact,
}

/// Addresses may hold passwords.
pub(crate) fn secret(text: &str) -> Result<Secret<String>, Infallible> {
    Ok(Secret::new(text.to_string()))
}

pub(crate) fn duration(text: &str) -> Result<Duration, String> {
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
