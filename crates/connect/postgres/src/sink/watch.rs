//! Looks after a call that takes long, over a second session: what does the first one do?
//!
//! Law: a session that works or waits for a lock is left alone, however long, and what it waits for is
//! shown. One that waits for us while we wait for it, or is gone, will never answer: it is broken off,
//! and the call is an outage that a new session may not meet.

use super::errors::Who;
use crate::connect::{Address, ConnectError, Session};
use rowcast_core::{Blocker, BoxError, SinkError, Wait, Waiting};
use std::future::Future;
use std::pin::pin;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio_postgres::{Error, Row};

/// How long a call may take before its session is looked at, and how often after that.
const PATIENCE: Duration = Duration::from_secs(5);

/// Longest for a look itself.
const LOOK_WITHIN: Duration = Duration::from_secs(30);

/// A statement ends when we do: what waits for its locks, the next session of ours first of all, would
/// otherwise wait for its end.
const NOTICE_OUR_END: &str = "SET client_connection_check_interval = '3s'";

const WHICH: &str = "SELECT pid, backend_start::text, pg_postmaster_start_time()::text \
    FROM pg_stat_activity WHERE pid = pg_backend_pid()";

/// Nothing is known of the session when this reaches another server than it did.
const LOOK: &str = "SELECT a.pid IS NOT NULL, coalesce(a.state, ''), \
    coalesce(a.state_change::text, ''), coalesce(a.wait_event_type, ''), \
    coalesce((SELECT p.bytes_processed FROM pg_stat_progress_copy p WHERE p.pid = a.pid), 0), \
    coalesce((extract(epoch FROM a.query_start) * 1000)::bigint, 0) \
    FROM (SELECT) AS here LEFT JOIN pg_stat_activity a ON a.pid = $1 AND a.backend_start::text = $2 \
    WHERE pg_postmaster_start_time()::text = $3";

/// The lock that a session waits for. A wait for a row's transaction has the row's table beside it.
const LOCK: &str = "SELECT l.locktype, coalesce(l.relation, t.relation)::regclass::text, \
    (extract(epoch FROM l.waitstart) * 1000)::bigint \
    FROM pg_locks l LEFT JOIN pg_locks t ON t.pid = l.pid AND t.locktype = 'tuple' AND t.granted \
    WHERE l.pid = $1 AND NOT l.granted LIMIT 1";

const BLOCKERS: &str = "SELECT b.pid, coalesce(a.application_name, ''), \
    coalesce(a.usename::text, ''), coalesce(a.state, ''), \
    (extract(epoch FROM a.xact_start) * 1000)::bigint \
    FROM (SELECT DISTINCT unnest(pg_blocking_pids($1))) AS b (pid) \
    LEFT JOIN pg_stat_activity a USING (pid) ORDER BY 1";

/// A session, as the server tells it from all others.
#[derive(Debug, Clone)]
struct Backend {
    pid: i32,
    began: String,
    server_began: String,
}

/// Looks after the calls of one sink.
#[derive(Debug)]
pub(super) struct Watch {
    address: Address,
    who: Who,
    patience: Duration,
    waiting: Waiting,
    backend: Mutex<Option<Backend>>,
}

/// What a look found.
enum Sight {
    /// It works, or waits for somebody else; or nothing is known.
    Well,
    /// It does nothing that leads anywhere. Seen with the same words twice, it never will.
    Still { mark: String, what: String },
}

/// Why a session was broken off.
#[derive(Debug, thiserror::Error)]
#[error("the session {0}, so it was closed and what it had in hand is taken back")]
struct BrokenOff(String);

/// What an outage came after.
#[derive(Debug, thiserror::Error)]
#[error("it waited for {wait}")]
struct Waited {
    wait: Wait,
    source: BoxError,
}

impl Watch {
    pub(super) fn new(address: Address, who: Who) -> Self {
        let (waiting, backend) = (Waiting::default(), Mutex::default());
        Self { address, who, patience: PATIENCE, waiting, backend }
    }

    /// Where waits are shown.
    pub(super) fn waiting(&self) -> Waiting {
        self.waiting.clone()
    }

    /// From now on this session is looked after.
    pub(super) async fn follow(&self, session: &Session) -> Result<(), Error> {
        // A server that cannot look for that on its system says no, and does without.
        let _ = session.batch_execute(NOTICE_OUR_END).await;
        let row = session.query_one(WHICH, &[]).await?;
        let (pid, began, server_began) = (row.get(0), row.get(1), row.get(2));
        self.set(Some(Backend { pid, began, server_began }));
        Ok(())
    }

    /// Until [`follow`](Self::follow) there is no session: a login has its own limit.
    pub(super) fn forget(&self) {
        self.set(None);
    }

    fn set(&self, backend: Option<Backend>) {
        *self.backend.lock().unwrap_or_else(PoisonError::into_inner) = backend;
    }

