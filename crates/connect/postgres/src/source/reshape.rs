//! When the stream speaks of a relation: is the catalog's picture of it still the same?

use super::catalog::{self, Table, Which};
use super::pgoutput::Relation;
use super::shape::{has_key_of, strangers};
use super::trouble::Trouble;
use super::wire::Wire;
use rowcast_core::{Kind, SourceError};
use std::time::{Duration, Instant};

/// What is to be found out.
pub(crate) struct Question<'a> {
    pub(crate) trouble: &'a Trouble,
    pub(crate) relation: &'a Relation,
    /// What we know.
    pub(crate) table: &'a Table,
    /// The stream has spoken of it before, so something about it changed.
    pub(crate) again: bool,
    /// The transaction in which the stream speaks.
    pub(crate) xid: u32,
}

/// Longest to wait until the catalog shows what the stream speaks of.
const VISIBLE_WITHIN: Duration = Duration::from_secs(5);
const ASK_EVERY: Duration = Duration::from_millis(2);

impl Question<'_> {
    /// Whether what we know may be wrong. What fits is not asked for, which spares a start with many
    /// tables a question for each.
    pub(crate) fn asks(&self) -> bool {
        let sent = self.table.sent().count();
        let fits = sent == self.relation.columns.len()
            && strangers(self.relation, self.table).is_empty()
            && has_key_of(self.relation, self.table);
        !fits || self.again
    }

    /// The table as the catalog has it, and the types of the columns that it has no longer or not
    /// this way.
    pub(crate) async fn ask(
        &self,
        sql: &mut Wire,
    ) -> Result<(Table, Vec<(String, Kind)>), SourceError> {
        if !self.asks() {
            return Ok((self.table.clone(), vec![]));
        }
        until_visible(sql, self.xid, self.trouble).await?;
        let wrong = |e| self.trouble.wire("its tables cannot be read", e);
        let found = catalog::tables(sql, Which::Oids(&[self.relation.oid])).await.map_err(wrong)?;
        // A table that is gone by now: what we know of it has to do.
        let mut table = found.into_iter().next().unwrap_or_else(|| self.table.clone());
        table.published.clone_from(&self.table.published);
        let types = strangers(self.relation, &table);
        let names = match types.is_empty() {
            true => vec![],
            false => catalog::type_names(sql, &types).await.map_err(wrong)?,
        };
        Ok((table, names))
    }
}

/// Waits until the catalog may show what a transaction did. A commit is in the stream before others
/// see it, so the catalog can be behind the stream as well as ahead of it. One that waits for a
/// standby is not waited for long: what is missed then is only the value that a new column has in rows
/// which were there before it, and a partition is taken for one that is gone.
pub(crate) async fn until_visible(
    sql: &mut Wire,
    xid: u32,
    trouble: &Trouble,
) -> Result<(), SourceError> {
    let began = Instant::now();
    while began.elapsed() < VISIBLE_WITHIN {
        let rows = sql.query("SELECT pg_current_snapshot()").await;
        let rows = rows.map_err(|e| trouble.wire("its tables cannot be read", e))?;
        let snapshot = rows.first().and_then(|r| r.first()?.as_deref()).unwrap_or_default();
        if shows(snapshot, xid) {
            break;
        }
        tokio::time::sleep(ASK_EVERY).await;
    }
    Ok(())
}

/// Whether a snapshot, written `xmin:xmax:running,running`, shows what a transaction did. Stream and
/// snapshot count in different widths; transactions that are compared lie close to each other.
fn shows(snapshot: &str, xid: u32) -> bool {
    let mut parts = snapshot.split(':').skip(1);
    let number = |text: &str| text.parse::<u64>().ok().map(|n| n as u32);
    let Some(end) = parts.next().and_then(number) else { return false };
    let mut running = parts.next().unwrap_or_default().split(',').filter_map(number);
    (xid.wrapping_sub(end) as i32) < 0 && !running.any(|r| r == xid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_shows_what_is_neither_running_nor_to_come() {
        assert!(shows("100:105:", 104));
        assert!(!shows("100:105:102,103", 103));
        assert!(!shows("100:105:", 105));
        // The snapshot's numbers go on where the stream's begin again.
        assert!(shows("4294967290:4294967298:", u32::MAX));
        assert!(!shows("4294967290:4294967298:4294967297", 1));
        assert!(!shows("nonsense", 1));
    }
}
