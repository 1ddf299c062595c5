//! P9 nobody reads what they were not granted: a masked value is found nowhere but at its publisher,
//! whatever crashes when.

use super::side::{Kind, LONG, Pair};
use rand::Rng;
use rowcast_core::{Kind as Means, Mask, MaskKey, Masks, Value};
use std::path::Path;
use std::time::Duration;

/// Stands in every value that must not leave.
const CLEAR: &str = "geheim";
const SECRET: &str = "a key that nobody guesses";
const TABLE: &str = "CREATE TABLE person (email VARCHAR(80) NOT NULL, realm BIGINT NOT NULL, phone TEXT, \
                     note TEXT, iban TEXT, visits BIGINT, PRIMARY KEY (realm, email))";
const PUBLISH: &str = "mask_key = \"a key that nobody guesses\"\n\
     [service.shop.publish.person]\n\
     mask = { email = \"sha256\", phone = \"redact\", note = \"null\", iban = \"partial\" }";
const SUBSCRIBE: &str = "[service.order.subscribe.\"shop.person\"]\ninto = \"person_copy\"";

fn masked(mask: Mask, clear: &str) -> Option<String> {
    let key = MaskKey::new(SECRET.as_bytes()).unwrap();
    let masks = Masks::new(vec![("f".into(), mask)], Some(key)).unwrap();
    let (masker, mut scratch) = (masks.masker("f", Means::Text).unwrap(), Vec::new());
    match masker.apply(Value::Text(clear.as_bytes()), &mut scratch) {
        Value::Text(t) => Some(String::from_utf8(t.to_vec()).unwrap()),
        _ => None,
    }
}

/// The files under a directory that hold a word.
fn holding(dir: &Path, word: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap().map(Result::unwrap) {
        let path = entry.path();
        if path.is_dir() {
            found.extend(holding(&path, word));
        } else if std::fs::read(&path).unwrap().windows(word.len()).any(|w| w == word.as_bytes()) {
            found.push(path.display().to_string());
        }
    }
    found
}

fn insert(n: u64) -> String {
    format!(
        "INSERT INTO person VALUES ('{CLEAR}{n}@example.org', {}, '+49 {CLEAR} {n}', '{CLEAR}', \
         'DE89{CLEAR}{n}0532', {n})",
        n % 3
    )
}

async fn assert_masked(pair: &Pair) {
    let columns = "email, realm, phone, note, iban, visits";
    let clear = pair.from.sql(&format!("SELECT {columns} FROM person")).await;
    let mut should: Vec<Vec<Option<String>>> = Vec::new();
    for row in clear {
        let mask = |i: usize, mask| row[i].as_deref().and_then(|v| masked(mask, v));
        should.push(vec![
            mask(0, Mask::Sha256),
            row[1].clone(),
            mask(2, Mask::Redact),
            None,
            mask(4, Mask::Partial),
            row[5].clone(),
        ]);
    }
    let mut is = pair.to.sql(&format!("SELECT {columns} FROM person_copy")).await;
    assert!(!should.is_empty());
    should.sort();
    is.sort();
    assert_eq!(is, should);
}

async fn masked_through_crashes(from: Kind, to: Kind) {
    let pair = Pair::new(from, to, PUBLISH, SUBSCRIBE).await;
    pair.from.sql(TABLE).await;
    let first: Vec<_> = (0..300).map(insert).collect();
    pair.from.sql(&first.join("; ")).await;
    for round in 0..6u64 {
        let running = pair.rowcast.start(&["run"]);
        let lives = rand::rng().random_range(30..600);
        for n in 0..5 {
            let (new, old) = (1000 + round * 10 + n, round * 40 + n * 7);
            let moved = format!("'{CLEAR} moved {new}' WHERE email = '{CLEAR}{old}@example.org'");
            let gone = format!("DELETE FROM person WHERE email = '{CLEAR}{}@example.org'", old + 1);
            let sql = format!("{}; UPDATE person SET email = {moved}; {gone}", insert(new));
            pair.from.sql(&sql).await;
            tokio::time::sleep(Duration::from_millis(lives / 5)).await;
        }
        let ended = running.kill_9().await;
        assert_eq!(ended.code(), None, "it ended before it was killed: {}", ended.said());
    }
    pair.catch_up().await;
    assert_masked(&pair).await;
    let data = pair.rowcast.path("rowcast-data");
    assert!(!holding(&data, "person").is_empty(), "the log is not where we look");
    assert_eq!(holding(&data, CLEAR), Vec::<String>::new());
    assert_eq!(holding(&data, SECRET), Vec::<String>::new());
}

