//! `cargo xtask test`: installs what the tests need, where it can, runs them, and adds up.

use crate::outcome::{Outcome, follow};
use crate::run::{cargo, must};
use crate::{fetch, tools, torture};
use anyhow::{Context, Result, bail};
use clap::Args;
use rowcast_testkit::postgres::{BIN_DIR_VARIABLE, OFFLINE_VARIABLE, major_variable};
use std::path::Path;
use std::str::FromStr;

#[derive(Args)]
pub(crate) struct Options {
    /// Which PostgreSQL: `installed`, a major version, or `all` of them
    #[arg(long, value_name = "VERSION", default_value = "installed")]
    postgres: Servers,
    /// Everything: the installed PostgreSQL, every other version, and ten minutes of torture
    #[arg(long, conflicts_with_all = ["postgres", "offline"])]
    long: bool,
    /// Leave out the tests that need a server, and list them
    #[arg(long, conflicts_with = "postgres")]
    offline: bool,
    /// Passed on to `cargo test`
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "CARGO ARGUMENTS")]
    cargo: Vec<String>,
}

#[derive(Clone)]
enum Servers {
    Installed,
    Fetched(Vec<u32>),
}

impl FromStr for Servers {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "installed" => Ok(Self::Installed),
            "all" => Ok(Self::Fetched(fetch::versions().collect())),
            _ => match text.parse() {
                Ok(major) if fetch::versions().any(|known| known == major) => {
                    Ok(Self::Fetched(vec![major]))
                }
                _ => {
                    let known: Vec<_> = fetch::versions().map(|v| v.to_string()).collect();
                    Err(format!("expected installed, all, {}", known.join(", ")))
                }
            },
        }
    }
}

pub(crate) fn test(options: &Options) -> Result<()> {
    let installed = matches!(options.postgres, Servers::Installed);
    tools::ensure(!options.offline && installed)?;
    let mut sum = Outcome::default();
    match &options.postgres {
        Servers::Installed => sum += run(options, &everything(options), None)?,
        Servers::Fetched(versions) => sum += on_versions(options, versions)?,
    }
    if options.long {
        sum += on_versions(options, &fetch::versions().collect::<Vec<_>>())?;
    }
    if !sum.left_out.is_empty() {
        println!("\nleft out, because they need a server:");
        for name in &sum.left_out {
            println!("    {name}");
        }
    }
    println!("\n{sum}");
    // After the sum, so that a defect that chance finds hides no test's outcome.
    let tortured = options.long.then(|| torture::torture(&torture::Options::long()));
    if !sum.is_good() {
        bail!("tests failed");
    }
    tortured.unwrap_or(Ok(()))
}

/// The tests that start servers, on fetched versions.
fn on_versions(options: &Options, versions: &[u32]) -> Result<Outcome> {
    let (packages, mut sum) = (needing_postgres()?, Outcome::default());
    for major in versions {
        let bin = fetch::postgres(*major)?;
        eprintln!("\nPostgreSQL {major}");
        let outcome = run(options, &packages, Some(&bin))?;
        eprintln!("PostgreSQL {major}: {outcome}");
        sum += outcome;
    }
    Ok(sum)
}

/// The whole workspace, unless the caller chose packages.
fn everything(options: &Options) -> Vec<String> {
    let chosen = |word: &String| ["-p", "--package", "--workspace"].contains(&word.as_str());
    if options.cargo.iter().any(chosen) { Vec::new() } else { vec!["--workspace".to_owned()] }
}

fn run(options: &Options, packages: &[String], bin: Option<&Path>) -> Result<Outcome> {
    let ours = packages.iter().chain(&options.cargo);
    let words: Vec<&str> =
        ["test", "--no-fail-fast"].into_iter().chain(ours.map(String::as_str)).collect();
    // Compiled first, so that what goes wrong afterwards is a test's doing.
    let harness = words.iter().position(|word| *word == "--").unwrap_or(words.len());
    must(&mut cargo(&[&words[..harness], &["--no-run"]].concat())?)?;
    let mut command = cargo(&words)?;
    if !options.offline && fetch::can() {
        // Some tests are about what only one version can, whichever is under test.
        for major in fetch::versions() {
            command.env(major_variable(major), fetch::postgres(major)?);
        }
    }
    if let Some(bin) = bin {
        command.env(BIN_DIR_VARIABLE, bin);
    }
    if options.offline {
        command.env(OFFLINE_VARIABLE, "1");
    }
    follow(command, options.offline)
}

/// The packages whose tests start PostgreSQL servers, as arguments for cargo.
fn needing_postgres() -> Result<Vec<String>> {
    let mut arguments = Vec::new();
    for file in crate::tidy::sources()? {
        let Some(package) = file.package() else { continue };
        let known = arguments.contains(&package);
        if !known && package != "xtask" && starts_servers(&file.text) {
            arguments.extend(["-p".to_owned(), package]);
        }
    }
    if arguments.is_empty() {
        None.context("no package's tests start PostgreSQL")?;
    }
    Ok(arguments)
}

fn starts_servers(source: &str) -> bool {
    source.contains("rowcast_testkit") && source.contains("postgres")
}
