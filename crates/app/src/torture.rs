//! `rowcast torture`: random trouble between two scratch databases.

use crate::cli;
use crate::config::Secret;
use crate::databases::{self, WrongAddress};
use crate::output::Output;
use crate::report::{Exit, Failure};
use async_trait::async_trait;
use clap::Args;
use rowcast_torture::{Console, Dialect, Options, Scratch, TextRows, TortureError, Verdict};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Which scratch databases to torture, and how.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The database that publishes: postgres://… or sqlite:… It must hold no tables of yours.
    #[arg(long, value_name = "URL", env = "ROWCAST_TORTURE_FROM", hide_env_values = true, value_parser = cli::secret)]
    pub(crate) from: Secret<String>,
    /// The database that gets the copies. It must hold no tables of yours.
    #[arg(long, value_name = "URL", env = "ROWCAST_TORTURE_TO", hide_env_values = true, value_parser = cli::secret)]
    pub(crate) to: Secret<String>,
    /// Chooses every move; printed when it is chosen by chance.
    #[arg(long)]
    pub(crate) seed: Option<u64>,
    /// How long to make trouble.
    #[arg(long = "for", value_name = "TIME", default_value = "1m", value_parser = cli::duration)]
    pub(crate) time: Duration,
    /// Longest to wait for the copies to become right afterwards, each time.
    #[arg(long, value_name = "TIME", default_value = "3m", value_parser = cli::duration)]
    pub(crate) patience: Duration,
    /// Keep the configuration, the event log, the program's output and the journal in this directory.
    /// They are kept in any case when the verdict is bad.
    #[arg(long, value_name = "DIR")]
    pub(crate) keep: Option<PathBuf>,
}

pub(crate) async fn torture(args: Arguments, output: Output) -> Result<Exit, Failure> {
    let here = std::env::current_dir();
    let here = here.map_err(|e| Failure::new("there is no current directory", "").because(&e))?;
    let wrong = |e: WrongAddress| Failure::usage(e.message, e.help);
    let from = databases::scratch(&args.from, &here).map_err(wrong)?;
    let to = databases::scratch(&args.to, &here).map_err(wrong)?;
    let program = std::env::current_exe();
    let program =
        program.map_err(|e| Failure::new("rowcast cannot find itself", "").because(&e))?;
    let seed = args.seed.unwrap_or_else(rand::random);
    let (dir, temporary) = directory(args.keep)?;
    let options =
        Options { seed, time: args.time, patience: args.patience, program, dir: dir.clone() };
    output.aside(format!(
        "seed {seed}: trouble for {:?}, then judged; what happens stands in {}",
        args.time,
        dir.join("journal.txt").display()
    ));
    let verdict = rowcast_torture::torture(&options, from, to).await.map_err(cannot)?;
    if let (Verdict::Defect(_), Some(temporary)) | (Verdict::Told(_), Some(temporary)) =
        (&verdict, temporary)
    {
        // Somebody wants to read how it came to that.
        let _ = temporary.keep();
    }
    match verdict {
        Verdict::Clean => {
            output.line(format!("seed {seed}: the copies are what their source is"))?;
            Ok(Exit::Good)
        }
        Verdict::Told(code) => {
            output.line(format!(
                "seed {seed}: copies differ, and {code} says why; see {}",
                dir.display()
            ))?;
            Ok(Exit::Good)
        }
        Verdict::Defect(what) => Err(Failure::new(
            format!("seed {seed}: {what}"),
            format!(
                "this is a defect of Rowcast: please report it with the files in {}",
                dir.display()
            ),
        )),
    }
}

/// Where the files of the run go.
fn directory(keep: Option<PathBuf>) -> Result<(PathBuf, Option<tempfile::TempDir>), Failure> {
    if let Some(dir) = keep {
        return match std::path::absolute(&dir) {
            Ok(dir) => Ok((dir, None)),
            Err(e) => Err(Failure::new("the directory cannot be used", "").because(&e)),
        };
    }
    let made = tempfile::Builder::new().prefix("rowcast-torture-").tempdir();
    let made = made.map_err(|e| {
        let help = "name a directory with --keep";
        Failure::new("no temporary directory can be made", help).because(&e)
    })?;
    Ok((made.path().to_path_buf(), Some(made)))
}

fn cannot(error: TortureError) -> Failure {
    let help = match &error {
        TortureError::NotEmpty { .. } => {
            "torture drops and damages tables: give it two databases made for it, such as `createdb \
             scratch`"
        }
        TortureError::Database { .. } => "see that the database can be reached and changed",
        TortureError::Io(_) => "see that there is room and that the directory can be written",
    };
    let message = match &error {
        TortureError::NotEmpty { address, table } => {
            let address = crate::config::without_passwords(address).to_string();
            format!("{address} has tables that are not torture's, such as {table}")
        }
        TortureError::Database { address, what } => {
            format!("{} is not ready: {what}", crate::config::without_passwords(address))
        }
        TortureError::Io(_) => error.to_string(),
    };
    let failure = Failure::new(message, help);
    match &error {
        TortureError::Io(io) => failure.because(io),
        TortureError::NotEmpty { .. } | TortureError::Database { .. } => failure,
    }
}

/// A scratch database on a PostgreSQL server.
pub(crate) struct PostgresScratch {
    address: String,
}

impl PostgresScratch {
    pub(crate) fn new(address: &str) -> Self {
        Self { address: address.into() }
    }
}

#[async_trait]
impl Scratch for PostgresScratch {
    fn dialect(&self) -> Dialect {
        Dialect::Postgres
    }

    fn address(&self) -> &str {
        &self.address
    }

    async fn open(&self) -> Result<Box<dyn Console>, String> {
        Ok(Box::new(PostgresConsole(rowcast_postgres::Console::open(&self.address).await?)))
    }
}

struct PostgresConsole(rowcast_postgres::Console);

#[async_trait]
impl Console for PostgresConsole {
    async fn run(&mut self, sql: &str) -> Result<TextRows, String> {
        self.0.run(sql).await
    }
}

/// A scratch database in an SQLite file.
pub(crate) struct SqliteScratch {
    path: PathBuf,
    address: String,
}

impl SqliteScratch {
    pub(crate) fn new(path: &Path) -> Self {
        Self { path: path.into(), address: format!("sqlite:{}", path.display()) }
    }
}

#[async_trait]
impl Scratch for SqliteScratch {
    fn dialect(&self) -> Dialect {
        Dialect::Sqlite
    }

    fn address(&self) -> &str {
        &self.address
    }

    async fn open(&self) -> Result<Box<dyn Console>, String> {
        Ok(Box::new(SqliteConsole(rowcast_sqlite::Console::open(&self.path).await?)))
    }
}

struct SqliteConsole(rowcast_sqlite::Console);

#[async_trait]
impl Console for SqliteConsole {
    async fn run(&mut self, sql: &str) -> Result<TextRows, String> {
        self.0.run(sql).await
    }
}
