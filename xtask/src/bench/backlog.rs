//! What the source writes while nobody listens.

use super::lab::{BEACONS, Lab, SOURCE};
pub(super) use super::table::fill;
use super::table::{CUSTOMERS, EIGHT, Table, WIDE};
use anyhow::Result;
use rowcast_testkit::postgres::Session;

/// Key of the row that is written last: who has it has everything.
const MARKER: i64 = -1;

/// How many changes the transactions of a mix hold, again and again.
const MIX: &str = "ARRAY[1, 1, 3, 1, 10, 2, 1, 50, 5, 1, 200, 1, 25]";

/// Writes that wait, and what has to be there before.
#[derive(Debug)]
pub(super) struct Backlog {
    pub(super) table: Table,
    /// How many changes it holds.
    pub(super) events: u64,
    rows_before: u64,
    statements: String,
}

impl Backlog {
    /// So many transactions that insert one row each.
    pub(super) fn ins1(events: u64) -> Self {
        Self::insert(CUSTOMERS, events)
    }

    /// [`ins1`](Self::ins1) of rows of which three columns in eight are copied.
    pub(super) fn project(events: u64) -> Self {
        Self::insert(EIGHT, events)
    }

    fn insert(table: Table, events: u64) -> Self {
        let one = format!("INSERT INTO customers VALUES ({})", table.values);
        Self { table, events, rows_before: 0, statements: each(events, &one) }
    }

    /// So many rows inserted, 1,000 in a transaction.
    pub(super) fn ins1000(events: u64) -> Self {
        let statements = format!(
            "DO $$ BEGIN FOR batch IN 0..{} LOOP INSERT INTO customers SELECT {} \
             FROM generate_series(batch * 1000 + 1, batch * 1000 + 1000) i; \
             COMMIT; END LOOP; END $$",
            (events / 1000).saturating_sub(1),
            CUSTOMERS.values
        );
        Self { table: CUSTOMERS, events, rows_before: 0, statements }
    }

    /// So many transactions that update one row each, over the first `keys`.
    pub(super) fn upd1(events: u64, keys: u64) -> Self {
        let update = format!(
            "UPDATE customers SET credit_limit = i, updated_at = now() \
             WHERE id = 1 + pg_temp.pick(i, {keys})"
        );
        let statements = each(events, &update);
        Self { table: CUSTOMERS, events, rows_before: keys, statements }
    }

    /// So many transactions that delete one row each, of just as many, in no order.
    pub(super) fn del1(events: u64) -> Self {
        // A prime that divides no size we use leads to every row once.
        let delete = format!("DELETE FROM customers WHERE id = 1 + i::bigint * 7919 % {events}");
        let statements = each(events, &delete);
        Self { table: CUSTOMERS, events, rows_before: events, statements }
    }

    /// Of ten changes five insert, four update over the first half of `keys`, and one deletes in the
    /// other half; in transactions of 1 to 200.
    pub(super) fn mix(events: u64, keys: u64) -> Self {
        assert!(events / 10 <= keys / 2, "as many rows to delete as deletes");
        let statements = format!(
            "DO $$ DECLARE sizes int[] := {MIX}; turn int := 0; rest int := 1; i bigint; BEGIN \
             FOR n IN 0..{events} - 1 LOOP i := {keys} + 1 + n; \
             IF n % 10 < 5 THEN INSERT INTO customers VALUES ({}); \
             ELSIF n % 10 < 9 THEN UPDATE customers SET credit_limit = n, updated_at = now() \
             WHERE id = 1 + pg_temp.pick(n, {keys} / 2); \
             ELSE DELETE FROM customers WHERE id = {keys} - n / 10; END IF; \
             rest := rest - 1; IF rest = 0 THEN COMMIT; turn := turn + 1; \
             rest := sizes[1 + turn % array_length(sizes, 1)]; END IF; END LOOP; END $$",
            CUSTOMERS.values
        );
        Self { table: CUSTOMERS, events, rows_before: keys, statements }
    }

    /// [`upd1`](Self::upd1) of rows whose two large values stay as they are.
    pub(super) fn wide(events: u64, keys: u64) -> Self {
        let update =
            format!("UPDATE customers SET credit_limit = i WHERE id = 1 + pg_temp.pick(i, {keys})");
        Self { table: WIDE, events, rows_before: keys, statements: each(events, &update) }
    }

    /// So many transactions of one row each, inserts but for every thousandth: that writes a negative
    /// limit to one of `keys`, one key after the other.
    pub(super) fn scattered(events: u64, keys: u64) -> Self {
        let one = format!(
            "IF i % 1000 = 0 THEN INSERT INTO customers (id, credit_limit) \
             VALUES (-100 - (i - 1) * {keys} / {events}, -i) \
             ON CONFLICT (id) DO UPDATE SET credit_limit = EXCLUDED.credit_limit; \
             ELSE INSERT INTO customers VALUES ({}); END IF",
            CUSTOMERS.values
        );
        Self { table: CUSTOMERS, events, rows_before: 0, statements: each(events, &one) }
    }

    /// Makes its table at the source and what has to be there before.
    pub(super) async fn prepare(&self, lab: &Lab) {
        let session = lab.source.session(SOURCE).await;
        self.table.create(&session, self.table.source).await;
        self.table.fill(&session, self.rows_before).await;
    }

    /// Writes all of it, and the marker. Returns the position after that.
    pub(super) async fn write(&self, lab: &Lab) -> String {
        let session = lab.source.session(SOURCE).await;
        session.sql(PICK).await;
        session.sql("SET synchronous_commit = off").await;
        session.sql(&self.statements).await;
        session.sql("SET synchronous_commit = on").await;
        session.sql(&mark(MARKER)).await;
        session.sql(&format!("INSERT INTO {BEACONS} VALUES ({MARKER})")).await;
        let end = session.sql("SELECT pg_current_wal_lsn()").await;
        end[0][0].clone().unwrap_or_default()
    }
}

/// One of the first `n` numbers; it looks like chance and is the same every time.
const PICK: &str = "CREATE FUNCTION pg_temp.pick(i bigint, n bigint) RETURNS bigint LANGUAGE sql \
                    IMMUTABLE AS $$ SELECT (hashint8(i)::bigint + 2147483648) % n $$";

/// A transaction for each `i`.
fn each(events: u64, statement: &str) -> String {
    format!("DO $$ BEGIN FOR i IN 1..{events} LOOP {statement}; COMMIT; END LOOP; END $$")
}

/// A statement that inserts a row of this key.
pub(super) fn mark(key: i64) -> String {
    format!("INSERT INTO customers (id, status) VALUES ({key}, 'marker')")
}

/// Waits until every subscriber has the marker.
pub(super) async fn arrived(lab: &Lab, watch: &[Session]) -> Result<()> {
    arrived_at(lab, watch, MARKER).await
}

/// [`arrived`] for a row of another key.
pub(super) async fn arrived_at(lab: &Lab, watch: &[Session], key: i64) -> Result<()> {
    shows(lab, watch, &format!("SELECT FROM customers WHERE id = {key}")).await
}

/// [`arrived`] for subscribers who take nothing but beacons.
pub(super) async fn passed(lab: &Lab, watch: &[Session]) -> Result<()> {
    shows(lab, watch, &format!("SELECT FROM {BEACONS} WHERE id = {MARKER}")).await
}

async fn shows(lab: &Lab, watch: &[Session], look: &str) -> Result<()> {
    for session in watch {
        lab.until("the last row arrives", async || Ok(!session.try_sql(look).await?.is_empty()))
            .await?;
    }
    Ok(())
}
