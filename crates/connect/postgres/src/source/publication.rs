//! The publication: which tables the server streams. Its comment is where a slot that was made but
//! never confirmed anything is told from one whose log was lost.

use super::catalog::{Table, literal};
use super::column_list::Wanted;
use super::trouble::Trouble;
use super::wire::{Wire, WireError};
use rowcast_core::{Point, ServiceName, SourceError, quote};
use std::collections::{BTreeMap, BTreeSet};

/// The name of slot and publication alike. Slots allow neither `-` nor upper case.
pub(crate) fn slot_name(service: &ServiceName) -> String {
    format!("rowcast_{}", service.as_str().replace('-', "_"))
}

const PUBLISH: &str =
    "publish = 'insert, update, delete, truncate', publish_via_partition_root = true";

/// A publication as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Publication {
    /// Of the server's version.
    pub(crate) version: u32,
    /// Its row in the catalog, which everything that alters the publication writes anew.
    mark: String,
    /// Publishes every kind of change.
    operations: bool,
    /// Publishes partitions through their roots.
    via_root: bool,
    pub(crate) all_tables: bool,
    /// Its tables, by oid.
    members: BTreeMap<u32, Member>,
    /// The marks of its schemas, by name.
    schemas: BTreeMap<String, String>,
    pub(crate) comment: Option<String>,
}

/// A table of a publication.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Member {
    /// Its row in the catalog: taken out and put back, it has another one.
    mark: String,
    /// A row filter hides some of its rows.
    filtered: bool,
    /// Numbers of the columns that are published, when not all are.
    columns: Option<BTreeSet<u32>>,
}

impl Publication {
    /// Looks it up.
    pub(crate) async fn find(wire: &mut Wire, name: &str) -> Result<Option<Self>, WireError> {
        let version = wire.query("SHOW server_version_num").await?;
        let version = version.first().and_then(|r| r.first()?.as_deref()?.parse().ok());
        let version = version.unwrap_or_default();
        let rows = wire.query(&question(name, version)).await?;
        let mut found: Option<Self> = None;
        for row in rows {
            let text = |i: usize| row.get(i).cloned().flatten();
            let is = |i: usize| text(i).as_deref() == Some("t");
            let (mark, what) = (text(1).unwrap_or_default(), text(2).unwrap_or_default());
            match (text(0).as_deref(), &mut found) {
                (Some("p"), found) => {
                    *found = Some(Self {
                        version,
                        mark,
                        operations: is(3),
                        via_root: is(4),
                        all_tables: is(5),
                        members: BTreeMap::new(),
                        schemas: BTreeMap::new(),
                        comment: text(6),
                    });
                }
                (Some("r"), Some(found)) => {
                    let columns = text(6).map(|c| c.split(',').flat_map(str::parse).collect());
                    let member = Member { mark, filtered: is(3), columns };
                    found.members.extend(what.parse().ok().map(|oid| (oid, member)));
                }
                (_, Some(found)) => drop(found.schemas.insert(what, mark)),
                (_, None) => {}
            }
        }
        Ok(found)
    }

    /// Everything that an `ALTER PUBLICATION` which concerns the table leaves other than it was,
    /// even when the next one undoes it.
    pub(crate) fn mark(&self, table: &Table) -> String {
        let member = self.members.get(&table.oid).map_or("", |m| m.mark.as_str());
        let schema = self.schemas.get(&table.schema).map_or("", String::as_str);
        format!("{}|{member}|{schema}", self.mark)
    }

    /// Whether nobody altered it since it was looked up before. A comment alters nothing.
    pub(crate) fn is(&self, before: Option<&Self>) -> bool {
        before.is_some_and(|b| Self { comment: self.comment.clone(), ..b.clone() } == *self)
    }

    /// Whether the table is in it by its name.
    pub(crate) fn has_member(&self, oid: u32) -> bool {
        self.members.contains_key(&oid)
    }

