//! What the source writes while nobody listens.

use super::lab::{Lab, SOURCE};
use anyhow::Result;
use rowcast_testkit::postgres::Session;

/// Key of the row that is written last: who has it has everything.
const MARKER: i64 = -1;

/// The columns of row `i`, as SQL over a variable of that name.
const VALUES: &str = "i, 'Customer number ' || i, 'customer.' || i || '@mail.example.com', \
                      (i % 10000)::int, (ARRAY['active','dormant','closed'])[1 + i % 3], \
                      jsonb_build_object('street', i || ' Long Winding Street', 'city', \
                      'Town ' || i % 1000, 'zip', i % 99999), now()";

/// A kind of write, repeated.
#[derive(Debug, Clone, Copy)]
pub(super) enum Backlog {
    /// So many transactions that insert one row each.
    Ins1(u64),
    /// So many rows inserted, 1,000 in a transaction.
    Ins1000(u64),
    /// So many transactions that update one row each, over the first `keys`.
    Upd1 { events: u64, keys: u64 },
    /// So many transactions of one row each, inserts but for every thousandth: that writes a negative
    /// limit to one of `keys`, one key after the other.
    Scattered { events: u64, keys: u64 },
}

impl Backlog {
    /// How many changes it holds.
    pub(super) fn events(self) -> u64 {
        match self {
            Self::Ins1(events)
            | Self::Ins1000(events)
            | Self::Upd1 { events, .. }
            | Self::Scattered { events, .. } => events,
        }
    }

    /// Rows that have to be there before.
    pub(super) fn rows_before(self) -> u64 {
        match self {
            Self::Ins1(_) | Self::Ins1000(_) | Self::Scattered { .. } => 0,
            Self::Upd1 { keys, .. } => keys,
        }
    }

    fn statements(self) -> String {
        match self {
            Self::Ins1(events) => format!(
                "DO $$ BEGIN FOR i IN 1..{events} LOOP \
                 INSERT INTO customers VALUES ({VALUES}); COMMIT; END LOOP; END $$"
            ),
            Self::Ins1000(events) => format!(
                "DO $$ BEGIN FOR batch IN 0..{} LOOP INSERT INTO customers SELECT {VALUES} \
                 FROM generate_series(batch * 1000 + 1, batch * 1000 + 1000) i; \
                 COMMIT; END LOOP; END $$",
                (events / 1000).saturating_sub(1)
            ),
            Self::Upd1 { events, keys } => format!(
                "DO $$ DECLARE k bigint; BEGIN PERFORM setseed(0.42); FOR i IN 1..{events} LOOP \
                 k := 1 + floor(random() * {keys}); UPDATE customers \
                 SET credit_limit = i, updated_at = now() WHERE id = k; \
                 COMMIT; END LOOP; END $$"
            ),
            Self::Scattered { events, keys } => format!(
                "DO $$ BEGIN FOR i IN 1..{events} LOOP IF i % 1000 = 0 THEN \
                 INSERT INTO customers (id, credit_limit) \
                 VALUES (-100 - (i - 1) * {keys} / {events}, -i) \
                 ON CONFLICT (id) DO UPDATE SET credit_limit = EXCLUDED.credit_limit; \
                 ELSE INSERT INTO customers VALUES ({VALUES}); END IF; COMMIT; END LOOP; END $$"
            ),
        }
    }

    /// Writes all of it, and the marker. Returns the position after that.
    pub(super) async fn write(self, lab: &Lab) -> String {
        let session = lab.source.session(SOURCE).await;
        session.sql("SET synchronous_commit = off").await;
        session.sql(&self.statements()).await;
        session.sql("SET synchronous_commit = on").await;
        session.sql(&mark(MARKER)).await;
        let end = session.sql("SELECT pg_current_wal_lsn()").await;
        end[0][0].clone().unwrap_or_default()
    }
}

/// Inserts rows 1 to `rows`, in one transaction.
pub(super) async fn fill(session: &Session, rows: u64) {
    let rows = format!("SELECT {VALUES} FROM generate_series(1, {rows}::bigint) i");
    session.sql(&format!("INSERT INTO customers {rows}")).await;
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
    let look = format!("SELECT FROM customers WHERE id = {key}");
    for session in watch {
        lab.until("the last row arrives", async || Ok(!session.try_sql(&look).await?.is_empty()))
            .await?;
    }
    Ok(())
}
