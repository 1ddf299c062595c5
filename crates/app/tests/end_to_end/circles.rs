//! Rows that refer to each other: where they fit only together, they are tried together.

use super::side::{Kind, LONG, Pair};

const SUBSCRIBE: &str =
    "[service.order.subscribe.\"shop.a\"]\n[service.order.subscribe.\"shop.b\"]";
const TABLES: &str = "CREATE TABLE a (id BIGINT PRIMARY KEY, b BIGINT NOT NULL, n BIGINT); \
                      CREATE TABLE b (id BIGINT PRIMARY KEY, a BIGINT NOT NULL, own BIGINT)";
const A: &str = "SELECT id, b, n FROM a ORDER BY id";
const B: &str = "SELECT id, a, own FROM b ORDER BY id";

/// The copies' references, looked at by the commit or by each statement.
fn references(rule: &str) -> String {
    format!(
        "ALTER TABLE a ADD FOREIGN KEY (b) REFERENCES b{rule}; \
         ALTER TABLE b ADD FOREIGN KEY (a) REFERENCES a{rule}"
    )
}

const RULES: [&str; 3] = ["", " DEFERRABLE INITIALLY DEFERRED", " DEFERRABLE"];

async fn circle(from: Kind, publish: &str, rule: &str) -> Pair {
    let pair = Pair::new(from, Kind::Postgres, publish, SUBSCRIBE).await;
    pair.from.sql(TABLES).await;
    pair.to.sql(&format!("{TABLES}; {}", references(rule))).await;
    pair
}

/// Rows `from` to `to` of both tables, each pair a circle.
fn rows(from: u32, to: u32) -> String {
    let values = |n: u32| format!("({n}, {n}, 0)");
    let values = (from..=to).map(values).collect::<Vec<_>>().join(", ");
    format!("INSERT INTO a VALUES {values}; INSERT INTO b VALUES {values}")
}

async fn parked(pair: &Pair) -> String {
    pair.to.value("SELECT count(*) FROM rowcast.parked").await
}

#[tokio::test]
async fn a_first_copy_of_a_circle_parks_nothing() {
    let either = [
        "[service.shop.publish.a]\n[service.shop.publish.b]",
        "[service.shop.publish.b]\n[service.shop.publish.a]",
    ];
    for (i, rule) in RULES.into_iter().enumerate() {
        for from in [Kind::Postgres, Kind::Sqlite] {
            let pair = circle(from, either[i % 2], rule).await;
            pair.from.sql(&rows(1, 40)).await;
            pair.catch_up().await;
            pair.same(A, A).await;
            pair.same(B, B).await;
            assert_eq!(parked(&pair).await, "0", "{rule}");
        }
    }
}

/// As they come, and after they waited for something of the subscriber's own; one that still lacks what
/// it refers to keeps nobody else from fitting.
#[tokio::test]
async fn a_circle_heals_together_and_without_those_that_lack_something() {
    let publish = "[service.shop.publish.a]\n[service.shop.publish.b]";
    for rule in RULES {
        let pair = circle(Kind::Postgres, publish, rule).await;
        let own = "CREATE TABLE own (id bigint PRIMARY KEY); INSERT INTO own VALUES (0)";
        pair.to
            .sql(&format!("{own}; ALTER TABLE b ADD FOREIGN KEY (own) REFERENCES own{rule}"))
            .await;
        pair.catch_up().await;
        let running = pair.rowcast.start(&["run"]);
        pair.live().await;
        pair.from.sql(&rows(1, 2)).await;
        pair.until_same(B, B).await;
        pair.same(A, A).await;
        pair.to.until("SELECT count(*) FROM rowcast.parked", "0").await;
        let lacking = "INSERT INTO a VALUES (8, 8, 0), (9, 9, 0); \
                       INSERT INTO b VALUES (8, 8, 7), (9, 9, 6)";
        pair.from.sql(lacking).await;
        pair.from.sql(&rows(3, 3)).await;
        pair.to.until("SELECT string_agg(id::text, ',' ORDER BY id) FROM a", "1,2,3").await;
        pair.to.until("SELECT count(*) FROM rowcast.parked", "4").await;
        pair.to.sql("INSERT INTO own VALUES (7)").await;
        let route = format!("{}:order", pair.service);
        let retry = ["parked", "retry", route.as_str(), "--all"];
        assert_eq!(pair.rowcast.run(LONG, &retry).await.code(), Some(1));
        let fits = "SELECT string_agg(id::text, ',' ORDER BY id) FROM b";
        assert_eq!(pair.to.value(fits).await, "1,2,3,8", "{rule}");
        pair.to.sql("INSERT INTO own VALUES (6)").await;
        pair.rowcast.run(LONG, &retry).await.good();
        pair.same(A, A).await;
        pair.same(B, B).await;
        assert_eq!(parked(&pair).await, "0", "{rule}");
        running.terminate(LONG).await.good();
    }
}
