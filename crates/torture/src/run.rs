//! One run of torture: prepare, trouble, settle, judge.

mod settle;

use crate::console::{Console, Dialect, Scratch};
use crate::instance::Instance;
use crate::journal::Journal;
use crate::moves::{self, Step};
use crate::table::{self, Table};
use crate::value::{MOOD, SHORT};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Longest that `rowcast run` may take to stop.
const STOP_WITHIN: Duration = Duration::from_secs(60);

/// How to torture.
#[derive(Debug, Clone)]
pub struct Options {
    /// Chooses every move. Two runs with one seed make the same moves; when they meet is chance.
    pub seed: u64,
    /// How long to make trouble.
    pub time: Duration,
    /// How long the copies may take to become right afterwards, each time that they are waited for.
    pub patience: Duration,
    /// The `rowcast` program.
    pub program: PathBuf,
    /// Where its file, its data, its output and the journal go. They stay there.
    pub dir: PathBuf,
}

/// How it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The copies are what their source is.
    Clean,
    /// They are not, and this code says why.
    Told(String),
    /// They are not, or something stood still, and nothing says why.
    Defect(String),
}

/// Why there is no verdict.
#[derive(Debug, thiserror::Error)]
pub enum TortureError {
    /// It would destroy tables that are not its own.
    #[error("{address} has tables of its own, such as {table}")]
    NotEmpty {
        /// Which database.
        address: String,
        /// One of them.
        table: String,
    },
    /// A database does not do what it must before torture can begin.
    #[error("{address} is not ready: {what}")]
    Database {
        /// Which database.
        address: String,
        /// Its own words.
        what: String,
    },
    /// The program cannot be started, or files cannot be written.
    #[error("the program or its directory cannot be used")]
    Io(#[from] io::Error),
}

/// Everything that a run holds.
struct Run<'a> {
    options: &'a Options,
    random: StdRng,
    service: String,
    from: &'a dyn Scratch,
    to: &'a dyn Scratch,
    source: Box<dyn Console>,
    target: Box<dyn Console>,
    names: Vec<String>,
    tables: Arc<Mutex<Vec<Table>>>,
    moods: Vec<String>,
    instance: Instance,
    journal: Journal,
    defect: Option<String>,
}

/// Makes trouble between two databases that hold nothing but torture's own tables, which it drops
/// first and leaves for whoever wants to look.
///
/// # Errors
/// When it cannot begin.
pub async fn torture(
    options: &Options,
    from: Arc<dyn Scratch>,
    to: Arc<dyn Scratch>,
) -> Result<Verdict, TortureError> {
    std::fs::create_dir_all(&options.dir)?;
    let mut random = StdRng::seed_from_u64(options.seed);
    let names = table::names(&mut random);
    let mut run = Run {
        service: format!("torture{:x}", options.seed & 0xffff_ffff),
        source: opened(&*from).await?,
        target: opened(&*to).await?,
        from: &*from,
        to: &*to,
        names,
        tables: Arc::default(),
        moods: vec!["calm".into(), "it''s".into()],
        instance: Instance::new(&options.program, &options.dir),
        journal: Journal::new(&options.dir.join("journal.txt"))?,
        defect: None,
        options,
        random,
    };
    run.prepare().await?;
    let writer = writer(from.clone(), run.tables.clone(), options.seed ^ 1, options.time);
    let trouble = run.trouble();
    let (wrote, troubled) = tokio::join!(writer, trouble);
    troubled?;
    run.journal.say(&format!("a second writer committed {wrote} transactions"));
    let verdict = match run.defect.take() {
        Some(defect) => Verdict::Defect(defect),
        None => run.settle().await?,
    };
    run.instance.kill().await;
    let (moves, refused) = (run.journal.moves, run.journal.refused);
    run.journal.say(&format!("{moves} moves, {refused} of them refused: {verdict:?}"));
    Ok(verdict)
}

async fn opened(scratch: &dyn Scratch) -> Result<Box<dyn Console>, TortureError> {
    scratch.open().await.map_err(|what| not_ready(scratch, what))
}

fn not_ready(scratch: &dyn Scratch, what: String) -> TortureError {
    TortureError::Database { address: scratch.address().into(), what }
}

/// Writes beside everything else, so that commits meet.
async fn writer(
    from: Arc<dyn Scratch>,
    tables: Arc<Mutex<Vec<Table>>>,
    seed: u64,
    time: Duration,
) -> u64 {
    let (mut random, end) = (StdRng::seed_from_u64(seed), Instant::now() + time);
    let moods = ["calm".to_string(), "it''s".to_string()];
    let mut console = None;
    let mut wrote = 0;
    while Instant::now() < end {
        tokio::time::sleep(Duration::from_millis(random.random_range(5..80))).await;
        if console.is_none() {
            console = from.open().await.ok();
        }
        let known = tables.lock().unwrap_or_else(|held| held.into_inner()).clone();
        let sql = moves::transaction(from.dialect(), &known, &moods, &mut random);
        let (Some(open), Some(sql)) = (&mut console, sql) else { continue };
        match open.run(&sql).await {
            Ok(_) => wrote += 1,
            // Whatever it was: a new session has no half transaction.
            Err(_) => console = None,
        }
    }
    wrote
}

