//! Chores, written in Rust so that every machine runs the same ones: `cargo xtask --help`.

mod bench;
mod check;
mod fetch;
mod outcome;
mod run;
mod test;
mod tidy;
mod tools;
mod torture;

use anyhow::Result;
use clap::{Parser, Subcommand};
use std::process::ExitCode;

#[derive(Parser)]
#[command(name = "cargo xtask", about = "The project's chores")]
struct Arguments {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Subcommand)]
enum Chore {
    /// Format, lints, documentation, tidy: what needs no server
    Check,
    /// Installs what the tests need, where it can, and runs them
    Test(test::Options),
    /// Measures Rowcast beside PostgreSQL's own logical replication, on servers of its own
    Bench(bench::Options),
    /// Makes random trouble between servers of its own, for minutes, and judges the copies
    Torture(torture::Options),
    /// Looks for what no compiler sees: sizes, rooms, links, words
    Tidy,
}

fn main() -> ExitCode {
    let done = match Arguments::parse().chore {
        Chore::Check => check::check(),
        Chore::Test(options) => test::test(&options),
        Chore::Bench(options) => bench::bench(&options),
        Chore::Torture(options) => torture::torture(&options),
        Chore::Tidy => tidy::tidy(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The directory that holds the workspace.
fn root() -> Result<&'static std::path::Path> {
    use anyhow::Context;
    std::path::Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("xtask lies in the workspace")
}
