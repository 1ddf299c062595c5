//! `rowcast`: keeps the databases of microservices in step.
//!
//! This room is the command line: it reads the configuration, picks the implementations, and shows
//! errors. It decides nothing about data.

mod check;
mod cli;
mod config;
mod databases;
mod demo;
mod events;
mod ground;
mod init;
mod instance;
mod log;
mod output;
mod paint;
mod parked;
mod report;
mod run;
mod status;
mod subscribe;
mod tail;
mod time;
mod token;
mod torture;
mod verify;
mod wait;

use clap::{CommandFactory, Parser};
use cli::{Cli, Command};
use indicatif::MultiProgress;
use output::{LogFormat, Output};
use report::{Exit, Failure};
use std::process::ExitCode;
use std::time::Duration;

/// How long a command's leftover threads may take once it has its answer.
const LEFTOVERS: Duration = Duration::from_secs(1);

fn main() -> ExitCode {
    // Two providers in one process make rustls panic: install ours before anybody asks.
    let ours = rustls::crypto::ring::default_provider().install_default();
    ours.expect("nothing ran before main");
    let cli = Cli::parse();
    let output = Output::new(&cli.global);
    let bars = output::bars(cli.global.log_format == LogFormat::Text);
    output::trace(&cli, &bars, output);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let ended = match runtime {
        Ok(runtime) => {
            let ended = runtime.block_on(execute(cli, output, bars));
            runtime.shutdown_timeout(LEFTOVERS);
            ended
        }
        Err(e) => Err(Failure::new("the system gives us no threads", "").because(&e)),
    };
    let exit = ended.unwrap_or_else(|failure| output.failure(&failure));
    output.settle();
    exit.into()
}

async fn execute(cli: Cli, output: Output, bars: MultiProgress) -> Result<Exit, Failure> {
    let file = &cli.global.config;
    match cli.command {
        Command::Demo(args) => demo::demo(args, output).await,
        Command::Init(args) => init::init(args, file, output).await,
        Command::Check(args) => check::check(args, file, output).await,
        Command::Run(args) => run::run(args, file, output, bars).await,
        Command::Status(args) => status::status(args, file, output).await,
        Command::Tail(args) => tail::tail(args, file, output).await,
        Command::Parked(args) => parked::parked(args, file, output).await,
        Command::Wait(args) => wait::wait(args, file, output).await,
        Command::Subscribe(args) => subscribe::subscribe(args, file, output).await,
        Command::Unsubscribe(args) => subscribe::unsubscribe(args, file, output).await,
        Command::Subscriptions(args) => subscribe::subscriptions(args, file, output).await,
        Command::Pause(args) => subscribe::pause(args, file, output).await,
        Command::Resume(args) => subscribe::resume(args, file, output).await,
        Command::Replay(args) => subscribe::replay(args, file, output).await,
        Command::Reload => subscribe::reload(file, output).await,
        Command::Token => token::token(output),
        Command::Verify(args) => verify::verify(args, file, output, bars).await,
        Command::Torture(args) => torture::torture(args, output).await,
        Command::Log(args) => log::log(args, file, output).await,
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "rowcast", &mut script);
            output.raw(&script)?;
            Ok(Exit::Good)
        }
    }
}
