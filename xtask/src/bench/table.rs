//! The tables that are copied. All have the same name and a row's key and status, so that whoever
//! writes and watches need not know which one it is.

use anyhow::Result;
use rowcast_testkit::postgres::Session;

/// A table, and what its subscribers take of it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Table {
    /// As the source has it.
    pub(super) source: &'static str,
    /// As subscribers have it.
    pub(super) target: &'static str,
    /// Its columns that subscribers take; `None` is all.
    pub(super) fields: Option<&'static [&'static str]>,
    /// The columns of row `i`, as SQL over a variable of that name.
    pub(super) values: &'static str,
}

const SEVEN: &str = "id bigint PRIMARY KEY, name text, email text, credit_limit int, status text, \
                     address jsonb, updated_at timestamptz";
const DOCUMENTS: &str =
    "id bigint PRIMARY KEY, status text, credit_limit int, body text, note text";

/// About 200 bytes a row.
pub(super) const CUSTOMERS: Table = Table {
    source: SEVEN,
    target: SEVEN,
    fields: None,
    values: "i, 'Customer number ' || i, 'customer.' || i || '@mail.example.com', \
             (i % 10000)::int, (ARRAY['active','dormant','closed'])[1 + i % 3], \
             jsonb_build_object('street', i || ' Long Winding Street', 'city', \
             'Town ' || i % 1000, 'zip', i % 99999), now()",
};

/// The same and one column more, of which three are copied.
pub(super) const EIGHT: Table = Table {
    source: "id bigint PRIMARY KEY, name text, email text, credit_limit int, status text, \
             address jsonb, updated_at timestamptz, region text",
    target: "id bigint PRIMARY KEY, name text, status text",
    fields: Some(&["id", "name", "status"]),
    values: "i, 'Customer number ' || i, 'customer.' || i || '@mail.example.com', \
             (i % 10000)::int, (ARRAY['active','dormant','closed'])[1 + i % 3], \
             jsonb_build_object('street', i || ' Long Winding Street', 'city', \
             'Town ' || i % 1000, 'zip', i % 99999), now(), 'Region ' || i % 50",
};

/// Two values of 4 KiB that lie outside of the row and do not shrink.
pub(super) const WIDE: Table = Table {
    source: DOCUMENTS,
    target: DOCUMENTS,
    fields: None,
    values: "i, 'active', 0, \
             (SELECT string_agg(md5(i || 'body' || j), '') FROM generate_series(1, 128) j), \
             (SELECT string_agg(md5(i || 'note' || j), '') FROM generate_series(1, 128) j)",
};

impl Table {
    /// Makes it in place of the one that was there.
    pub(super) async fn create(self, session: &Session, columns: &str) {
        session.sql("DROP TABLE IF EXISTS customers").await;
        session.sql(&format!("CREATE TABLE customers ({columns})")).await;
    }

    /// Inserts rows 1 to `rows`, in one transaction.
    pub(super) async fn fill(self, session: &Session, rows: u64) {
        let rows = format!("SELECT {} FROM generate_series(1, {rows}::bigint) i", self.values);
        session.sql(&format!("INSERT INTO customers {rows}")).await;
    }
}

/// Inserts rows 1 to `rows` of [`CUSTOMERS`], in one transaction.
pub(super) async fn fill(session: &Session, rows: u64) {
    CUSTOMERS.fill(session, rows).await;
}

/// Columns of the copy in `session`, as SQL.
pub(super) async fn columns(session: &Session) -> Result<String> {
    let query = "SELECT string_agg(quote_ident(attname), ', ' ORDER BY attnum) FROM pg_attribute \
                 WHERE attrelid = 'customers'::regclass AND attnum > 0 AND NOT attisdropped";
    Ok(session.try_sql(query).await?[0][0].clone().unwrap_or_default())
}
