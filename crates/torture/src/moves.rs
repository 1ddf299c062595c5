//! The moves: what an application, its owner, and somebody who meddles do. Each is a list of
//! statements, made of chance alone; a database may refuse any of them.

use crate::console::Dialect;
use crate::table::{KEYS, Table, bounds, leaf, qualified};
use crate::value::{kind, literal};
use rand::Rng;
use rand::rngs::StdRng;
use std::time::Duration;

/// One thing to do at a console, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    /// Run it.
    Sql(String),
    /// Let some time pass.
    Wait(Duration),
}

fn sql(text: impl Into<String>) -> Step {
    Step::Sql(text.into())
}

/// A span that capture may or may not look into.
fn moment(random: &mut StdRng) -> Step {
    Step::Wait(Duration::from_millis(random.random_range(0..4000)))
}

/// One transaction of the application; `None` while it has no table.
pub(crate) fn transaction(
    dialect: Dialect,
    tables: &[Table],
    moods: &[String],
    random: &mut StdRng,
) -> Option<String> {
    if tables.is_empty() {
        return None;
    }
    let mut all = vec!["BEGIN".to_string()];
    for _ in 0..random.random_range(1..6) {
        let table = &tables[random.random_range(0..tables.len())];
        let statement = write(dialect, table, moods, random);
        if random.random_range(0..10) == 0 {
            all.extend(["SAVEPOINT s".into(), statement, "ROLLBACK TO SAVEPOINT s".into()]);
        } else {
            all.push(statement);
        }
    }
    let end = if random.random_range(0..12) == 0 { "ROLLBACK" } else { "COMMIT" };
    all.push(end.into());
    Some(all.join("; "))
}

fn write(dialect: Dialect, table: &Table, moods: &[String], random: &mut StdRng) -> String {
    let name = table.sql(dialect);
    let first = random.random_range(0..KEYS);
    let span = if random.random_range(0..15) == 0 { 120 } else { random.random_range(1..6) };
    let range = format!("id BETWEEN {first} AND {}", first + span - 1);
    match random.random_range(0..100) {
        0 if dialect == Dialect::Postgres => format!("TRUNCATE {name}"),
        0..18 => format!("DELETE FROM {name} WHERE {range}"),
        18..24 => {
            // A move of keys, there and back, since most of them meet a row otherwise.
            let far = if random.random() { 10_000 } else { -10_000 };
            format!("UPDATE {name} SET id = id + {far} WHERE {range} OR id - {far} IN ({first})")
        }
        24..60 => match table.plain().as_slice() {
            [] => format!("DELETE FROM {name} WHERE {range}"),
            columns => {
                let column = columns[random.random_range(0..columns.len())];
                let value = literal(&column.kind, moods, random);
                format!("UPDATE {name} SET {} = {value} WHERE {range}", column.name)
            }
        },
        _ => insert(&name, table, first, span, moods, random),
    }
}

fn insert(
    name: &str,
    table: &Table,
    first: u32,
    span: u32,
    moods: &[String],
    random: &mut StdRng,
) -> String {
    let columns = table.plain();
    let names: Vec<_> = columns.iter().map(|c| format!(", {}", c.name)).collect();
    let rows: Vec<_> = (first..first + span)
        .map(|id| {
            let values = columns.iter().map(|c| format!(", {}", literal(&c.kind, moods, random)));
            format!("({id}{})", values.collect::<String>())
        })
        .collect();
    let sets: Vec<_> = columns.iter().map(|c| format!("{0} = excluded.{0}", c.name)).collect();
    let conflict = match sets.is_empty() || random.random() {
        true => "NOTHING".into(),
        false => format!("UPDATE SET {}", sets.join(", ")),
    };
    format!(
        "INSERT INTO {name} (id{}) VALUES {} ON CONFLICT (id) DO {conflict}",
        names.concat(),
        rows.join(", ")
    )
}

/// What the owner of a table does to it, or to what it depends on.
pub(crate) fn alteration(
    dialect: Dialect,
    table: &Table,
    moods: &mut Vec<String>,
    random: &mut StdRng,
) -> Vec<Step> {
    match dialect {
        Dialect::Postgres if !table.leaves.is_empty() && random.random() => {
            partition(table, random)
        }
        Dialect::Postgres if random.random_range(0..3) == 0 => postgres(table, moods, random),
        Dialect::Postgres | Dialect::Sqlite => any(dialect, table, random),
    }
}

