//! Private PostgreSQL servers: real ones, each in a directory and on a port of its own, gone when
//! dropped, and gone too when the process that started them dies in whatever way.

mod install;
mod options;
mod session;
mod standby;
mod supervise;
mod tls;

use crate::leftovers::remove_at_end;
use crate::wait::{LONG, eventually_some};
pub use install::{BIN_DIR_VARIABLE, LEFT_OUT, OFFLINE_VARIABLE, major_variable};
use install::{Install, succeed};
pub(crate) use options::free_port;
pub use options::{ServerOptions, ServerTls};
pub use session::{Session, TextRows};
use session::{explain, not_yet};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use supervise::Supervisor;
pub use tls::Authority;
use tokio::sync::OnceCell;

/// Longest a server may take to answer its first query; recovery from a crash included.
const START_WITHIN: Duration = LONG;
/// Another process can take a port between our look at it and the server's start.
const PORTS_TRIED: usize = 5;

/// A private PostgreSQL server. Superuser `postgres`, first database `postgres`.
#[derive(Debug)]
pub struct Server {
    install: &'static Install,
    base: PathBuf,
    port: u16,
    password: Option<String>,
    running: Option<Supervisor>,
}

/// One server for all tests of this process, each with a database of its own
/// ([`Server::create_database`]). As durable as servers are by default. Stopped when the process ends.
pub async fn shared() -> &'static Server {
    static SHARED: OnceCell<Server> = OnceCell::const_new();
    SHARED.get_or_init(|| Server::start_with(&[("fsync", "on")])).await
}

impl Server {
    /// Starts one with the default set-up.
    ///
    /// # Panics
    /// Without PostgreSQL's programs, with what to install; or when the server does not start, with
    /// its log.
    pub async fn start() -> Self {
        Self::start_options(ServerOptions::default()).await
    }

    /// Starts one with settings on top of the default set-up.
    pub async fn start_with(settings: &[(&str, &str)]) -> Self {
        Self::start_options(ServerOptions::with(settings)).await
    }

    /// Starts one as told.
    pub async fn start_options(options: ServerOptions) -> Self {
        for _ in 1..PORTS_TRIED {
            let mut server = Self::prepare(&options);
            match server.launch().await {
                Ok(()) => return server.protected().await,
                Err(log) if log.contains("Address already in use") => {}
                Err(log) => panic!("PostgreSQL does not start:\n{log}"),
            }
        }
        panic!("{PORTS_TRIED} ports in a row were taken by others");
    }

    fn prepare(options: &ServerOptions) -> Self {
        let install = match (&options.programs, options.major) {
            (Some(programs), _) => Install::at(programs),
            (None, Some(major)) => Install::of_major(major),
            (None, None) => Install::found(),
        };
        let base = tempfile::Builder::new().prefix("rowcast-pg-").tempdir();
        let base = base.expect("a temporary directory").keep();
        remove_at_end(&base);
        std::fs::set_permissions(&base, PermissionsExt::from_mode(0o755)).expect("open it");
        install.hand_over(&base);
        let data = base.join("data");
        succeed(install.command("cp", &base).arg("-R").arg(install.template()).arg(&data));
        let port = free_port();
        let append = |name: &str, text: &str| {
            let path = data.join(name);
            let before = std::fs::read_to_string(&path).unwrap_or_default();
            std::fs::write(&path, before + text).expect("write the configuration");
            install.hand_over(&path);
        };
        append("postgresql.conf", &options.configuration(&base.to_string_lossy(), port));
        std::fs::write(data.join("pg_hba.conf"), options.admission()).expect("write pg_hba.conf");
        if let Some(tls) = &options.tls {
            append("server.crt", &tls.certificate);
            append("server.key", &tls.key);
            std::fs::set_permissions(data.join("server.key"), PermissionsExt::from_mode(0o600))
                .expect("close the key");
        }
        Self { install, base, port, password: options.password.clone(), running: None }
    }

    /// Starts and waits for the first answer. The error is the server's log.
    async fn launch(&mut self) -> Result<(), String> {
        let supervisor = Supervisor::start(self.install, &self.base);
        let up = eventually_some(START_WITHIN, "PostgreSQL answers", async || {
            if supervisor.ended() {
                return Some(Err(self.log()));
            }
            let session = Session::open(&self.base, self.port, "postgres").await.ok()?;
            session.try_sql("SELECT 1").await.ok().map(|_| Ok(()))
        })
        .await;
        self.running = Some(supervisor);
        up
    }

    async fn protected(self) -> Self {
        if let Some(password) = &self.password {
            let literal = password.replace('\'', "''");
            self.sql("postgres", &format!("ALTER ROLE postgres PASSWORD '{literal}'")).await;
        }
        self
    }

    /// Major version, for what only some of them can.
    pub fn version(&self) -> u32 {
        self.install.version()
    }

    /// TCP port, on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The directory with the unix socket.
    pub fn socket_dir(&self) -> &Path {
        &self.base
    }

    /// What the server has logged so far.
    pub fn log(&self) -> String {
        let log = std::fs::read(self.base.join("log")).unwrap_or_default();
        String::from_utf8_lossy(&log).into_owned()
    }

    /// Where to connect over TCP.
    pub fn url(&self, db: &str) -> String {
        self.url_at(db, self.port)
    }

