//! Writers in other processes: the `sqlite3` shell, with every way of pushing a row out.

use crate::file::File;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use rowcast_testkit::source_suite::{Capture, SourceHarness};
use std::process::Command;

/// Runs a script in the `sqlite3` shell; statements that break a rule are part of the game.
fn shell(file: &File, script: &str) {
    let out = Command::new("sqlite3").arg(file.path()).arg(".timeout 300000").arg(script).output();
    let out = out.expect("the sqlite3 shell is installed");
    let errors = String::from_utf8_lossy(&out.stderr);
    assert!(errors.is_empty() || errors.contains("constraint failed"), "{errors}");
}

async fn capture<'a>(file: &'a File, tables: &[&str]) -> Capture<'a> {
    let mut capture = Capture::begin(file, tables, 1 << 20).await;
    capture.catch_up().await;
    capture
}

async fn caught_up(capture: &mut Capture<'_>, table: &str) {
    capture.catch_up().await;
    capture.assert_same(table).await;
}

const CARD: &str = "CREATE TABLE card (id INTEGER PRIMARY KEY, code TEXT UNIQUE COLLATE NOCASE, \
    slot INTEGER, note TEXT NOT NULL DEFAULT 'none'); \
    CREATE UNIQUE INDEX card_slot ON card (slot) WHERE note <> 'loose'; \
    CREATE UNIQUE INDEX card_note ON card (note, slot); \
    INSERT INTO card VALUES (1, 'a', 1, 'x'), (2, 'b', 2, 'x'), (3, 'c', 3, 'y'), (4, 'd', 4, 'z');";

#[tokio::test]
async fn rows_that_another_process_pushes_out_are_deleted() {
    for pragma in ["PRAGMA recursive_triggers = off;", "PRAGMA recursive_triggers = on;"] {
        for statement in [
            "INSERT OR REPLACE INTO card VALUES (9, 'A', 2, 'x')",
            "INSERT OR REPLACE INTO card VALUES (1, 'b', 3, 'z')",
            "INSERT OR REPLACE INTO card (code, slot) VALUES ('B', 4)",
            "REPLACE INTO card VALUES (2, 'c', 9, 'q'), (3, 'c', 1, 'q')",
            "INSERT OR IGNORE INTO card VALUES (9, 'A', 9, 'x')",
            "INSERT OR ABORT INTO card VALUES (9, 'A', 9, 'x')",
            "INSERT OR FAIL INTO card VALUES (8, 'n', 9, 'x'), (9, 'A', 10, 'x')",
            "INSERT INTO card VALUES (9, 'A', 9, 'x') ON CONFLICT (code) DO UPDATE SET slot = 9",
            "INSERT INTO card VALUES (1, 'q', 9, 'x') ON CONFLICT (id) DO UPDATE SET code = 'qq'",
            "INSERT INTO card VALUES (1, 'b', 9, 'x') ON CONFLICT DO NOTHING",
            "UPDATE OR REPLACE card SET code = 'C' WHERE id = 1",
            "UPDATE OR REPLACE card SET id = 3, slot = 4 WHERE id = 1",
            "UPDATE OR REPLACE card SET code = upper(code), id = id + 1",
            "UPDATE OR IGNORE card SET code = 'c'",
            "UPDATE OR REPLACE card SET note = 'x', slot = 1",
            "UPDATE OR REPLACE card SET rowid = rowid + 2",
            "BEGIN; REPLACE INTO card VALUES (7, 'a', 7, 'x'); \
             INSERT INTO card VALUES (1, 'back', 1, 'x'); COMMIT",
            "BEGIN; REPLACE INTO card VALUES (7, 'a', 7, 'x'); ROLLBACK",
            "BEGIN; REPLACE INTO card VALUES (7, 'a', 7, 'x'); DELETE FROM card WHERE id < 3; COMMIT",
            "DELETE FROM card",
        ] {
            let file = File::new();
            file.connect().execute_batch(CARD).unwrap();
            let mut capture = capture(&file, &["card"]).await;
            shell(&file, &format!("{pragma} {statement};"));
            capture.catch_up().await;
            let rows = SourceHarness::rows(&file, "card", &["id", "code", "slot", "note"]).await;
            let mut copy = capture.copies.visible("card");
            copy.sort();
            let mut rows = rows;
            rows.sort();
            assert_eq!(copy, rows, "after {pragma} {statement}");
        }
    }
}

