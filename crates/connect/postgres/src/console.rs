//! A session for statements that a person could have typed: what torture and examples use.

use crate::connect::{Address, Session};
use std::error::Error;
use tokio_postgres::SimpleQueryMessage;

/// A session of its own. Its `search_path` is empty: names carry their schema.
#[derive(Debug)]
pub struct Console {
    session: Session,
}

impl Console {
    /// Connects.
    ///
    /// # Errors
    /// Why there is no session, in words.
    pub async fn open(url: &str) -> Result<Self, String> {
        let address = Address::parse(url).map_err(|e| e.to_string())?;
        let session = address.connect("torture", &[("lock_timeout", "20s")]).await;
        Ok(Self { session: session.map_err(|e| words(&e))? })
    }

    /// Runs statements and gives the rows of all their queries, as text.
    ///
    /// # Errors
    /// The server's words.
    pub async fn run(&self, sql: &str) -> Result<Vec<Vec<Option<String>>>, String> {
        let messages = self.session.simple_query(sql).await.map_err(|e| words(&e))?;
        let rows = messages.into_iter().filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => {
                Some((0..row.len()).map(|i| row.get(i).map(str::to_string)).collect())
            }
            _ => None,
        });
        Ok(rows.collect())
    }
}

/// An error with what is behind it, in one line.
fn words(error: &dyn Error) -> String {
    let mut words = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        words.push_str(&format!(": {error}"));
        cause = error.source();
    }
    words
}