/// What both products can.
fn any(dialect: Dialect, table: &Table, random: &mut StdRng) -> Vec<Step> {
    let name = table.sql(dialect);
    let fresh = format!("c{}", random.random_range(10..99));
    let alter = |what: String| vec![sql(format!("ALTER TABLE {name} {what}"))];
    let plain = table.plain();
    let some = plain.get(random.random_range(0..plain.len().max(1))).map(|c| c.name.clone());
    match (random.random_range(0..7), some) {
        (0, Some(column)) if plain.len() > 1 => alter(format!("DROP COLUMN {column}")),
        (1, Some(column)) => alter(format!("RENAME COLUMN {column} TO {fresh}")),
        (2, Some(column)) => {
            let there = format!("ALTER TABLE {name} RENAME COLUMN {column} TO {fresh}");
            let back = format!("ALTER TABLE {name} RENAME COLUMN {fresh} TO {column}");
            vec![sql(there), moment(random), sql(back)]
        }
        (3, _) => {
            let there = format!("ALTER TABLE {name} RENAME TO {}_away", table.name);
            let away = qualified(dialect, &format!("{}_away", table.name));
            let back = format!("ALTER TABLE {away} RENAME TO {}", table.name);
            vec![sql(there), moment(random), sql(back)]
        }
        (4, _) => {
            let made = format!("CREATE TABLE {name} (id integer PRIMARY KEY, c0 text)");
            vec![sql(format!("BEGIN; DROP TABLE {name}; {made}; COMMIT"))]
        }
        _ => alter(format!("ADD COLUMN {fresh} {}", kind(dialect, random))),
    }
}

fn postgres(table: &Table, moods: &mut Vec<String>, random: &mut StdRng) -> Vec<Step> {
    let name = table.sql(Dialect::Postgres);
    let fresh = format!("c{}", random.random_range(10..99));
    let numbers: Vec<_> = table.plain().into_iter().filter(|c| c.kind == "integer").collect();
    match (random.random_range(0..9), numbers.first()) {
        (0, Some(column)) => {
            let alter = format!("ALTER TABLE {name} ALTER COLUMN {} TYPE", column.name);
            let back = format!("{alter} integer USING length({}::text)", column.name);
            vec![sql(format!("{alter} text")), moment(random), sql(back)]
        }
        (1, Some(column)) => {
            vec![sql(format!("ALTER TABLE {name} ALTER COLUMN {} TYPE bigint", column.name))]
        }
        (2, _) => vec![sql(format!(
            "ALTER TABLE {name} ADD COLUMN {fresh} uuid NOT NULL DEFAULT gen_random_uuid()"
        ))],
        (3, _) => vec![sql(format!("VACUUM FULL {name}"))],
        (4, _) => {
            let new = format!("mood {}", moods.len());
            moods.push(new.clone());
            vec![sql(format!("ALTER TYPE public.torture_mood ADD VALUE '{new}'"))]
        }
        (5, _) => {
            let full = format!("ALTER TABLE {name} REPLICA IDENTITY FULL");
            let back = format!("ALTER TABLE {name} REPLICA IDENTITY DEFAULT");
            vec![sql(full), moment(random), sql(back)]
        }
        (6, _) => {
            let drop = format!("ALTER TABLE {name} DROP CONSTRAINT {}_pkey", table.name);
            let back = format!("ALTER TABLE {name} ADD PRIMARY KEY (id)");
            vec![sql(format!("BEGIN; {drop}; {back}; COMMIT"))]
        }
        (7, _) => vec![sql(format!(
            "ALTER TABLE {name} ADD COLUMN {fresh} integer GENERATED ALWAYS AS (id + 1) STORED"
        ))],
        _ => vec![sql(format!("ALTER TABLE {name} ADD COLUMN {fresh} text DEFAULT 'added'"))],
    }
}

