//! P9 nobody reads what they were not granted: what lies in the data directory is its owner's alone.
//! And nothing vanishes from it in silence.

use super::side::LONG;
use rowcast_testkit::process::Rowcast;
use rusqlite::Connection;
use std::fs::{Permissions, set_permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

const SERVICES: &str = r#"
[server]
listen = "127.0.0.1:0"
[service.shop]
database = "sqlite:shop.db"
[service.shop.publish.item]
[service.order]
database = "sqlite:order.db"
[service.order.subscribe."shop.item"]
"#;

/// A configuration of two SQLite services, the first with rows, run by `program`.
fn services(program: &Path) -> Rowcast {
    let rowcast = Rowcast::new(program, SERVICES);
    let shop = Connection::open(rowcast.path("shop.db")).unwrap();
    shop.execute_batch(
        "CREATE TABLE item (id INTEGER PRIMARY KEY, name TEXT);
         INSERT INTO item VALUES (1, 'a'), (2, 'b')",
    )
    .unwrap();
    Connection::open(rowcast.path("order.db"))
        .unwrap()
        .execute_batch("CREATE TABLE o (x)")
        .unwrap();
    rowcast
}

/// Everything below `dir` that others have a right on, itself included.
fn open_to_others(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mode = std::fs::symlink_metadata(dir).unwrap().permissions().mode();
    if mode & 0o077 != 0 {
        found.push(dir.to_path_buf());
    }
    if dir.is_dir() {
        for entry in std::fs::read_dir(dir).unwrap() {
            found.extend(open_to_others(&entry.unwrap().path()));
        }
    }
    found
}

#[tokio::test]
async fn what_lies_in_the_data_directory_is_its_owners_whatever_was_there() {
    let room = tempfile::tempdir().unwrap();
    let careless = room.path().join("rowcast");
    let script = format!("#!/bin/sh\numask 0\nexec {} \"$@\"\n", env!("CARGO_BIN_EXE_rowcast"));
    std::fs::write(&careless, script).unwrap();
    set_permissions(&careless, Permissions::from_mode(0o755)).unwrap();
    let rowcast = services(&careless);
    let data = rowcast.path("rowcast-data");
    std::fs::create_dir(&data).unwrap();
    set_permissions(&data, Permissions::from_mode(0o755)).unwrap();

    let mut running = rowcast.start(&["run"]);
    running.says(LONG, "route shop:order: live").await;
    assert_eq!(open_to_others(&data), [] as [PathBuf; 0], "made under umask 0");
    running.terminate(LONG).await.good();

    // As an earlier version left it.
    let log = std::fs::read_dir(data.join("log/shop")).unwrap().map(|e| e.unwrap().path());
    for path in log.chain([data.join("log/shop"), data.join("log"), data.join("registry.db")]) {
        set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
    }
    set_permissions(&data, Permissions::from_mode(0o777)).unwrap();
    rowcast.run(LONG, &["run", "--until-caught-up"]).await.good();
    assert_eq!(open_to_others(&data), [] as [PathBuf; 0], "closed at the next start");
}

#[tokio::test]
async fn a_data_directory_that_holds_more_than_ours_stays_open_and_what_is_ours_is_closed() {
    let rowcast = services(Path::new(env!("CARGO_BIN_EXE_rowcast")));
    rowcast.configure(&format!("data = \".\"\n{SERVICES}"));
    set_permissions(rowcast.dir(), Permissions::from_mode(0o755)).unwrap();
    rowcast.run(LONG, &["run", "--until-caught-up"]).await.good();
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(rowcast.dir()), 0o755, "its databases are others' business too");
    assert_eq!(mode(&rowcast.path("log/shop")), 0o700);
    assert_eq!(mode(&rowcast.path("registry.db")), 0o600);
    assert_ne!(mode(&rowcast.path("shop.db")) & 0o044, 0, "a publisher's file keeps its mode");
}

#[tokio::test]
async fn a_registry_that_is_gone_stops_the_start_until_a_person_says_so() {
    let rowcast = services(Path::new(env!("CARGO_BIN_EXE_rowcast")));
    rowcast.run(LONG, &["run", "--until-caught-up"]).await.good();
    let registry = rowcast.path("rowcast-data/registry.db");
    for file in ["registry.db", "registry.db-wal", "registry.db-shm"] {
        let _ = std::fs::remove_file(rowcast.path("rowcast-data").join(file));
    }
    let refused = rowcast.run(LONG, &["run", "--until-caught-up"]).await;
    assert_eq!(refused.code(), Some(1), "{}", refused.said());
    for part in ["[REGISTRY]", "registry.db is gone", "touch rowcast-data/registry.db"] {
        assert!(refused.stderr.contains(part), "{part} in {}", refused.said());
    }
    assert!(!registry.exists(), "nothing was made in its place");
    std::fs::write(&registry, "").unwrap();
    rowcast.run(LONG, &["run", "--until-caught-up"]).await.good();
    assert_eq!(open_to_others(&rowcast.path("rowcast-data")), [] as [PathBuf; 0]);
}

#[tokio::test]
async fn a_data_directory_that_is_removed_ends_the_run() {
    let rowcast = services(Path::new(env!("CARGO_BIN_EXE_rowcast")));
    let mut running = rowcast.start(&["run"]);
    running.says(LONG, "route shop:order: live").await;
    std::fs::remove_dir_all(rowcast.path("rowcast-data")).unwrap();
    let ended = running.wait(LONG).await;
    assert_eq!(ended.code(), Some(1), "{}", ended.said());
    for part in ["[LOG-FAILED]", "was removed or moved away", "--resnapshot"] {
        assert!(ended.stderr.contains(part), "{part} in {}", ended.said());
    }
}

#[tokio::test]
async fn a_service_that_the_file_no_longer_names_is_told_of_with_what_it_left_behind() {
    let rowcast = services(Path::new(env!("CARGO_BIN_EXE_rowcast")));
    let mut running = rowcast.start(&["run"]);
    running.says(LONG, "route shop:order: live").await;
    let (head, _) = SERVICES.split_once("[service.shop]").unwrap();
    rowcast.configure(&format!("{head}[service.order]\ndatabase = \"sqlite:order.db\"\n"));
    rowcast.run(LONG, &["reload"]).await.good();
    running.says(LONG, "shop publishes nothing any more").await;
    running.terminate(LONG).await.good();
    let mut running = rowcast.start(&["run"]);
    running.says(LONG, "shop was captured before, and the file no longer names it").await;
    running.terminate(LONG).await.good();
}