    /// Numbers of the columns that are in the stream, when not all are.
    pub(crate) fn columns(&self, table: &Table) -> Option<&BTreeSet<u32>> {
        self.members.get(&table.oid)?.columns.as_ref()
    }

    fn has(&self, table: &Table) -> bool {
        self.all_tables
            || self.schemas.contains_key(&table.schema)
            || self.members.contains_key(&table.oid)
    }

    /// What it hides of the table's changes, in words; nothing when all that is wanted is in the
    /// stream.
    pub(crate) fn hides(&self, wanted: &Wanted) -> Option<String> {
        let table = wanted.table.sql();
        if !self.has(&wanted.table) {
            return Some(format!("{table} is not in it"));
        }
        let member = self.members.get(&wanted.table.oid)?;
        if member.filtered {
            return Some(format!("a row filter hides rows of {table}"));
        }
        let listed = member.columns.as_ref()?;
        let plain = wanted.table.columns.iter().filter(|c| c.generated.is_none());
        let asked = |number: &u32| wanted.columns.as_ref().is_none_or(|w| w.contains(number));
        let lacks: Vec<_> = plain
            .filter(|c| asked(&c.number) && !listed.contains(&c.number))
            .map(|c| quote(&c.name))
            .collect();
        let lacks = lacks.join(", ");
        (!lacks.is_empty()).then(|| format!("its column list of {table} lacks {lacks}"))
    }

    /// What it hides of all tables alike.
    pub(crate) fn hides_everywhere(&self) -> Option<&'static str> {
        match (self.operations, self.via_root) {
            (false, _) => Some("it does not publish every kind of change"),
            (_, false) => Some("it does not publish partitions through their roots"),
            _ => None,
        }
    }

    /// Whether the table's changes are in the stream, all that are wanted of them.
    pub(crate) fn holds(&self, wanted: &Wanted) -> bool {
        self.hides_everywhere().is_none() && self.hides(wanted).is_none()
    }

    /// Statements that make the publication `name` what it has to be, given what is there.
    pub(crate) fn statements(found: Option<&Self>, name: &str, wanted: &[Wanted]) -> Vec<String> {
        let name = quote(name);
        let members: BTreeMap<u32, &Wanted> = wanted.iter().map(|w| (w.table.oid, w)).collect();
        let list = |of: &[&Wanted]| of.iter().map(|w| w.sql()).collect::<Vec<_>>().join(", ");
        let all: Vec<&Wanted> = members.values().copied().collect();
        let Some(found) = found else {
            let tables =
                if all.is_empty() { "".into() } else { format!("FOR TABLE {} ", list(&all)) };
            return vec![format!("CREATE PUBLICATION {name} {tables}WITH ({PUBLISH})")];
        };
        let mut statements = Vec::new();
        if !found.schemas.is_empty() {
            // To set the tables would take out the schemas, and those cannot be with column lists.
            let wrong = |w: &&Wanted| found.hides(w).is_some();
            let wrong: Vec<&Wanted> = all.iter().copied().filter(wrong).collect();
            let there = |w: &&Wanted| found.members.contains_key(&w.table.oid);
            for wanted in wrong.iter().copied().filter(there) {
                statements.push(format!(
                    "ALTER PUBLICATION {name} DROP TABLE {}",
                    wanted.table.sql_only()
                ));
            }
            let plain: Vec<_> = wrong.iter().map(|w| w.table.sql_only()).collect();
            if !plain.is_empty() {
                statements.push(format!("ALTER PUBLICATION {name} ADD TABLE {}", plain.join(", ")));
            }
        } else if !found.all_tables && !all.is_empty() {
            let fits = |w: &&Wanted| {
                let member = found.members.get(&w.table.oid);
                member.is_some_and(|m| !m.filtered && m.columns == w.columns)
            };
            if found.members.len() != all.len() || !all.iter().all(fits) {
                statements.push(format!("ALTER PUBLICATION {name} SET TABLE {}", list(&all)));
            }
        }
        if found.hides_everywhere().is_some() {
            statements.push(format!("ALTER PUBLICATION {name} SET ({PUBLISH})"));
        }
        statements
    }
}