fn partition(table: &Table, random: &mut StdRng) -> Vec<Step> {
    let (name, number) = (&table.name, random.random_range(0..table.leaves.len() as u32));
    let (root, part) = (format!("public.{name}"), format!("public.{name}_p{number}"));
    let attach = format!("ALTER TABLE {root} ATTACH PARTITION {part} {}", bounds(number));
    let detach = format!("ALTER TABLE {root} DETACH PARTITION {part}");
    match random.random_range(0..6) {
        0 => vec![sql(format!("TRUNCATE {part}"))],
        1 => vec![sql(detach), moment(random), sql(attach)],
        2 => vec![sql(format!("BEGIN; DROP TABLE {part}; {}; COMMIT", leaf(name, number)))],
        3 => vec![sql(format!("VACUUM FULL {part}"))],
        4 => {
            let change = format!("DELETE FROM {part} WHERE id % 3 = 0");
            vec![sql(detach), sql(change), moment(random), sql(attach)]
        }
        _ => {
            let identity = format!("ALTER TABLE {part} REPLICA IDENTITY");
            vec![
                sql(format!("{identity} FULL")),
                moment(random),
                sql(format!("{identity} DEFAULT")),
            ]
        }
    }
}

/// What an administrator does to what Rowcast made at the source.
pub(crate) fn publication(table: &Table, service: &str, random: &mut StdRng) -> Vec<Step> {
    let (name, root) = (format!("rowcast_{service}"), table.sql(Dialect::Postgres));
    let alter = |what: &str| sql(format!("ALTER PUBLICATION {name} {what}"));
    match random.random_range(0..6) {
        0 => vec![
            alter("SET (publish = 'insert')"),
            moment(random),
            alter("SET (publish = 'insert, update, delete, truncate')"),
        ],
        1 => vec![
            alter(&format!("DROP TABLE {root}")),
            moment(random),
            alter(&format!("ADD TABLE {root}")),
        ],
        2 => vec![
            alter("RENAME TO torture_away"),
            moment(random),
            sql(format!("ALTER PUBLICATION torture_away RENAME TO {name}")),
        ],
        3 => vec![alter("SET (publish_via_partition_root = false)")],
        4 => vec![alter("SET (publish = 'insert, update')")],
        _ => vec![alter(&format!("DROP TABLE {root}"))],
    }
}

/// What somebody does to a copy, or to the sessions that write it.
pub(crate) fn meddling(dialect: Dialect, table: &Table, random: &mut StdRng) -> Vec<Step> {
    let (plain, copy) = (table.copy(), qualified(dialect, &table.copy()));
    let away = qualified(dialect, &format!("{plain}_away"));
    let there = format!("ALTER TABLE {copy} RENAME TO {plain}_away");
    match (random.random_range(0..8), dialect) {
        (0, _) => vec![sql(format!("DROP TABLE {copy}"))],
        (1, Dialect::Postgres) => vec![sql(format!("TRUNCATE {copy}"))],
        (2, _) => vec![
            sql(there),
            moment(random),
            // Rowcast may have made another one meanwhile.
            sql(format!("DROP TABLE IF EXISTS {copy}")),
            sql(format!("ALTER TABLE {away} RENAME TO {plain}")),
        ],
        (3 | 4, Dialect::Postgres) => vec![
            sql(format!("BEGIN; LOCK TABLE {copy} IN ACCESS EXCLUSIVE MODE")),
            moment(random),
            sql("ROLLBACK"),
        ],
        (5, Dialect::Postgres) => {
            let check = format!("ALTER TABLE {copy} ADD CONSTRAINT torture CHECK (id % 50 <> 13)");
            vec![
                sql(format!("{check} NOT VALID")),
                moment(random),
                sql(format!("ALTER TABLE {copy} DROP CONSTRAINT IF EXISTS torture")),
            ]
        }
        (_, Dialect::Postgres) => vec![cut_off()],
        (_, Dialect::Sqlite) => vec![sql("BEGIN IMMEDIATE"), moment(random), sql("ROLLBACK")],
    }
}

/// Ends every session of Rowcast's in a database.
pub(crate) fn cut_off() -> Step {
    sql(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() \
         AND application_name LIKE 'rowcast%' AND pid <> pg_backend_pid()",
    )
}
