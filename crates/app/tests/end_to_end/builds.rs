//! P7 a new subscriber needs nothing from the publisher: copies are built beside live ones and join
//! them, and a reader of a copy never sees it empty or half, whatever is built anew and killed.

use super::bank::{self, Traffic, assert_same, bank};
use super::side::{Kind, LONG, Pair, Side};
use rand::Rng;
use rowcast_testkit::wait::eventually;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tokio::task::JoinHandle;

const ACCOUNT_ONLY: &str = "[service.order.subscribe.\"shop.account\"]\ninto = \"account_copy\"";

/// Asks a question about a copy in a loop; the smallest number that ever was the answer.
struct Reader {
    stop: Arc<AtomicBool>,
    looks: Arc<AtomicU64>,
    task: JoinHandle<i64>,
}

impl Reader {
    fn start(side: Arc<Side>, question: &'static str) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let looks = Arc::new(AtomicU64::new(0));
        let (stopped, looked) = (stop.clone(), looks.clone());
        #[expect(clippy::disallowed_methods, reason = "joined in `least`")]
        let task = tokio::spawn(async move {
            let mut least = i64::MAX;
            while !stopped.load(Ordering::Relaxed) {
                least = least.min(side.value(question).await.parse().unwrap());
                looked.fetch_add(1, Ordering::Relaxed);
            }
            least
        });
        Self { stop, looks, task }
    }

    /// Waits for a few looks from now on.
    async fn looks(&self) {
        let enough = self.looks.load(Ordering::Relaxed) + 3;
        eventually(LONG, "a look", async || {
            self.task.is_finished() || self.looks.load(Ordering::Relaxed) >= enough
        })
        .await;
    }

    async fn least(self) -> i64 {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await.unwrap()
    }
}

async fn joined_under_load_and_kills(from: Kind, to: Kind) {
    let mut pair = bank(from, to, 20).await;
    let both = std::fs::read_to_string(pair.rowcast.path("rowcast.toml")).unwrap();
    pair.configure(bank::PUBLISH, ACCOUNT_ONLY);
    let source = Arc::new(std::mem::replace(&mut pair.from, Side::new(Kind::Sqlite).await));
    let traffic = Traffic::start(source.clone(), 20, rand::random());
    let running = pair.rowcast.start(&["run"]);
    pair.live().await;
    traffic.goes_on(20).await;
    running.kill_9().await;
    // From here on the route has two copies, one of them new.
    pair.rowcast.configure(&both);
    for _ in 0..8 {
        let running = pair.rowcast.start(&["run"]);
        let lives = rand::rng().random_range(50..900);
        tokio::time::sleep(Duration::from_millis(lives)).await;
        let ended = running.kill_9().await;
        assert_eq!(ended.code(), None, "it ended before it was killed: {}", ended.said());
        traffic.goes_on(5).await;
    }
    pair.rowcast.run(LONG, &["run", "--until-caught-up"]).await.good();
    traffic.stop().await;
    pair.from = Arc::into_inner(source).unwrap();
    pair.catch_up().await;
    assert_same(&pair).await;
}

#[tokio::test]
async fn a_subscription_joins_under_load_and_kills_postgres_to_postgres() {
    joined_under_load_and_kills(Kind::Postgres, Kind::Postgres).await;
}

#[tokio::test]
async fn a_subscription_joins_under_load_and_kills_sqlite_to_sqlite() {
    joined_under_load_and_kills(Kind::Sqlite, Kind::Sqlite).await;
}

#[tokio::test]
async fn a_subscription_joins_under_load_and_kills_postgres_to_sqlite() {
    joined_under_load_and_kills(Kind::Postgres, Kind::Sqlite).await;
}

/// A table of items that are never fewer than this.
const ITEMS: i64 = 3000;
const PUBLISH: &str = "[service.shop.publish.item]";
const SUBSCRIBE: &str = "[service.order.subscribe.\"shop.item\"]\ninto = \"item_copy\"";

async fn items(from: Kind, to: Kind, subscribe: &str) -> Pair {
    let pair = Pair::new(from, to, PUBLISH, subscribe).await;
    pair.from.sql("CREATE TABLE item (id INT PRIMARY KEY, name TEXT, size INT)").await;
    let rows: Vec<_> = (0..ITEMS + 100).map(|i| format!("({i}, 'item {i}', {i})")).collect();
    pair.from.sql(&format!("INSERT INTO item VALUES {}", rows.join(", "))).await;
    pair.catch_up().await;
    pair
}