    /// [`url`](Self::url) through another port, for instance a proxy's.
    pub fn url_at(&self, db: &str, port: u16) -> String {
        format!("postgres://{}@127.0.0.1:{port}/{}", self.user(), escaped(db))
    }

    /// Where to connect over the unix socket.
    pub fn socket_url(&self, db: &str) -> String {
        let (db, dir) = (escaped(db), escaped(&self.base.to_string_lossy()));
        format!("postgres://{}@/{db}?host={dir}&port={}", self.user(), self.port)
    }

    fn user(&self) -> String {
        match &self.password {
            Some(password) => format!("postgres:{}", escaped(password)),
            None => "postgres".to_owned(),
        }
    }

    /// Creates an empty database, whatever its name, and returns its [`url`](Self::url).
    pub async fn create_database(&self, name: &str) -> String {
        let quoted = name.replace('"', "\"\"");
        self.sql("postgres", &format!("CREATE DATABASE \"{quoted}\"")).await;
        self.url(name)
    }

    /// Opens a connection, over the unix socket.
    ///
    /// # Panics
    /// When the server refuses.
    pub async fn session(&self, db: &str) -> Session {
        let opened = Session::open(&self.base, self.port, db).await;
        opened.unwrap_or_else(|e| panic!("cannot connect to {db}: {}", explain(&e)))
    }

    /// Runs statements in a connection of their own and returns all their rows.
    ///
    /// # Panics
    /// When the server refuses, with its words and the statements.
    pub async fn sql(&self, db: &str, sql: &str) -> TextRows {
        self.session(db).await.sql(sql).await
    }

    /// [`sql`](Self::sql) that may fail, also because the server is down.
    ///
    /// # Errors
    /// The server's or the connection's.
    pub async fn try_sql(&self, db: &str, sql: &str) -> Result<TextRows, tokio_postgres::Error> {
        Session::open(&self.base, self.port, db).await?.try_sql(sql).await
    }

    /// [`Session::look`] in a connection of its own.
    ///
    /// # Errors
    /// The server's words, for what is not there yet.
    pub async fn look(&self, db: &str, query: &str) -> Result<TextRows, String> {
        self.try_sql(db, query).await.map_err(|e| not_yet(&e, query))
    }

    /// Changes a setting and waits until new connections see it. Some settings need a
    /// [`restart`](Self::restart) on top.
    pub async fn set(&self, setting: &str, value: &str) {
        let session = self.session("postgres").await;
        const LOADED: &str = "SELECT pg_conf_load_time()";
        let before = session.sql(LOADED).await;
        let literal = value.replace('\'', "''");
        session.sql(&format!("ALTER SYSTEM SET {setting} = '{literal}'")).await;
        session.sql("SELECT pg_reload_conf()").await;
        eventually_some(START_WITHIN, "the configuration is loaded again", async || {
            (self.sql("postgres", LOADED).await != before).then_some(())
        })
        .await;
    }

    /// Stops the server in an orderly way. Its data stays for [`start_again`](Self::start_again).
    pub async fn stop(&mut self) {
        if let Some(running) = &mut self.running {
            running.stop();
        }
    }

    /// Kills all of the server's processes with SIGKILL.
    pub async fn kill_9(&mut self) {
        if let Some(running) = &mut self.running {
            running.kill();
        }
    }

    /// Starts a stopped or killed server: same data, same port. One that runs is stopped first.
    ///
    /// # Panics
    /// When it does not start, with its log.
    pub async fn start_again(&mut self) {
        self.stop().await;
        self.launch().await.unwrap_or_else(|log| panic!("PostgreSQL does not start:\n{log}"));
    }

    /// Stops and starts.
    pub async fn restart(&mut self) {
        self.start_again().await;
    }

    /// A client program (`psql`, `pgbench`, …) told to connect here, over the socket; `None` when
    /// it is not installed.
    pub fn client_command(&self, program: &str, db: &str) -> Option<Command> {
        let mut command = Command::new(self.install.program(program)?);
        command.env("PGHOST", &self.base).env("PGPORT", self.port.to_string());
        command.env("PGUSER", "postgres").env("PGDATABASE", db);
        Some(command)
    }

    /// Runs `pgbench` to its end and returns its report; `None` when it is not installed.
    ///
    /// # Panics
    /// When it fails, with its output.
    pub async fn pgbench(&self, db: &str, args: &[&str]) -> Option<String> {
        self.run_client("pgbench", db, args).await
    }

    /// Runs `psql` to its end and returns its output; `None` when it is not installed.
    ///
    /// # Panics
    /// When it fails, with its output.
    pub async fn psql(&self, db: &str, args: &[&str]) -> Option<String> {
        let ours = ["--no-psqlrc", "--set=ON_ERROR_STOP=1"];
        self.run_client("psql", db, &[&ours, args].concat()).await
    }

    async fn run_client(&self, program: &str, db: &str, args: &[&str]) -> Option<String> {
        let mut command = self.client_command(program, db)?;
        command.args(args).stdin(std::process::Stdio::null());
        let run = tokio::task::spawn_blocking(move || succeed(&mut command));
        Some(run.await.unwrap_or_else(|e| std::panic::resume_unwind(e.into_panic())))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.running.take());
        // The supervisor of a stopped server has left the directory to us.
        let _ = std::fs::remove_dir_all(&self.base);
    }
}

/// Percent-encodes what a URL cannot hold as it is.
fn escaped(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                char::from(byte).to_string()
            }
            _ => format!("%{byte:02X}"),
        })
        .collect()
}