    /// Waits for a call, for as long as its session may still answer.
    pub(super) async fn over<T>(
        &self,
        call: impl Future<Output = Result<T, SinkError>>,
    ) -> Result<T, SinkError> {
        let _shown = Shown(&self.waiting);
        let mut call = pin!(call);
        let mut looker = Looker { watch: self, session: None };
        let mut last = None;
        loop {
            let look = async {
                tokio::time::sleep(self.patience).await;
                looker.look().await
            };
            let sight = tokio::select! {
                biased;
                done = call.as_mut() => return done.map_err(|e| self.after_wait(e)),
                sight = look => sight,
            };
            let Sight::Still { mark, what } = sight else {
                last = None;
                continue;
            };
            if last.replace(mark.clone()) == Some(mark) {
                return Err(self.who.unreachable(BrokenOff(what)));
            }
        }
    }

    /// An outage tells what it waited for, so that `status` knows it also between two tries.
    fn after_wait(&self, error: SinkError) -> SinkError {
        match (error, self.waiting.now()) {
            (SinkError::Unreachable { service, source }, Some(wait))
                if !wait.blockers.is_empty() =>
            {
                SinkError::Unreachable { service, source: Waited { wait, source }.into() }
            }
            (error, _) => error,
        }
    }

    fn show(&self, wait: Wait) {
        let (route, blocked) = (&self.who.route, !wait.blockers.is_empty());
        let words = wait.to_string();
        if self.waiting.show(Some(wait)) && blocked {
            tracing::warn!("route {route}: {}'s database makes it wait for {words}", route.to);
        }
    }
}

/// Shows no wait any more once the call is over, however it ends.
struct Shown<'a>(&'a Waiting);

impl Drop for Shown<'_> {
    fn drop(&mut self) {
        self.0.show(None);
    }
}

/// The second session.
struct Looker<'a> {
    watch: &'a Watch,
    session: Option<Session>,
}

impl Looker<'_> {
    async fn look(&mut self) -> Sight {
        let backend = self.watch.backend.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let Some(backend) = backend else { return Sight::Well };
        match tokio::time::timeout(LOOK_WITHIN, self.at(&backend)).await {
            Ok(Ok(sight)) => sight,
            Ok(Err(error)) => {
                self.session = None;
                // A server that says no, for it has no room for another session, is there.
                let answered = matches!(
                    &error,
                    ConnectError::Refused(e) if e.code().is_some()
                ) || matches!(&error, ConnectError::Certificate { .. });
                if answered { Sight::Well } else { away() }
            }
            Err(_) => {
                self.session = None;
                away()
            }
        }
    }

    async fn at(&mut self, backend: &Backend) -> Result<Sight, ConnectError> {
        let session = match self.session.take().filter(|s| !s.is_closed()) {
            Some(session) => session,
            None => {
                let name = format!("rowcast {} (watch)", self.watch.who.route);
                self.watch.address.connect(&name, &[]).await?
            }
        };
        let sight = self.sight(&session, backend).await.map_err(ConnectError::Refused);
        self.session = Some(session);
        sight
    }

    async fn sight(&self, session: &Session, backend: &Backend) -> Result<Sight, Error> {
        let Backend { pid, began, server_began } = backend;
        let Some(row) = session.query_opt(LOOK, &[pid, began, server_began]).await? else {
            return Ok(Sight::Well);
        };
        let still = |what: String| {
            let (changed, copied): (String, i64) = (row.get(2), row.get(4));
            Sight::Still { mark: format!("{what} {changed} {copied}"), what }
        };
        if !row.get::<_, bool>(0) {
            return Ok(still("is gone from the server".into()));
        }
        let (state, waits): (String, String) = (row.get(1), row.get(3));
        match (state.as_str(), waits.as_str()) {
            ("idle" | "idle in transaction" | "idle in transaction (aborted)", _) => {
                self.watch.waiting.show(None);
                Ok(still(format!("was {state} at the server, where an answer was due")))
            }
            // Of a statement that takes rows from us.
            ("active", "Client") => Ok(still("waited for rows that had been sent".into())),
            ("active", _) => {
                self.watch.show(wait(session, *pid, &waits, &row).await?);
                Ok(Sight::Well)
            }
            _ => Ok(Sight::Well),
        }
    }
}

/// The server cannot be reached by a second way either.
fn away() -> Sight {
    let what = "did not answer, and the server cannot be reached by another one either";
    Sight::Still { mark: what.into(), what: what.into() }
}