const ALL: &str = "SELECT id, name, size FROM item ORDER BY id";
const ALL_COPIED: &str = "SELECT id, name, size FROM item_copy ORDER BY id";

/// Watches the copy while `change` happens and is followed, with kills; the least that was seen.
async fn watched(pair: &mut Pair, question: &'static str, first: &[&str], kills: usize) -> i64 {
    let nobody = Side::new(Kind::Sqlite).await;
    let copy = Arc::new(std::mem::replace(&mut pair.to, nobody));
    let reader = Reader::start(copy.clone(), question);
    reader.looks().await;
    for kill in 0..kills {
        let args = if kill == 0 { first } else { &["run"][..] };
        let running = pair.rowcast.start(args);
        tokio::time::sleep(Duration::from_millis(rand::rng().random_range(100..700))).await;
        running.kill_9().await;
    }
    let again = [first, &["--until-caught-up"]].concat();
    pair.rowcast.run(LONG, &again).await.good();
    reader.looks().await;
    let least = reader.least().await;
    pair.to = Arc::into_inner(copy).unwrap();
    least
}

#[tokio::test]
async fn a_new_history_is_built_beside_and_a_reader_never_sees_less() {
    for (from, to) in [(Kind::Postgres, Kind::Postgres), (Kind::Sqlite, Kind::Sqlite)] {
        println!("{from:?} to {to:?}");
        let mut pair = items(from, to, SUBSCRIBE).await;
        pair.from.sql("DELETE FROM item WHERE id >= 3000").await;
        pair.from.sql("UPDATE item SET size = -size WHERE id < 100").await;
        let service = pair.service.clone();
        let resnapshot = ["run", "--resnapshot", service.as_str()];
        let count = "SELECT count(*) FROM item_copy";
        assert!(watched(&mut pair, count, &resnapshot, 3).await >= ITEMS);
        pair.same(ALL, ALL_COPIED).await;
        pair.catch_up().await;
        pair.same(ALL, ALL_COPIED).await;
    }
}

#[tokio::test]
async fn other_fields_are_built_beside_and_swapped_at_once() {
    for to in [Kind::Postgres, Kind::Sqlite] {
        let narrow = format!("{SUBSCRIBE}\nfields = [\"id\", \"name\"]");
        let mut pair = items(Kind::Postgres, to, &narrow).await;
        pair.to.sql("ALTER TABLE item_copy ADD COLUMN mine TEXT").await;
        pair.to.sql("UPDATE item_copy SET mine = 'kept'").await;
        pair.configure(PUBLISH, SUBSCRIBE);
        let count = "SELECT count(*) FROM item_copy WHERE mine = 'kept'";
        assert!(watched(&mut pair, count, &["run"], 3).await >= ITEMS);
        pair.same(ALL, ALL_COPIED).await;
        let kept = "SELECT count(*) FROM item_copy WHERE mine IS NULL";
        assert_eq!(pair.to.value(kept).await, "0");
        pair.from.sql("UPDATE item SET size = 7 WHERE id = 7").await;
        pair.catch_up().await;
        pair.same(ALL, ALL_COPIED).await;
    }
}

#[tokio::test]
async fn who_slept_past_the_log_is_told_and_built_anew_with_a_new_history() {
    let mut pair = items(Kind::Sqlite, Kind::Sqlite, SUBSCRIBE).await;
    let log = "[log]\nsegment = \"1 MiB\"\nkeep = \"recent\"\nkeep-size = \"2 MiB\"";
    // Nobody subscribes while more comes than the log keeps.
    pair.configure(PUBLISH, log);
    pair.from.sql("DELETE FROM item WHERE id >= 3000").await;
    let long = "x".repeat(2000);
    for _ in 0..3 {
        pair.from.sql(&format!("UPDATE item SET name = '{long}'")).await;
        pair.catch_up().await;
    }
    pair.from.sql("UPDATE item SET name = 'short'").await;
    pair.configure(PUBLISH, &format!("{SUBSCRIBE}\n{log}"));
    let told = pair.rowcast.run(LONG, &["run", "--until-caught-up"]).await;
    assert_eq!(told.code(), Some(1), "{}", told.said());
    assert!(told.stderr.contains("LOG-TRIMMED"), "{}", told.said());
    let service = pair.service.clone();
    let resnapshot = ["run", "--resnapshot", service.as_str()];
    let count = "SELECT count(*) FROM item_copy";
    assert!(watched(&mut pair, count, &resnapshot, 0).await >= ITEMS);
    pair.same(ALL, ALL_COPIED).await;
}
