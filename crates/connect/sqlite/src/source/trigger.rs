//! The triggers that write a table's changes into the change table.
//!
//! They hold plain SQL only, so that every writer runs them: another process, the `sqlite3` shell,
//! any build of SQLite. A row that another one's unique value pushes out (`REPLACE`) fires no delete
//! trigger in such writers; so before each insert and update the keys of all rows that a unique rule
//! might push out are written down as "maybe gone", and the reader looks which are.

use crate::table::{Table, Unique};
use rowcast_core::quote;

/// A change's letter in the change table.
pub(super) mod op {
    pub(crate) const INSERT: &str = "I";
    pub(crate) const UPDATE: &str = "U";
    pub(crate) const DELETE: &str = "D";
    pub(crate) const MAYBE_GONE: &str = "G";
    /// The capture's schema holds from here on.
    pub(crate) const SCHEMA: &str = "S";
    /// Capture looked at changed tables; changes nothing.
    pub(crate) const LOOKED: &str = "N";
    /// Changes may have been missed: the entity is read again from here on.
    pub(crate) const AGAIN: &str = "R";
}

/// When a change was made, as SQLite can say it in any version.
pub(super) const NOW: &str = "julianday('now')";

/// One trigger: its name and the statement that makes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Trigger {
    pub(super) name: String,
    pub(super) sql: String,
}

/// The triggers of capture number `capture` on `table`, for these columns and this key.
pub(super) fn triggers(
    capture: i64,
    table: &Table,
    columns: &[String],
    key: &[String],
) -> Vec<Trigger> {
    let made = Made { capture, table, columns, key };
    let mut all = vec![made.insert(), made.update(), made.delete()];
    let conflicts: Vec<_> = table.uniques.iter().filter_map(|u| made.conflict(u)).collect();
    let by_rowid = made.rowid_conflict();
    if !conflicts.is_empty() || by_rowid.is_some() {
        let conflicts: Vec<_> = by_rowid.iter().chain(&conflicts).collect();
        let looks = |others: &[&str]| {
            let looks = conflicts.iter().map(|c| made.look(&c.condition, others));
            made.maybe_gone(&looks.collect::<Vec<_>>().join(" UNION ALL "))
        };
        all.push(made.trigger("before_insert", "BEFORE INSERT", "", &looks(&["NEW"])));
        let when: Vec<_> = conflicts.iter().map(|c| c.when.clone()).collect();
        let when = format!(" WHEN {}", when.join(" OR "));
        let body = looks(&["NEW", "OLD"]);
        all.push(made.trigger("before_update", "BEFORE UPDATE", &when, &body));
    }
    all
}

/// The table's rows in a trigger; a table may itself be named `new`.
const HERE: &str = "_rowcast_here";

struct Made<'a> {
    capture: i64,
    table: &'a Table,
    columns: &'a [String],
    key: &'a [String],
}

/// How one unique rule pushes rows out.
struct Conflict {
    /// Which rows.
    condition: String,
    /// Whether an update can come into conflict at all.
    when: String,
}

impl Made<'_> {
    fn trigger(&self, name: &str, event: &str, when: &str, body: &str) -> Trigger {
        let name = format!("_rowcast_{}_{name}", self.capture);
        let table = quote(&self.table.name);
        let sql = format!("CREATE TRIGGER {name} {event} ON {table}{when} BEGIN {body}; END");
        Trigger { name, sql }
    }

    fn insert(&self) -> Trigger {
        let values = self.row("NEW", self.columns);
        let body = self.change(op::INSERT, &slots('v', self.columns.len()), &values);
        self.trigger("insert", "AFTER INSERT", "", &body)
    }

    fn update(&self) -> Trigger {
        let slots = [slots('k', self.key.len()), slots('v', self.columns.len())].concat();
        let values = [self.row("OLD", self.key), self.row("NEW", self.columns)].concat();
        self.trigger("update", "AFTER UPDATE", "", &self.change(op::UPDATE, &slots, &values))
    }

    fn delete(&self) -> Trigger {
        let body = self.change(op::DELETE, &slots('k', self.key.len()), &self.row("OLD", self.key));
        self.trigger("delete", "AFTER DELETE", "", &body)
    }

    fn change(&self, op: &str, slots: &[String], values: &[String]) -> String {
        let (slots, values) = (slots.join(", "), values.join(", "));
        format!(
            "INSERT INTO _rowcast_changes (capture, op, at, {slots}) \
             VALUES ({}, '{op}', {NOW}, {values})",
            self.capture
        )
    }

    fn maybe_gone(&self, looks: &str) -> String {
        format!(
            "INSERT INTO _rowcast_changes (capture, op, at, {}) {looks}",
            slots('k', self.key.len()).join(", ")
        )
    }

    fn row(&self, of: &str, columns: &[String]) -> Vec<String> {
        columns.iter().map(|c| format!("{of}.{}", quote(c))).collect()
    }

    /// Selects the keys of the rows that a condition finds, but not those of `others`: what becomes
    /// of the same key, byte for byte, is said by what follows.
    fn look(&self, condition: &str, others: &[&str]) -> String {
        let key: Vec<_> = self.key.iter().map(|k| format!("{HERE}.{}", quote(k))).collect();
        let same = |other: &&str| {
            let same = self.key.iter().map(|k| {
                let (here, there) =
                    (format!("{HERE}.{}", quote(k)), format!("{other}.{}", quote(k)));
                format!("{here} IS {there} COLLATE BINARY AND typeof({here}) = typeof({there})")
            });
            format!(" AND NOT ({})", same.collect::<Vec<_>>().join(" AND "))
        };
        format!(
            "SELECT {}, '{}', {NOW}, {} FROM {} AS {HERE} WHERE {condition}{}",
            self.capture,
            op::MAYBE_GONE,
            key.join(", "),
            quote(&self.table.name),
            others.iter().map(same).collect::<String>()
        )
    }

    /// A row's number is unique too; where it is not the key, a new row can push out an old one.
    fn rowid_conflict(&self) -> Option<Conflict> {
        let rowid = self.table.rowid().filter(|_| !self.table.key_is_rowid())?;
        let condition = format!("{HERE}.{rowid} = NEW.{rowid}");
        Some(Conflict { condition, when: format!("NEW.{rowid} IS NOT OLD.{rowid}") })
    }

    fn conflict(&self, unique: &Unique) -> Option<Conflict> {
        let mut equal = Vec::new();
        let mut differs = Vec::new();
        for (name, collation) in &unique.columns {
            // Unique expressions are refused before we come here.
            let column = self.table.column(name.as_deref()?)?;
            let (name, collation) = (quote(&column.name), quote(collation));
            // A NULL that meets NOT NULL ON CONFLICT REPLACE becomes the default.
            let new = match &column.default {
                Some(default) if column.not_null => format!("ifnull(NEW.{name}, {default})"),
                _ => format!("NEW.{name}"),
            };
            equal.push(format!("{HERE}.{name} COLLATE {collation} = {new}"));
            differs.push(format!("OLD.{name} COLLATE {collation} IS NOT {new}"));
        }
        // A partial rule may come to hold without any of its columns changing.
        let when = match &unique.condition {
            Some(_) => "1".into(),
            None => differs.join(" OR "),
        };
        equal.extend(unique.condition.as_ref().map(|c| format!("({c})")));
        Some(Conflict { condition: equal.join(" AND "), when })
    }
}

/// Column names of the change table: `k0, k1, …` for old keys, `v0, v1, …` for new values.
pub(super) fn slots(letter: char, count: usize) -> Vec<String> {
    (0..count).map(|i| format!("{letter}{i}")).collect()
}
