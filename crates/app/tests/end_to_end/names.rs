//! Names with quotes, dots, spaces, upper case and emoji, in every combination of databases.

use super::side::{Kind, Pair};

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