/// What an active session waits for.
async fn wait(session: &Session, pid: i32, waits: &str, seen: &Row) -> Result<Wait, Error> {
    let (mut what, mut since_ms) = ("a statement that takes long".to_string(), seen.get(5));
    let (mut blockers, mut help) = (Vec::new(), String::new());
    if waits == "Lock" {
        if let Some(lock) = session.query_opt(LOCK, &[&pid]).await? {
            let (kind, table): (String, Option<String>) = (lock.get(0), lock.get(1));
            what = match (kind.as_str(), table) {
                ("transactionid" | "tuple", Some(table)) => {
                    format!("a lock on a row of table {table}")
                }
                ("transactionid", None) => "a lock on a row".into(),
                (_, Some(table)) => format!("a lock on table {table}"),
                (kind, None) => format!("a lock ({kind})"),
            };
            since_ms = lock.get::<_, Option<i64>>(2).unwrap_or(since_ms);
        }
        blockers = session.query(BLOCKERS, &[&pid]).await?.iter().map(blocker).collect();
        help = "the route goes on by itself once that transaction ends; to end it, run in the \
                subscriber's database: "
            .into();
        help += &ends(&blockers);
    }
    Ok(Wait { what, since_ms, blockers, help })
}

fn blocker(row: &Row) -> Blocker {
    let (pid, program, user): (i32, String, String) = (row.get(0), row.get(1), row.get(2));
    // A transaction that was prepared for a commit in two phases belongs to no session.
    let id = if pid == 0 { "a prepared transaction".into() } else { format!("pid {pid}") };
    Blocker { id, program, user, state: row.get(3), since_ms: row.get(4) }
}

/// Statements that end what blocks.
fn ends(blockers: &[Blocker]) -> String {
    let end = |b: &Blocker| match b.id.strip_prefix("pid ") {
        Some(pid) => format!("SELECT pg_terminate_backend({pid});"),
        None => "SELECT gid, prepared, owner FROM pg_prepared_xacts;".into(),
    };
    blockers.iter().map(end).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use rowcast_testkit::postgres::{Server, shared};
    use rowcast_testkit::wait::{LONG, eventually};
    use std::future::pending;

    async fn watched(server: &Server, database: &str) -> (Watch, Session) {
        let address = Address::parse(&server.create_database(database).await).expect("an address");
        let who = Who { route: "shop:order".parse().expect("a route") };
        let session = address.connect("rowcast shop:order", &[]).await.expect("a session");
        let mut watch = Watch::new(address, who);
        watch.patience = Duration::from_millis(20);
        watch.follow(&session).await.expect("its place");
        (watch, session)
    }

    /// Waits for ever for a session that is in this state.
    async fn stuck(database: &str, state: &str, sql: &[&str]) {
        let server = shared().await;
        let (watch, session) = watched(server, database).await;
        for statement in sql {
            let _ = session.batch_execute(statement).await;
        }
        let call = async {
            pending::<()>().await;
            Ok(())
        };
        let broken = tokio::time::timeout(LONG, watch.over(call)).await.expect("it ends");
        let error = broken.expect_err("nobody answers");
        assert!(matches!(error, SinkError::Unreachable { .. }), "{error:?}");
        let cause = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
        assert!(cause.contains(state), "{cause}");
    }

    #[tokio::test]
    async fn a_session_that_waits_for_us_is_broken_off() {
        stuck("watch idle", "was idle at", &["SELECT 1"]).await;
        stuck("watch open", "was idle in transaction at", &["BEGIN"]).await;
        stuck("watch aborted", "idle in transaction (aborted)", &["BEGIN", "SELECT 1 / 0"]).await;
        let gone = "SELECT pg_terminate_backend(pg_backend_pid())";
        stuck("watch gone", "is gone", &[gone]).await;
    }

    #[tokio::test]
    async fn a_session_that_waits_for_a_lock_is_left_alone_and_shown() {
        let server = shared().await;
        let (watch, session) = watched(server, "watch lock").await;
        session.batch_execute("CREATE TABLE public.item (id int)").await.expect("a table");
        let other = server.session("watch lock").await;
        other.sql("BEGIN; LOCK TABLE public.item").await;
        let waiting = watch.waiting();
        let call = async {
            let done = session.batch_execute("INSERT INTO public.item VALUES (1)").await;
            done.map_err(|e| watch.who.unreachable(e))
        };
        let release = async {
            let shown = async || waiting.now().is_some_and(|w| !w.blockers.is_empty());
            eventually(LONG, "the wait is shown", shown).await;
            let wait = waiting.now().expect("it goes on");
            assert_eq!(wait.what, "a lock on table public.item");
            let pid = other.backend().await;
            assert_eq!(wait.blockers[0].id, format!("pid {pid}"));
            assert_eq!(wait.blockers[0].program, "rowcast testkit");
            assert_eq!(wait.blockers[0].user, "postgres");
            assert!(wait.help.contains(&format!("pg_terminate_backend({pid})")), "{}", wait.help);
            other.sql("COMMIT").await;
        };
        let (done, ()) = tokio::join!(watch.over(call), release);
        done.expect("it was only late");
        assert_eq!(waiting.now(), None);
    }
}