/// One answer: a row for the publication, and one for each of its tables and schemas.
fn question(name: &str, version: u32) -> String {
    let of = format!("p.pubname = {}", literal(name));
    // Schemas, column lists and row filters came with 15.
    let (cut, schemas) = match version {
        ..150_000 => ("false, NULL, NULL, NULL", String::new()),
        _ => (
            "r.prqual IS NOT NULL, NULL, NULL, array_to_string(r.prattrs::int2[], ',')",
            format!(
                " UNION ALL SELECT 'n', concat_ws(' ', s.oid, s.xmin), n.nspname, NULL, NULL, \
                 NULL, NULL FROM pg_publication p JOIN pg_publication_namespace s ON s.pnpubid = p.oid \
                 JOIN pg_namespace n ON n.oid = s.pnnspid WHERE {of}"
            ),
        ),
    };
    format!(
        "SELECT 'p', concat_ws(' ', p.oid, p.xmin), NULL, \
                p.pubinsert AND p.pubupdate AND p.pubdelete AND p.pubtruncate, p.pubviaroot, \
                p.puballtables, obj_description(p.oid, 'pg_publication') \
         FROM pg_publication p WHERE {of} \
         UNION ALL SELECT 'r', concat_ws(' ', r.oid, r.xmin), r.prrelid::text, {cut} \
         FROM pg_publication p JOIN pg_publication_rel r ON r.prpubid = p.oid WHERE {of}{schemas}"
    )
}

/// Makes the publication what it has to be. What was there, and what is there now.
pub(crate) async fn ensure(
    wire: &mut Wire,
    name: &str,
    wanted: &[Wanted],
    trouble: &Trouble,
) -> Result<(Option<Publication>, Publication), SourceError> {
    const UNREAD: &str = "its publications cannot be read";
    for _ in 0..ATTEMPTS {
        let found = Publication::find(wire, name).await.map_err(|e| trouble.wire(UNREAD, e))?;
        let statements = Publication::statements(found.as_ref(), name, wanted);
        // All at once: what is put right in pieces hides changes between two of them.
        let all = format!("BEGIN; {}; COMMIT", statements.join("; "));
        let done = if statements.is_empty() { Ok(vec![]) } else { wire.query(&all).await };
        if let Err(error) = done {
            wire.query("ROLLBACK").await.map_err(|e| trouble.wire(UNREAD, e))?;
            return Err(refused(trouble, error, &statements));
        }
        let now = Publication::find(wire, name).await.map_err(|e| trouble.wire(UNREAD, e))?;
        match now {
            Some(now)
                if Publication::statements(Some(&now), name, wanted).is_empty()
                    && (!statements.is_empty() || now.is(found.as_ref())) =>
            {
                return Ok((found, now));
            }
            // Somebody alters it at this moment.
            _ => {}
        }
    }
    Err(trouble.setup(
        format!("somebody alters publication {name} again and again"),
        format!(
            "find out who alters publication {name}: only Rowcast may, while it publishes {}",
            trouble.0
        ),
    ))
}

/// How often a publication is put right that somebody alters at the same moment.
const ATTEMPTS: u32 = 5;

/// What to say when the role may not alter the publication.
pub(super) fn refused(trouble: &Trouble, error: WireError, statements: &[String]) -> SourceError {
    match trouble.wire("the publication cannot be made or put right", error) {
        SourceError::Setup { service, what, source, .. } => {
            let help = format!(
                "let the tables' owner or a superuser run: {}; publishing needs ownership of the \
                 tables and CREATE on the database",
                statements.join("; ")
            );
            SourceError::Setup { service, what, help, source }
        }
        other => other,
    }
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
            version: 150_000,
            mark: "1 2".into(),
            operations: true,
            via_root: true,
            all_tables: false,
            members: BTreeMap::new(),
            schemas: BTreeMap::new(),
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