impl Run<'_> {
    async fn prepare(&mut self) -> Result<(), TortureError> {
        for (scratch, console) in [(self.from, &mut self.source), (self.to, &mut self.target)] {
            let not_ours = console.run(strangers(scratch.dialect())).await;
            let not_ours = not_ours.map_err(|what| not_ready(scratch, what))?;
            if let Some(table) = not_ours.first().and_then(|row| row[0].clone()) {
                return Err(TortureError::NotEmpty { address: scratch.address().into(), table });
            }
            for query in LEFTOVERS.iter().filter(|(dialect, _)| *dialect == scratch.dialect()) {
                let drops = console.run(query.1).await.map_err(|what| not_ready(scratch, what))?;
                for drop in drops.into_iter().flatten().flatten() {
                    // What hangs on another one goes with it.
                    let _ = console.run(&drop).await;
                }
            }
            if scratch.dialect() == Dialect::Postgres {
                let types = format!(
                    "CREATE TYPE public.{MOOD} AS ENUM ('calm', 'it''s'); CREATE DOMAIN \
                     public.{SHORT} AS varchar(9) CHECK (value <> 'no')"
                );
                console.run(&types).await.map_err(|what| not_ready(scratch, what))?;
            }
        }
        for name in self.names.clone() {
            for statement in table::create(self.from.dialect(), &name, &mut self.random) {
                let made = self.source.run(&statement).await;
                self.journal.done(&statement, &made);
                made.map_err(|what| not_ready(self.from, what))?;
            }
        }
        self.look().await;
        for _ in 0..40 {
            self.write().await;
        }
        std::fs::write(self.options.dir.join("rowcast.toml"), self.file())?;
        self.instance.start()?;
        Ok(())
    }

    /// The configuration.
    fn file(&self) -> String {
        let service = &self.service;
        let mut text = format!(
            "data = \"data\"\n[server]\nlisten = \"127.0.0.1:0\"\n\
             [service.{service}]\ndatabase = '{}'\n[service.copies]\ndatabase = '{}'\n",
            self.from.address(),
            self.to.address()
        );
        for name in &self.names {
            text.push_str(&format!(
                "[service.{service}.publish.{name}]\n\
                 [service.copies.subscribe.\"{service}.{name}\"]\ninto = \"{name}_copy\"\n"
            ));
        }
        text
    }

    /// Trouble until the time is over.
    async fn trouble(&mut self) -> Result<(), TortureError> {
        let end = Instant::now() + self.options.time;
        while Instant::now() < end && self.defect.is_none() {
            let rest = Duration::from_millis(self.random.random_range(10..200));
            tokio::time::sleep(rest).await;
            match self.random.random_range(0..100) {
                0..10 => self.alter().await,
                10..16 => self.meddle().await,
                16..20 if self.from.dialect() == Dialect::Postgres => self.publication().await,
                20..24 => self.restart().await?,
                24..27 => {
                    let time = Duration::from_millis(self.random.random_range(50..3000));
                    self.journal.say(&format!("rowcast stands still for {time:?}"));
                    self.instance.freeze(time).await;
                }
                27 if self.from.dialect() == Dialect::Postgres => {
                    self.steps(true, vec![moves::cut_off()]).await;
                }
                _ => self.write().await,
            }
            if let Some(code) = self.instance.ended()? {
                self.defect = Some(format!("`rowcast run` ended by itself with exit code {code}"));
            }
        }
        Ok(())
    }

    async fn restart(&mut self) -> Result<(), TortureError> {
        if self.random.random_range(0..3) > 0 {
            self.journal.say("kill -9");
            self.instance.kill().await;
        } else {
            self.journal.say("stop");
            if !self.instance.stop(STOP_WITHIN).await {
                self.defect = Some(format!("`rowcast run` did not stop within {STOP_WITHIN:?}"));
                return Ok(());
            }
        }
        if self.random.random() {
            self.write().await;
        }
        self.journal.say("start");
        Ok(self.instance.start()?)
    }

    fn known(&self) -> Vec<Table> {
        self.tables.lock().unwrap_or_else(|held| held.into_inner()).clone()
    }

    /// Reads the source's catalog again.
    async fn look(&mut self) {
        let (console, dialect) = (&mut *self.source, self.from.dialect());
        if let Ok(found) = table::look(console, dialect, &self.names).await {
            *self.tables.lock().unwrap_or_else(|held| held.into_inner()) = found;
        }
    }

    fn some_table(&mut self) -> Option<Table> {
        let known = self.known();
        let index = self.random.random_range(0..known.len().max(1));
        known.into_iter().nth(index)
    }

    async fn write(&mut self) {
        let (dialect, known) = (self.from.dialect(), self.known());
        // Labels that the copy lacks park rows, which is right and hides the rest.
        let sql = moves::transaction(dialect, &known, &self.moods[..2], &mut self.random);
        if let Some(sql) = sql {
            self.steps(true, vec![Step::Sql(sql)]).await;
        }
    }

    async fn alter(&mut self) {
        let Some(table) = self.some_table() else { return };
        let (dialect, moods) = (self.from.dialect(), &mut self.moods);
        let steps = moves::alteration(dialect, &table, moods, &mut self.random);
        self.steps(true, steps).await;
        self.look().await;
    }

    async fn publication(&mut self) {
        let Some(table) = self.some_table() else { return };
        let steps = moves::publication(&table, &self.service, &mut self.random);
        self.steps(true, steps).await;
    }

    async fn meddle(&mut self) {
        let Some(table) = self.some_table() else { return };
        let steps = moves::meddling(self.to.dialect(), &table, &mut self.random);
        self.steps(false, steps).await;
    }

    /// Does steps one after the other, whatever the database says to each.
    async fn steps(&mut self, at_source: bool, steps: Vec<Step>) {
        for step in steps {
            match step {
                Step::Wait(time) => tokio::time::sleep(time).await,
                Step::Sql(sql) => self.statement(at_source, &sql).await,
            }
        }
    }

    async fn statement(&mut self, at_source: bool, sql: &str) {
        let (scratch, console, place) = match at_source {
            true => (self.from, &mut self.source, "source"),
            false => (self.to, &mut self.target, "target"),
        };
        let done = console.run(sql).await;
        self.journal.done(&format!("{place}: {}", shortened(sql)), &done);
        if done.is_err() {
            // A refused statement may leave half a transaction.
            match scratch.open().await {
                Ok(fresh) => *console = fresh,
                Err(error) => self.journal.say(&format!("no session at the {place}: {error}")),
            }
        }
    }
}

