//! A workload with a sum that every committed state keeps: accounts and the entries that explain
//! their balances. A reader who sees another sum saw half a transaction.

use super::side::{Kind, LONG, Pair, Side};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use rowcast_testkit::wait::eventually;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use tokio::task::JoinHandle;

pub(crate) const PUBLISH: &str = "[service.shop.publish.account]\n[service.shop.publish.entry]\nfields = [\"id\", \"account\", \"amount\", \"note\"]";
pub(crate) const SUBSCRIBE: &str = "[service.order.subscribe.\"shop.account\"]\ninto = \"account_copy\"\n\
     [service.order.subscribe.\"shop.entry\"]\ninto = \"entry_copy\"\n\
     fields = { id = \"id\", account = \"account\", amount = \"amount\", remark = \"note\" }";

/// What the copies say minus what they should: 0 in every whole state.
pub(crate) const IMBALANCE: &str = "SELECT coalesce((SELECT sum(balance) FROM account_copy), 0) \
     - coalesce((SELECT sum(amount) FROM entry_copy), 0)";

pub(crate) async fn bank(from: Kind, to: Kind, accounts: u32) -> Pair {
    let pair = Pair::new(from, to, PUBLISH, SUBSCRIBE).await;
    pair.from
        .sql(
            "CREATE TABLE account (id BIGINT PRIMARY KEY, balance BIGINT NOT NULL, note TEXT); \
             CREATE TABLE entry (id BIGINT PRIMARY KEY, account BIGINT NOT NULL, \
             amount BIGINT NOT NULL, note TEXT, secret TEXT)",
        )
        .await;
    for id in 0..accounts {
        let sql = format!("INSERT INTO account VALUES ({id}, 0, 'opened')");
        pair.from.sql(&sql).await;
    }
    pair
}

/// Whether the accounts' copy holds what the publisher holds.
pub(crate) async fn assert_same_accounts(pair: &Pair) {
    let account = "SELECT id, balance, note FROM account ORDER BY id";
    pair.same(account, "SELECT id, balance, note FROM account_copy ORDER BY id").await;
}

/// Whether both copies are there and hold what the publisher holds.
pub(crate) async fn assert_same(pair: &Pair) {
    assert_same_accounts(pair).await;
    let entry = "SELECT id, account, amount, note FROM entry ORDER BY id";
    pair.same(entry, "SELECT id, account, amount, remark FROM entry_copy ORDER BY id").await;
    assert_eq!(pair.to.value(IMBALANCE).await, "0");
}

/// One random transaction that keeps the sum.
pub(crate) fn transaction(random: &mut StdRng, next_entry: &mut u64, accounts: u32) -> String {
    let mut sql = Vec::new();
    for _ in 0..random.random_range(1..5) {
        let (account, amount) = (random.random_range(0..accounts), random.random_range(-50..50));
        let entry = *next_entry;
        *next_entry += 1;
        sql.push(format!(
            "UPDATE account SET balance = balance + {amount} WHERE id % {accounts} = {account}"
        ));
        sql.push(format!(
            "INSERT INTO entry VALUES ({entry}, {account}, {amount}, 'Zoë''s 🎉 {entry}', 'x')"
        ));
    }
    match random.random_range(0..6) {
        // A key change; the remainder still tells whose entries they are.
        0 => {
            let account = random.random_range(0..accounts);
            sql.push(format!(
                "UPDATE account SET id = id + {accounts} WHERE id % {accounts} = {account}"
            ));
        }
        // A pair of entries that cancel out comes and goes.
        1 => {
            let entry = *next_entry;
            *next_entry += 1;
            sql.push(format!("INSERT INTO entry VALUES ({entry}, 0, 7, NULL, 'x')"));
            sql.push(format!("DELETE FROM entry WHERE id = {entry}"));
        }
        2 => {
            let old = random.random_range(0..*next_entry);
            sql.push(format!("UPDATE entry SET note = 'changed' WHERE id = {old}"));
        }
        _ => {}
    }
    sql.join("; ")
}

/// Writes transactions until told to stop.
pub(crate) struct Traffic {
    stop: Arc<AtomicBool>,
    written: Arc<AtomicU64>,
    task: JoinHandle<()>,
}

impl Traffic {
    pub(crate) fn start(side: Arc<Side>, accounts: u32, seed: u64) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let written = Arc::new(AtomicU64::new(0));
        let (stopped, count) = (stop.clone(), written.clone());
        println!("traffic seed {seed}");
        #[expect(clippy::disallowed_methods, reason = "joined in `stop`")]
        let task = tokio::spawn(async move {
            let mut random = StdRng::seed_from_u64(seed);
            let mut entry = 0;
            while !stopped.load(Ordering::Relaxed) {
                side.sql(&transaction(&mut random, &mut entry, accounts)).await;
                count.fetch_add(1, Ordering::Relaxed);
            }
        });
        Self { stop, written, task }
    }

    /// Waits for so many transactions from now on: how fast they come is the machine's business.
    pub(crate) async fn goes_on(&self, transactions: u64) {
        let enough = self.written.load(Ordering::Relaxed) + transactions;
        eventually(LONG, "traffic", async || {
            assert!(!self.task.is_finished(), "the traffic has ended by itself");
            self.written.load(Ordering::Relaxed) >= enough
        })
        .await;
    }

    pub(crate) async fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await.unwrap();
    }
}
