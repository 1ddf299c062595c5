//! What has an end: a disk, and how many tables one person can count.

use super::side::{Kind, LONG, Pair};
use rowcast_testkit::process::Rowcast;
use std::fmt::Write;
use std::process::Command;

/// Bytes that any file of the limited process may have.
const FILE_MAX: u64 = 1 << 20;

/// A log that cannot grow is what a full disk is to it: the same refused write. Limiting the
/// process needs no privilege, and can be taken back while it runs.
#[tokio::test]
async fn a_full_disk_stops_capture_with_a_word_and_room_lets_it_go_on_by_itself() {
    let (publish, subscribe) =
        ("[service.shop.publish.item]", "[service.order.subscribe.\"shop.item\"]");
    let pair = Pair::new(Kind::Postgres, Kind::Postgres, publish, subscribe).await;
    pair.from.sql("CREATE TABLE item (id INT PRIMARY KEY, name TEXT)").await;
    let config = std::fs::read_to_string(pair.rowcast.path("rowcast.toml")).unwrap();
    let limited = Rowcast::new("/bin/sh", &config);
    let blocks = FILE_MAX / 512;
    let line = format!(
        "trap '' XFSZ; ulimit -S -f {blocks}; exec '{}' run",
        env!("CARGO_BIN_EXE_rowcast")
    );
    let mut running = limited.start(&["-c", &line]);
    running.says(LONG, "answering on").await;
    for i in 0..40 {
        pair.from
            .sql(&format!(
                "INSERT INTO item SELECT {i} * 1000 + n, repeat('x', 100) \
                 FROM generate_series(1, 1000) n"
            ))
            .await;
    }
    running.says(LONG, "cannot be written").await;
    running.says(LONG, "free some space").await;
    assert!(running.is_running(), "{}", running.stderr());
    let lift = Command::new("prlimit")
        .args(["--pid", &running.id().to_string(), "--fsize=unlimited"])
        .status();
    assert!(lift.expect("prlimit, of util-linux").success());
    pair.to.until("SELECT count(*) FROM item", "40000").await;
    let all = "SELECT md5(string_agg(item::text, ',' ORDER BY id)) FROM item";
    pair.same(all, all).await;
    running.terminate(LONG).await.good();
}

#[tokio::test]
async fn two_thousand_tables_are_one_route() {
    const TABLES: usize = 2_000;
    let (mut publish, mut subscribe, mut create, mut change) =
        (String::new(), String::new(), String::new(), String::new());
    for i in 0..TABLES {
        writeln!(publish, "[service.shop.publish.t{i}]").unwrap();
        writeln!(subscribe, "[service.order.subscribe.\"shop.t{i}\"]").unwrap();
        write!(create, "CREATE TABLE t{i} (id INT PRIMARY KEY, v TEXT);").unwrap();
        write!(create, "INSERT INTO t{i} VALUES (1, 'one'), ({i} + 2, 'more');").unwrap();
        write!(change, "UPDATE t{i} SET v = 'changed' WHERE id = 1;").unwrap();
    }
    let pair = Pair::new(Kind::Sqlite, Kind::Sqlite, &publish, &subscribe).await;
    pair.from.sql(&create).await;
    pair.catch_up().await;
    pair.from.sql(&change).await;
    pair.catch_up().await;
    let changed: String = (0..TABLES)
        .map(|i| {
            format!(
                "SELECT v FROM t{i} WHERE id = 1 UNION ALL SELECT v FROM t{i} WHERE id = {i} + 2"
            )
        })
        .collect::<Vec<_>>()
        .chunks(200)
        .map(|some| format!("{}\n", some.join(" UNION ALL ")))
        .collect();
    for query in changed.lines() {
        pair.same(query, query).await;
    }
}
