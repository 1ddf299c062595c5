//! When the stream speaks of a relation: is the catalog's picture of it still the same?

use super::catalog::{self, Table, Which};
use super::pgoutput::Relation;
use super::shape::strangers;
use super::trouble::Trouble;
use super::wire::Wire;
use rowcast_core::{Kind, SourceError};

/// What is to be found out.
pub(crate) struct Question<'a> {
    pub(crate) trouble: &'a Trouble,
    pub(crate) relation: &'a Relation,
    /// What we know.
    pub(crate) table: &'a Table,
    /// The stream has spoken of it before, so something about it changed.
    pub(crate) again: bool,
}

impl Question<'_> {
    /// The table as the catalog has it, and the types of the columns that it has no longer or not
    /// this way. Asks nothing when what we know fits, which spares a start with many tables a
    /// question for each.
    pub(crate) async fn ask(
        &self,
        sql: &mut Wire,
    ) -> Result<(Table, Vec<(String, Kind)>), SourceError> {
        let sent = self.table.columns.iter().filter(|c| c.generated.is_none()).count();
        let fits =
            sent == self.relation.columns.len() && strangers(self.relation, self.table).is_empty();
        if fits && !self.again {
            return Ok((self.table.clone(), vec![]));
        }
        let wrong = |e| self.trouble.wire("its tables cannot be read", e);
        let found = catalog::tables(sql, Which::Oids(&[self.relation.oid])).await.map_err(wrong)?;
        // A table that is gone by now: what we know of it has to do.
        let table = found.into_iter().next().unwrap_or_else(|| self.table.clone());
        let types = strangers(self.relation, &table);
        let names = match types.is_empty() {
            true => vec![],
            false => catalog::type_names(sql, &types).await.map_err(wrong)?,
        };
        Ok((table, names))
    }
}
