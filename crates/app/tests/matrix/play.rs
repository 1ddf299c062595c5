//! Plays one cell and says what happened.

use super::cells::{Before, Cell, Outcome, Remedy};
use crate::side::{Kind, LONG, Pair, Side};
use rowcast_testkit::process::Running;
use rowcast_testkit::wait::eventually_some;
use serde_json::Value as Json;

/// When the change happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum When {
    Running,
    Starting,
    Stopped,
}

pub(super) const ALL: [When; 3] = [When::Running, When::Starting, When::Stopped];

const PUBLISH: &str = "[service.shop.publish.item]";
const SUBSCRIBE: &str = "[service.order.subscribe.\"shop.item\"]";
/// What must be the same on both sides; every cell's table has these.
const ROWS: &str = "SELECT id, name, size FROM item ORDER BY id";

/// What the application does after the change, whatever has become of the table.
const WRITES: &[&str] = &[
    "UPDATE item SET name = 'after' WHERE id = 1",
    "DELETE FROM item WHERE id = 2",
    "INSERT INTO item (id, name, size) VALUES (150, 'new', 150)",
    "UPDATE item SET size = 60 WHERE id = 7",
    "UPDATE item SET size = 60 WHERE id = 8",
];

impl Cell {
    fn expected(&self, when: When) -> Outcome {
        match when {
            When::Running | When::Starting => self.running,
            When::Stopped => self.stopped,
        }
    }

    pub(super) fn name(&self, when: When) -> String {
        format!("{} {} while {when:?}", self.object, self.change)
    }
}

/// Plays it, and fails unless the copy became right in the way that the cell says.
pub(super) async fn play(cell: &Cell, when: When) {
    let name = cell.name(when);
    println!("{name}");
    let pair = Pair::new(Kind::Postgres, Kind::Postgres, PUBLISH, SUBSCRIBE).await;
    for sql in before(cell) {
        pair.from.sql(sql).await;
        if sql.starts_with("CREATE TYPE") {
            pair.to.sql(sql).await;
        }
    }
    pair.catch_up().await;
    let running = match when {
        When::Running => {
            let running = pair.rowcast.start(&["run"]);
            pair.live().await;
            Some(running)
        }
        When::Starting => Some(pair.rowcast.start(&["run"])),
        When::Stopped => None,
    };
    change(&pair, cell).await;
    for write in WRITES {
        // The table may be away, or refuse.
        attempt(&pair.from, write).await;
    }
    let running = running.unwrap_or_else(|| pair.rowcast.start(&["run"]));
    let expected = cell.expected(when);
    let seen = outcome(&pair, &running, expected, &name).await;
    assert_eq!(seen, expected, "{name}\n{}", running.stderr());
    mend(&pair, cell, expected).await;
    let same = async || pair.to.look(ROWS).await == pair.from.look(ROWS).await;
    eventually_some(LONG, &name, async || same().await.then_some(())).await;
    assert!(!pair.from.value("SELECT count(*) FROM item").await.is_empty(), "{name}");
    running.terminate(LONG).await.good();
    pair.catch_up().await;
    let verified = pair.rowcast.run(LONG, &["verify"]).await;
    assert_eq!(verified.code(), Some(0), "{name}: {}", verified.said());
}

/// Runs a statement that the server may refuse.
async fn attempt(source: &Side, sql: &str) {
    if let Side::Postgres { server, name } = source {
        let _ = server.try_sql(name, sql).await;
    }
}

fn before(cell: &Cell) -> &'static [&'static str] {
    match cell.before {
        Before::Plain => &[
            "CREATE TYPE mood AS ENUM ('calm', 'cross')",
            "CREATE TABLE item (id int PRIMARY KEY, name text NOT NULL, size int, mood mood, extra_a text)",
            "INSERT INTO item SELECT i, 'n' || i, i FROM generate_series(1, 40) i",
        ],
        Before::Partitioned => &[
            "CREATE TABLE item (id int PRIMARY KEY, name text, size int) PARTITION BY RANGE (id); \
             CREATE TABLE item_low PARTITION OF item FOR VALUES FROM (0) TO (100); \
             CREATE TABLE item_high PARTITION OF item FOR VALUES FROM (100) TO (1000)",
            "INSERT INTO item SELECT i, 'n' || i, i FROM generate_series(1, 140) i",
        ],
    }
}

async fn change(pair: &Pair, cell: &Cell) {
    for sql in cell.sql {
        pair.from.sql(sql).await;
    }
}

/// Waits for what is expected, or for the opposite of silence: something else that is told and stays.
async fn outcome(pair: &Pair, running: &Running, expected: Outcome, name: &str) -> Outcome {
    eventually_some(LONG, name, async || {
        let status = pair.rowcast.run(LONG, &["status", "--json"]).await;
        let status: Json = serde_json::from_str(&status.stdout).ok()?;
        let told = told(&status);
        match expected {
            Outcome::Paused(code) => (told.as_deref() == Some(code)).then_some(expected),
            Outcome::Followed | Outcome::Rebuilt => {
                let (theirs, ours) = (pair.from.look(ROWS).await, pair.to.look(ROWS).await);
                let live = status["routes"][0]["state"] == "live"
                    && status["routes"][0]["building"].as_array().is_some_and(Vec::is_empty);
                let same = theirs.is_ok() && theirs == ours && live && told.is_none();
                let again = running.stderr().contains("as it is until the new copy is whole");
                let seen = if again { Outcome::Rebuilt } else { Outcome::Followed };
                // What is rebuilt may have been right a moment before by chance.
                (same && (seen == expected || expected == Outcome::Followed)).then_some(seen)
            }
        }
    })
    .await
}

/// The code that capture or the route says.
fn told(status: &Json) -> Option<String> {
    let all = [&status["services"], &status["routes"]].into_iter();
    let mut troubles = all.flat_map(|list| list.as_array().into_iter().flatten());
    troubles.find_map(|entry| entry["trouble"]["code"].as_str().map(str::to_string))
}

async fn mend(pair: &Pair, cell: &Cell, outcome: Outcome) {
    if let (Outcome::Paused(_), Remedy::Source(sql)) = (outcome, cell.remedy) {
        pair.from.sql(sql).await;
    }
}
