//! The demo's two services. Each knows only its own database, and nothing of Rowcast.

use rusqlite::{Connection, OptionalExtension, Result, params};
use std::path::Path;
use std::time::Duration;

/// Who is there before anything is copied.
const FIRST: [(&str, i64); 5] = [
    ("Ada Lovelace", 900),
    ("Grace Hopper", 1200),
    ("Alan Turing", 700),
    ("Emmy Noether", 1500),
    ("Edsger Dijkstra", 400),
];

/// How many there are.
pub(super) const CUSTOMERS_FIRST: usize = FIRST.len();

/// One customer, as everybody may know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Customer {
    pub(super) id: i64,
    pub(super) name: String,
    pub(super) credit_limit: i64,
    /// Grows with every change, so that a copy can be seen to have arrived.
    pub(super) revision: i64,
}

fn open(file: &Path) -> Result<Connection> {
    let db = Connection::open(file)?;
    db.busy_timeout(Duration::from_secs(10))?;
    db.pragma_update(None, "journal_mode", "WAL")?;
    db.pragma_update(None, "synchronous", "NORMAL")?;
    Ok(db)
}

fn customer(row: &rusqlite::Row<'_>) -> Result<Customer> {
    Ok(Customer {
        id: row.get(0)?,
        name: row.get(1)?,
        credit_limit: row.get(2)?,
        revision: row.get(3)?,
    })
}

/// The customer service.
pub(super) struct Customers(Connection);

impl Customers {
    /// With its first customers.
    pub(super) fn open(dir: &Path) -> Result<Self> {
        let this = Self(open(&dir.join("customers.db"))?);
        this.0.execute_batch(
            "CREATE TABLE customers (
                 id           INTEGER PRIMARY KEY,
                 name         TEXT NOT NULL,
                 email        TEXT NOT NULL,
                 credit_limit INTEGER NOT NULL,
                 revision     INTEGER NOT NULL DEFAULT 1
             )",
        )?;
        for (name, credit_limit) in FIRST {
            this.join(name, credit_limit)?;
        }
        Ok(this)
    }

    pub(super) fn join(&self, name: &str, credit_limit: i64) -> Result<Customer> {
        let email = format!("{}@example.com", name.to_lowercase().replace(' ', "."));
        let sql = "INSERT INTO customers (name, email, credit_limit) VALUES (?, ?, ?)
                   RETURNING id, name, credit_limit, revision";
        self.0.query_row(sql, params![name, email, credit_limit], customer)
    }

    pub(super) fn rename(&self, id: i64, name: &str) -> Result<Customer> {
        let sql = "UPDATE customers SET name = ?, revision = revision + 1 WHERE id = ?
                   RETURNING id, name, credit_limit, revision";
        self.0.query_row(sql, params![name, id], customer)
    }

    pub(super) fn limit(&self, id: i64, credit_limit: i64) -> Result<Customer> {
        let sql = "UPDATE customers SET credit_limit = ?, revision = revision + 1 WHERE id = ?
                   RETURNING id, name, credit_limit, revision";
        self.0.query_row(sql, params![credit_limit, id], customer)
    }

    pub(super) fn leave(&self, id: i64) -> Result<()> {
        self.0.execute("DELETE FROM customers WHERE id = ?", [id]).map(|_| ())
    }

    pub(super) fn all(&self) -> Result<Vec<Customer>> {
        let sql = "SELECT id, name, credit_limit, revision FROM customers ORDER BY id";
        self.0.prepare_cached(sql)?.query_map([], customer)?.collect()
    }
}

/// The order service, with its copy of the customers.
pub(super) struct Orders(Connection);

impl Orders {
    pub(super) fn open(dir: &Path) -> Result<Self> {
        let this = Self(open(&dir.join("orders.db"))?);
        this.0.execute_batch(
            "CREATE TABLE orders (
                 id          INTEGER PRIMARY KEY,
                 customer_id INTEGER NOT NULL,
                 item        TEXT NOT NULL,
                 price       INTEGER NOT NULL
             )",
        )?;
        Ok(this)
    }

    /// What the order service knows of a customer, from its own database.
    pub(super) fn customer(&self, id: i64) -> Result<Option<Customer>> {
        let sql = "SELECT customer_id, customer_name, credit_limit, revision
                   FROM customer_copy WHERE customer_id = ?";
        self.0.prepare_cached(sql)?.query_row([id], customer).optional()
    }

    pub(super) fn customers(&self) -> Result<Vec<Customer>> {
        let sql = "SELECT customer_id, customer_name, credit_limit, revision
                   FROM customer_copy ORDER BY customer_id";
        self.0.prepare_cached(sql)?.query_map([], customer)?.collect()
    }

    pub(super) fn place(&self, customer: i64, item: &str, price: i64) -> Result<()> {
        let sql = "INSERT INTO orders (customer_id, item, price) VALUES (?, ?, ?)";
        self.0.execute(sql, params![customer, item, price]).map(|_| ())
    }

    /// Who ordered for how much: its orders joined with its copy.
    pub(super) fn totals(&self) -> Result<Vec<(String, i64)>> {
        let sql =
            "SELECT customer_name, sum(price) FROM orders JOIN customer_copy USING (customer_id)
                   GROUP BY customer_id ORDER BY sum(price) DESC, customer_id LIMIT 2";
        self.0.prepare_cached(sql)?.query_map([], |r| Ok((r.get(0)?, r.get(1)?)))?.collect()
    }
}