/// Long values say nothing to a reader.
fn shortened(sql: &str) -> String {
    const SHOWN: usize = 600;
    match sql.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{} … ({} bytes)", &sql[..end], sql.len()),
        None => sql.to_string(),
    }
}

/// Tables that neither torture nor Rowcast made.
fn strangers(dialect: Dialect) -> &'static str {
    match dialect {
        Dialect::Postgres => {
            "SELECT n.nspname || '.' || c.relname FROM pg_class c \
             JOIN pg_namespace n ON n.oid = c.relnamespace \
             WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND n.nspname <> 'information_schema' \
               AND n.nspname <> 'rowcast' AND n.nspname !~ '^pg_' AND c.relname !~ '^torture_' LIMIT 1"
        }
        Dialect::Sqlite => {
            "SELECT name FROM sqlite_schema WHERE type IN ('table', 'view') \
             AND name NOT LIKE 'torture\\_%' ESCAPE '\\' AND name NOT LIKE '\\_rowcast\\_%' ESCAPE '\\' \
             AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' LIMIT 1"
        }
    }
}

/// Queries for the statements that remove what an earlier run left.
const LEFTOVERS: &[(Dialect, &str)] = &[
    (
        Dialect::Postgres,
        "SELECT format('SELECT pg_drop_replication_slot(%L)', slot_name) FROM pg_replication_slots \
          WHERE slot_name LIKE 'rowcast\\_torture%' AND database = current_database() AND NOT active",
    ),
    (
        Dialect::Postgres,
        "SELECT format('DROP PUBLICATION %I', pubname) FROM pg_publication \
          WHERE pubname LIKE 'rowcast\\_torture%' OR pubname = 'torture_away'",
    ),
    (
        Dialect::Postgres,
        "SELECT format('DROP TABLE IF EXISTS public.%I CASCADE', relname) FROM pg_class \
          WHERE relkind IN ('r', 'p') AND relname LIKE 'torture\\_%' \
            AND relnamespace = 'public'::regnamespace",
    ),
    (
        Dialect::Postgres,
        "SELECT unnest(ARRAY['DROP SCHEMA IF EXISTS rowcast CASCADE', \
         'DROP TYPE IF EXISTS public.torture_mood CASCADE', \
         'DROP DOMAIN IF EXISTS public.torture_short CASCADE'])",
    ),
    (
        Dialect::Sqlite,
        "SELECT 'DROP TRIGGER \"' || name || '\"' FROM sqlite_schema \
          WHERE type = 'trigger' AND name LIKE '\\_rowcast\\_%' ESCAPE '\\'",
    ),
    (
        Dialect::Sqlite,
        "SELECT 'DROP TABLE \"' || name || '\"' FROM sqlite_schema WHERE type = 'table' \
            AND (name LIKE 'torture\\_%' ESCAPE '\\' OR name LIKE '\\_rowcast\\_%' ESCAPE '\\')",
    ),
];
