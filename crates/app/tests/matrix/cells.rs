//! The cells: what changes, and what is expected of it.

/// What Rowcast makes of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The copy has what the source has, and was never read or built again.
    Followed,
    /// The copy has what the source has, built again beside the old one.
    Rebuilt,
    /// Capture or the route stands still and says this code; after the remedy the copy is right.
    Paused(&'static str),
}

/// What a person does about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Remedy {
    /// Nothing.
    None,
    /// Statements at the source.
    Source(&'static str),
}

/// What the source's table looks like before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Before {
    /// `item (id, name, size, mood)`.
    Plain,
    /// `item (id, name, size)` by range of `id`: `item_low` below 100, `item_high` above.
    Partitioned,
}

/// One change.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cell {
    pub(super) before: Before,
    pub(super) object: &'static str,
    /// In the words of the table in the manual.
    pub(super) change: &'static str,
    /// One after the other, each a transaction of its own unless it says otherwise.
    pub(super) sql: &'static [&'static str],
    pub(super) running: Outcome,
    pub(super) stopped: Outcome,
    pub(super) remedy: Remedy,
}

const CELL: Cell = Cell {
    before: Before::Plain,
    object: "table",
    change: "",
    sql: &[],
    running: Followed,
    stopped: Followed,
    remedy: Remedy::None,
};

/// A change of which the same becomes whether Rowcast runs or not.
const fn source(
    object: &'static str,
    change: &'static str,
    sql: &'static [&'static str],
    outcome: Outcome,
    remedy: Remedy,
) -> Cell {
    Cell { object, change, sql, running: outcome, stopped: outcome, remedy, ..CELL }
}

const fn partition(
    change: &'static str,
    sql: &'static [&'static str],
    outcome: Outcome,
    remedy: Remedy,
) -> Cell {
    Cell { before: Before::Partitioned, ..source("partition", change, sql, outcome, remedy) }
}

use Outcome::{Followed, Paused, Rebuilt};

const MADE: &str = "CREATE TABLE item (id int PRIMARY KEY, name text, size int); \
                    INSERT INTO item VALUES (7, 'seven', 7)";

pub(super) const SOURCE: &[Cell] = &[
    source("table", "dropped", &["DROP TABLE item"], Paused("SOURCE-SCHEMA"), Remedy::Source(MADE)),
    source(
        "table",
        "dropped and made again in one transaction",
        &["BEGIN; DROP TABLE item; CREATE TABLE item (id int PRIMARY KEY, name text, size int); \
           INSERT INTO item VALUES (7, 'seven', 7); COMMIT"],
        Rebuilt,
        Remedy::None,
    ),
    source(
        "table",
        "renamed away",
        &["ALTER TABLE item RENAME TO other"],
        Paused("SOURCE-SCHEMA"),
        Remedy::Source("ALTER TABLE other RENAME TO item"),
    ),
    source(
        "table",
        "renamed away and back",
        &[
            "ALTER TABLE item RENAME TO other",
            "UPDATE other SET size = 77 WHERE id = 7",
            "ALTER TABLE other RENAME TO item",
        ],
        Followed,
        Remedy::None,
    ),
    source("table", "truncated", &["TRUNCATE item"], Followed, Remedy::None),
    source(
        "table",
        "moved to another schema",
        &["CREATE SCHEMA other; ALTER TABLE item SET SCHEMA other"],
        Paused("SOURCE-SCHEMA"),
        Remedy::Source("ALTER TABLE other.item SET SCHEMA public"),
    ),
    source(
        "table",
        "replaced by a view",
        &["ALTER TABLE item RENAME TO other; CREATE VIEW item AS SELECT * FROM other"],
        Paused("SOURCE-SCHEMA"),
        Remedy::Source("DROP VIEW item; ALTER TABLE other RENAME TO item"),
    ),
    source("table", "written anew (`VACUUM FULL`)", &["VACUUM FULL item"], Followed, Remedy::None),
    source(
        "table",
        "`REPLICA IDENTITY NOTHING`",
        &["ALTER TABLE item REPLICA IDENTITY NOTHING"],
        Paused("SOURCE-SCHEMA"),
        Remedy::Source("ALTER TABLE item REPLICA IDENTITY DEFAULT"),
    ),
    source(
        "table",
        "`REPLICA IDENTITY FULL`",
        &["ALTER TABLE item REPLICA IDENTITY FULL"],
        Followed,
        Remedy::None,
    ),
];

pub(super) const PARTITIONS: &[Cell] = &[
    partition(
        "attached with rows",
        &[
            "CREATE TABLE item_more (id int PRIMARY KEY, name text, size int); \
             INSERT INTO item_more VALUES (5001, 'more', 1)",
            "ALTER TABLE item ATTACH PARTITION item_more FOR VALUES FROM (5000) TO (6000)",
        ],
        Rebuilt,
        Remedy::None,
    ),
    partition("detached", &["ALTER TABLE item DETACH PARTITION item_high"], Rebuilt, Remedy::None),
    partition("dropped", &["DROP TABLE item_high"], Rebuilt, Remedy::None),
    partition("truncated", &["TRUNCATE item_high"], Rebuilt, Remedy::None),
    partition("written anew (`VACUUM FULL`)", &["VACUUM FULL item_high"], Followed, Remedy::None),
    partition(
        "added, empty",
        &["CREATE TABLE item_more PARTITION OF item FOR VALUES FROM (5000) TO (6000)"],
        Followed,
        Remedy::None,
    ),
    partition(
        "`REPLICA IDENTITY NOTHING`",
        &["ALTER TABLE item_high REPLICA IDENTITY NOTHING"],
        Paused("SOURCE-SCHEMA"),
        Remedy::Source("ALTER TABLE item_high REPLICA IDENTITY DEFAULT"),
    ),
    partition(
        "`REPLICA IDENTITY FULL`",
        &["ALTER TABLE item_high REPLICA IDENTITY FULL"],
        Followed,
        Remedy::None,
    ),
];