#[tokio::test]
async fn tables_whose_rules_replace_by_themselves_are_followed() {
    let file = File::new();
    let tables = "CREATE TABLE pin (a TEXT COLLATE NOCASE, b TEXT, \
                  c INTEGER NOT NULL ON CONFLICT REPLACE DEFAULT 5, v, \
                  PRIMARY KEY (a, b) ON CONFLICT REPLACE, UNIQUE (c) ON CONFLICT REPLACE) \
                  WITHOUT ROWID; \
                  INSERT INTO pin VALUES ('x', 'y', 1, 1), ('x', 'z', 5, 2), ('w', 'y', 3, x'00');";
    file.connect().execute_batch(tables).unwrap();
    let mut capture = capture(&file, &["pin"]).await;
    for statement in [
        "INSERT INTO pin VALUES ('X', 'y', 9, 1.0)",
        "INSERT INTO pin (a, b, c) VALUES ('new', 'row', NULL)",
        "UPDATE pin SET c = 3 WHERE a = 'new'",
        "UPDATE pin SET a = upper(a)",
    ] {
        shell(&file, statement);
        caught_up(&mut capture, "pin").await;
    }
}

#[tokio::test]
async fn random_replacements_end_in_the_same_rows() {
    let file = File::new();
    file.connect().execute_batch(CARD).unwrap();
    let mut capture = capture(&file, &["card"]).await;
    let mut random = StdRng::seed_from_u64(5);
    for _ in 0..60 {
        let mut script = String::from("BEGIN;");
        for _ in 0..random.random_range(1..12) {
            let [id, slot] = [0; 2].map(|_| random.random_range(0..12));
            let code = ['a', 'B', 'c', 'D', 'e', 'F'][random.random_range(0..6)];
            let note = ["x", "y", "loose"][random.random_range(0..3)];
            script += &match random.random_range(0..5) {
                0 => format!("REPLACE INTO card VALUES ({id}, '{code}', {slot}, '{note}');"),
                1 => format!("REPLACE INTO card (code, slot) VALUES ('{code}', {slot});"),
                2 => format!("UPDATE OR REPLACE card SET slot = {slot} WHERE id = {id};"),
                3 => format!(
                    "UPDATE OR REPLACE card SET code = '{code}', note = '{note}', \
                              id = id + 1 WHERE slot > {slot};"
                ),
                _ => format!("DELETE FROM card WHERE id = {id};"),
            };
        }
        shell(&file, &(script + "COMMIT;"));
        if random.random_bool(0.7) {
            caught_up(&mut capture, "card").await;
        }
        if random.random_bool(0.2) {
            let n = capture.batches.len();
            capture = capture.restart_after(n).await;
        }
    }
    caught_up(&mut capture, "card").await;
}

#[tokio::test]
async fn what_was_written_while_nobody_captured_arrives() {
    let file = File::new();
    file.connect().execute_batch(CARD).unwrap();
    let capture = capture(&file, &["card"]).await;
    let stopped = capture.stop();
    let n = stopped.batches.len();
    shell(&file, "DELETE FROM card WHERE id = 1; REPLACE INTO card VALUES (9, 'b', 9, 'n');");
    let mut capture = stopped.go_on().await;
    caught_up(&mut capture, "card").await;
    assert!(capture.batches.len() > n);
}

#[tokio::test]
async fn values_keep_their_storage_class_and_every_key_its_order() {
    let file = File::new();
    let tables = "CREATE TABLE free (k, v, PRIMARY KEY (k)); \
        INSERT INTO free VALUES (2, 1), (1.5, 2.0), ('1', '1'), (x'31', x'00ff'), ('a', NULL), \
        (NULL, 'no key'), (-9e300, 9223372036854775807), ('', ''), (x'ee', 'ü'); \
        CREATE TABLE fold (k TEXT COLLATE NOCASE, n INTEGER, PRIMARY KEY (k COLLATE BINARY)); \
        INSERT INTO fold VALUES ('a', 1), ('A', 2), ('b', 3), ('B', 4), ('ab', 5);";
    file.connect().execute_batch(tables).unwrap();
    // So small a budget that every row is a chunk of its own.
    let mut capture = Capture::begin(&file, &["free", "fold"], 1).await;
    capture.catch_up().await;
    let published = file.select("SELECT k, v FROM free WHERE k IS NOT NULL");
    let sorted = |mut rows: Vec<Vec<_>>| {
        rows.sort();
        rows
    };
    assert_eq!(sorted(capture.copies.visible("free")), sorted(published));
    capture.assert_same("fold").await;
    // A row without a key is none; it becomes one with its key, and goes with it.
    shell(
        &file,
        "UPDATE free SET k = 'now' WHERE k IS NULL; UPDATE free SET k = NULL WHERE k = 2;",
    );
    shell(&file, "UPDATE fold SET k = 'AB' WHERE n = 5; DELETE FROM fold WHERE k = 'A' AND n = 2;");
    capture.catch_up().await;
    let published = file.select("SELECT k, v FROM free WHERE k IS NOT NULL");
    assert_eq!(sorted(capture.copies.visible("free")), sorted(published));
    capture.assert_same("fold").await;
}
