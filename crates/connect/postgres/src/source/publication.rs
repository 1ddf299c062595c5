//! The publication: which tables the server streams. Its comment is where a slot that was made but
//! never confirmed anything is told from one whose log was lost.

use super::catalog::{Table, literal};
use super::trouble::Trouble;
use super::wire::{Wire, WireError};
use rowcast_core::{Point, ServiceName, SourceError, quote};
use std::collections::BTreeSet;

/// The name of slot and publication alike. Slots allow neither `-` nor upper case.
pub(crate) fn slot_name(service: &ServiceName) -> String {
    format!("rowcast_{}", service.as_str().replace('-', "_"))
}

const PUBLISH: &str =
    "publish = 'insert, update, delete, truncate', publish_via_partition_root = true";

/// A publication as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Publication {
    /// Publishes every kind of change, through partitions' roots.
    pub(crate) whole: bool,
    pub(crate) all_tables: bool,
    /// Oids of its tables.
    pub(crate) tables: BTreeSet<u32>,
    /// Some table is cut by a column list or a row filter.
    pub(crate) cut: bool,
    pub(crate) comment: Option<String>,
}

impl Publication {
    /// Looks it up.
    pub(crate) async fn find(wire: &mut Wire, name: &str) -> Result<Option<Self>, WireError> {
        // Column lists and row filters came with 15; to_jsonb lets one query ask all versions.
        let rows = wire
            .query(&format!(
                "SELECT p.pubviaroot AND p.pubinsert AND p.pubupdate AND p.pubdelete \
                        AND p.pubtruncate, p.puballtables, \
                        (SELECT string_agg(r.prrelid::text, ',') FROM pg_publication_rel r \
                          WHERE r.prpubid = p.oid), \
                        EXISTS (SELECT FROM pg_publication_rel r WHERE r.prpubid = p.oid AND \
                          coalesce(to_jsonb(r)->>'prqual', to_jsonb(r)->>'prattrs') IS NOT NULL), \
                        obj_description(p.oid, 'pg_publication') \
                 FROM pg_publication p WHERE p.pubname = {}",
                literal(name)
            ))
            .await?;
        let Some(row) = rows.into_iter().next() else { return Ok(None) };
        let is = |i: usize| row.get(i).cloned().flatten().as_deref() == Some("t");
        let tables = row.get(2).cloned().flatten().unwrap_or_default();
        Ok(Some(Self {
            whole: is(0),
            all_tables: is(1),
            tables: tables.split(',').filter_map(|oid| oid.parse().ok()).collect(),
            cut: is(3),
            comment: row.get(4).cloned().flatten(),
        }))
    }

    /// Whether the table's changes are in the stream, all of them.
    pub(crate) fn holds(&self, oid: u32) -> bool {
        self.whole && !self.cut && (self.all_tables || self.tables.contains(&oid))
    }

    /// Statements that make the publication `name` what it has to be, given what is there.
    pub(crate) fn statements(found: Option<&Self>, name: &str, tables: &[Table]) -> Vec<String> {
        let name = quote(name);
        let names: BTreeSet<_> = tables.iter().map(Table::sql_only).collect();
        let list = names.into_iter().collect::<Vec<_>>().join(", ");
        let Some(found) = found else {
            let tables = if list.is_empty() { list } else { format!("FOR TABLE {list} ") };
            return vec![format!("CREATE PUBLICATION {name} {tables}WITH ({PUBLISH})")];
        };
        let mut statements = Vec::new();
        let wanted: BTreeSet<u32> = tables.iter().map(|t| t.oid).collect();
        if !list.is_empty() && !found.all_tables && (found.tables != wanted || found.cut) {
            statements.push(format!("ALTER PUBLICATION {name} SET TABLE {list}"));
        }
        if !found.whole {
            statements.push(format!("ALTER PUBLICATION {name} SET ({PUBLISH})"));
        }
        statements
    }
}

/// Makes the publication what it has to be.
pub(crate) async fn ensure(
    wire: &mut Wire,
    name: &str,
    tables: &[Table],
    trouble: &Trouble,
) -> Result<Option<Publication>, SourceError> {
    let found = Publication::find(wire, name).await;
    let found = found.map_err(|e| trouble.wire("its publications cannot be read", e))?;
    for statement in Publication::statements(found.as_ref(), name, tables) {
        let Err(error) = wire.query(&statement).await else { continue };
        return Err(match trouble.wire("the publication cannot be made", error) {
            SourceError::Setup { service, what, source, .. } => {
                let help = format!(
                    "let the tables' owner or a superuser run: {statement}; publishing needs \
                     ownership of the tables and CREATE on the database"
                );
                SourceError::Setup { service, what, help, source }
            }
            other => other,
        });
    }
    Ok(found)
}

