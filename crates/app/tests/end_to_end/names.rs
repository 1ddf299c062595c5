//! Names with quotes, dots, spaces, upper case and emoji, in every combination of databases.

use super::side::{Kind, LONG, Pair};

async fn odd_names_arrive(from: Kind, to: Kind) {
    let publish = "[service.shop.publish.\"Odd. Entity 🎉\"]\ntable = '\"Od\"\"d. Täble 🎉\"'";
    let subscribe = "[service.order.subscribe.\"shop.Odd. Entity 🎉\"]\ninto = '\"Co\"\"py. 🎉\"'\n\
         fields = { \"Id 🎉\" = \"I\\\"d\", \"no. te\" = \"No. te\" }";
    let pair = Pair::new(from, to, publish, subscribe).await;
    let table = "CREATE TABLE \"Od\"\"d. Täble 🎉\" (\"I\"\"d\" INT PRIMARY KEY, \"No. te\" TEXT)";
    pair.from.sql(table).await;
    pair.from.sql("INSERT INTO \"Od\"\"d. Täble 🎉\" VALUES (1, 'a'), (2, NULL)").await;
    pair.catch_up().await;
    pair.from.sql("UPDATE \"Od\"\"d. Täble 🎉\" SET \"No. te\" = 'b' WHERE \"I\"\"d\" = 2").await;
    pair.from.sql("DELETE FROM \"Od\"\"d. Täble 🎉\" WHERE \"I\"\"d\" = 1").await;
    pair.catch_up().await;
    let from = "SELECT \"I\"\"d\", \"No. te\" FROM \"Od\"\"d. Täble 🎉\"";
    pair.same(from, "SELECT \"Id 🎉\", \"no. te\" FROM \"Co\"\"py. 🎉\"").await;
}

#[tokio::test]
async fn odd_names_arrive_in_every_combination() {
    for from in [Kind::Postgres, Kind::Sqlite] {
        for to in [Kind::Postgres, Kind::Sqlite] {
            odd_names_arrive(from, to).await;
        }
    }
}

/// Column names that read like a list of names, or like a part of a statement.
const ODD: [&str; 6] = ["a, b", "x\"y", "p.q", "line\nbreak", "50%", "it's"];

/// A rebuilt copy is swapped in; rows that trade a unique value go the long way.
#[tokio::test]
async fn names_that_read_like_lists_survive_a_rebuild() {
    let publish = "[service.shop.publish.odd]\ntable = '\"t, line 3\"'";
    let subscribe = "[service.order.subscribe.\"shop.odd\"]\ninto = '\"odd, line 3\"'";
    for from in [Kind::Postgres] {
        for to in [Kind::Postgres, Kind::Sqlite] {
            let pair = Pair::new(from, to, publish, subscribe).await;
            let names: Vec<_> =
                ODD.iter().map(|n| format!("\"{}\"", n.replace('"', "\"\""))).collect();
            let columns: Vec<_> = names.iter().map(|n| format!("{n} BIGINT NOT NULL")).collect();
            let table = |name: &str| {
                format!(
                    "CREATE TABLE {name} ({}, u BIGINT UNIQUE, PRIMARY KEY ({}, {}))",
                    columns.join(", "),
                    names[0],
                    names[1]
                )
            };
            pair.from.sql(&table("\"t, line 3\"")).await;
            pair.to.sql(&table("\"odd, line 3\"")).await;
            let row = |i: i32, u: i32| format!("({i}, {i}, {i}, {i}, {i}, {i}, {u})");
            pair.from
                .sql(&format!("INSERT INTO \"t, line 3\" VALUES {}, {}", row(1, 1), row(2, 2)))
                .await;
            pair.catch_up().await;
            pair.rowcast.run(LONG, &["verify"]).await.good();
            // The copy's rows trade their unique values, so a rebuild has to trade them back.
            let trade =
                |a: i32, b: i32| format!("UPDATE \"odd, line 3\" SET u = {a} WHERE u = {b}");
            for statement in [trade(9, 1), trade(1, 2), trade(2, 9)] {
                pair.to.sql(&statement).await;
            }
            let running = pair.rowcast.start(&["run"]);
            pair.live().await;
            let of = format!("{}:order", pair.service);
            pair.rowcast.run(LONG, &["replay", &of, "--wait-live"]).await.good();
            let all = format!("SELECT {}, u FROM \"t, line 3\" ORDER BY u", names.join(", "));
            pair.until_same(&all, &all.replace("t, line 3", "odd, line 3")).await;
            running.terminate(LONG).await.good();
            pair.rowcast.run(LONG, &["verify"]).await.good();
        }
    }
}

/// SQLite has one name for both, PostgreSQL two.
#[tokio::test]
async fn columns_that_differ_in_case_alone_are_refused_by_check_and_run_alike() {
    let publish = "[service.shop.publish.twin]";
    let subscribe = "[service.order.subscribe.\"shop.twin\"]";
    let pair = Pair::new(Kind::Postgres, Kind::Sqlite, publish, subscribe).await;
    pair.from.sql("CREATE TABLE twin (id int PRIMARY KEY, \"Id2\" int, id2 int)").await;
    pair.from.sql("INSERT INTO twin VALUES (1, 2, 3)").await;
    let check = pair.rowcast.run(LONG, &["check"]).await;
    let run = pair.rowcast.run(LONG, &["run", "--until-caught-up"]).await;
    for (ended, text) in [(&check, &check.stdout), (&run, &run.stderr)] {
        assert_eq!(ended.code(), Some(1), "{}", ended.said());
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(
            text.contains("columns \"Id2\" and \"id2\" have the same name"),
            "{}",
            ended.said()
        );
    }
    assert!(run.stderr.contains("SINK-SCHEMA"), "{}", run.said());
    let fields = "fields = { id = \"id\", Id2 = \"Id2\", id2_2 = \"id2\" }";
    pair.configure(publish, &format!("{subscribe}\n{fields}"));
    pair.rowcast.run(LONG, &["check"]).await.good();
    pair.catch_up().await;
    let twins = "SELECT id, \"Id2\", id2 FROM twin";
    pair.same(twins, "SELECT id, \"Id2\", id2_2 FROM twin").await;
}