#[tokio::test]
async fn a_masked_value_is_nowhere_but_at_its_publisher_postgres_to_sqlite() {
    masked_through_crashes(Kind::Postgres, Kind::Sqlite).await;
}

#[tokio::test]
async fn a_masked_value_is_nowhere_but_at_its_publisher_sqlite_to_postgres() {
    masked_through_crashes(Kind::Sqlite, Kind::Postgres).await;
}

#[tokio::test]
async fn a_masked_value_is_nowhere_but_at_its_publisher_postgres_to_postgres() {
    masked_through_crashes(Kind::Postgres, Kind::Postgres).await;
}

#[tokio::test]
async fn a_mask_that_comes_later_reaches_the_copies_and_goes_again() {
    for (from, to) in [(Kind::Postgres, Kind::Sqlite), (Kind::Sqlite, Kind::Postgres)] {
        let table = "CREATE TABLE person (id BIGINT PRIMARY KEY, email TEXT)";
        let publish = |mask: &str| format!("[service.shop.publish.person]\n{mask}");
        let pair = Pair::new(from, to, &publish(""), SUBSCRIBE).await;
        pair.from.sql(&format!("{table}; INSERT INTO person VALUES (1, 'Ada'), (2, NULL)")).await;
        pair.catch_up().await;
        let mails = "SELECT email FROM person_copy ORDER BY id";
        let texts = |mails: [Option<&str>; 2]| mails.map(|m| vec![m.map(String::from)]).to_vec();
        assert_eq!(pair.to.sql(mails).await, texts([Some("Ada"), None]));
        pair.configure(&publish("mask = { email = \"redact\" }"), SUBSCRIBE);
        pair.from.sql("UPDATE person SET email = 'Ada L.' WHERE id = 1").await;
        pair.catch_up().await;
        assert_eq!(pair.to.sql(mails).await, texts([Some("***"), None]));
        assert_eq!(holding(&pair.rowcast.path("rowcast-data"), "Ada L."), Vec::<String>::new());
        pair.configure(&publish(""), SUBSCRIBE);
        pair.catch_up().await;
        assert_eq!(pair.to.sql(mails).await, texts([Some("Ada L."), None]));
    }
}

#[tokio::test]
async fn a_copy_that_cannot_hold_a_masked_value_pauses_its_route_and_says_what_to_run() {
    let publish = |mask: &str| format!("[service.shop.publish.person]\n{mask}");
    let pair = Pair::new(Kind::Postgres, Kind::Postgres, &publish(""), SUBSCRIBE).await;
    pair.from
        .sql("CREATE TABLE person (id BIGINT PRIMARY KEY, pin INT NOT NULL); INSERT INTO person VALUES (1, 7)")
        .await;
    pair.catch_up().await;
    pair.configure(&publish("mask = { pin = \"redact\" }"), SUBSCRIBE);
    let ended = pair.rowcast.run(LONG, &["run", "--until-caught-up"]).await;
    assert_eq!(ended.code(), Some(1), "{}", ended.said());
    assert!(ended.stderr.contains("SINK-SCHEMA"), "{}", ended.said());
    assert_eq!(pair.to.value("SELECT pin FROM person_copy").await, "7");
    let checked = pair.rowcast.run(LONG, &["check"]).await;
    assert!(checked.stdout.contains("Leaves masked: \"pin\" by redact."), "{}", checked.said());
    let fix = "ALTER TABLE \"public\".\"person_copy\" ALTER COLUMN \"pin\" TYPE text";
    assert!(checked.stdout.contains(fix), "{}", checked.said());
    pair.to.sql("ALTER TABLE person_copy ALTER COLUMN pin TYPE text").await;
    pair.catch_up().await;
    assert_eq!(pair.to.value("SELECT pin FROM person_copy").await, "***");
}