const BEGUN: &str = "rowcast: slot begun";
const BORN: &str = "rowcast: slot born at ";
const RELEASED: &str = "rowcast: slot released";
/// Follows any of them, with the birth of the history that a release ended: whoever logs that
/// history has the gap, and nobody else.
const GAP: &str = "; over its limit, the history ended that was born at ";

/// Notes that a slot is about to be made, or where it was born. Who may not write the note goes
/// without: all that is lost is that a crash within the next seconds has to be mended by hand.
pub(crate) async fn note(wire: &mut Wire, name: &str, born: Option<Point>, gap: Option<Point>) {
    let comment = born.map_or(BEGUN.to_string(), |lsn| format!("{BORN}{lsn}"));
    let _ = say(wire, name, &with_gap(comment, gap)).await;
}

/// Notes that the slot is dropped because it kept more than it may; says whether it is written.
pub(crate) async fn note_released(wire: &mut Wire, name: &str, born: Point) -> bool {
    say(wire, name, &with_gap(RELEASED.into(), Some(born))).await
}

/// Forgets a release: the log holds a later history, or the slot is still there.
pub(crate) async fn forget_gap(wire: &mut Wire, name: &str, publication: Option<&Publication>) {
    let comment = publication.and_then(|p| p.comment.as_deref());
    if let Some((before, _)) = comment.and_then(|c| c.split_once(GAP)) {
        say(wire, name, before).await;
    }
}

/// The birth of the history that a release ended, if one did.
pub(crate) fn gap(publication: Option<&Publication>) -> Option<Point> {
    let comment = publication?.comment.as_deref()?;
    comment.split_once(GAP)?.1.parse().ok()
}

fn with_gap(comment: String, gap: Option<Point>) -> String {
    gap.map_or(comment.clone(), |born| format!("{comment}{GAP}{born}"))
}

async fn say(wire: &mut Wire, name: &str, comment: &str) -> bool {
    let sql = format!("COMMENT ON PUBLICATION {} IS {}", quote(name), literal(comment));
    match wire.query(&sql).await {
        Ok(_) => true,
        Err(error) => {
            tracing::debug!(publication = name, %error, "no note at the publication");
            false
        }
    }
}

/// Whether a slot that stands at `confirmed` never gave anything to any log.
///
/// A slot is confirmed only after a log made something durable, and our first confirmation lies
/// after the slot's birth. So a slot that still stands where it was born, or one of which not even
/// the birth was noted, was left behind by a start that was cut short: nobody can miss it. A log
/// that was lost with its directory has confirmed more, within seconds of its first start.
pub(crate) fn never_used(publication: Option<&Publication>, confirmed: Option<Point>) -> bool {
    let comment = publication.and_then(|p| p.comment.as_deref());
    match comment.map(|c| c.split_once(GAP).map_or(c, |(before, _)| before)) {
        Some(BEGUN) => true,
        Some(comment) => {
            let born = comment.strip_prefix(BORN).and_then(|lsn| lsn.parse().ok());
            born.is_some() && confirmed == born
        }
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn publication(comment: &str) -> Publication {
        Publication {
            whole: true,
            all_tables: false,
            tables: BTreeSet::new(),
            cut: false,
            comment: Some(comment.into()),
        }
    }

    #[test]
    fn only_a_slot_that_stands_where_it_was_born_was_never_used() {
        let born = publication("rowcast: slot born at 0/16B3740");
        let at = |lsn: &str| Some(lsn.parse().unwrap());
        assert!(never_used(Some(&born), at("0/16B3740")));
        assert!(!never_used(Some(&born), at("0/16B3778")));
        assert!(!never_used(Some(&born), None));
        assert!(never_used(Some(&publication(BEGUN)), None));
        assert!(!never_used(Some(&publication("mine")), at("0/16B3740")));
        assert!(!never_used(None, at("0/16B3740")));
    }

    #[test]
    fn a_note_says_which_history_a_release_ended() {
        let at = |lsn: &str| lsn.parse::<Point>().unwrap();
        let born = with_gap("rowcast: slot born at 0/20".into(), Some(at("0/10")));
        let noted = publication(&born);
        assert_eq!(gap(Some(&noted)), Some(at("0/10")));
        assert!(never_used(Some(&noted), Some(at("0/20"))));
        assert!(never_used(Some(&publication(&with_gap(BEGUN.into(), Some(at("0/10"))))), None));
        assert_eq!(gap(Some(&publication("rowcast: slot born at 0/20"))), None);
    }

    #[test]
    fn a_publication_that_fits_is_left_alone() {
        let name = slot_name(&"order-desk".parse().unwrap());
        assert_eq!(name, "rowcast_order_desk");
        assert!(Publication::statements(Some(&publication("")), &name, &[]).is_empty());
    }
}
