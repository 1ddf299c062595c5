//! P5 the same values: every type arrives with identical `col::text`, by snapshot and by stream.

use super::side::{Kind, LONG, Pair, Side};
use std::collections::BTreeMap;

/// Types that must exist at the target before a copy can be made.
const TYPES: &str = "CREATE TYPE mood AS ENUM ('sad', 'ok', 'it''s \"fine\"'); \
     CREATE DOMAIN short AS varchar(5) CHECK (value <> 'no'); \
     CREATE TYPE pair AS (a int, b text); \
     CREATE TYPE span AS RANGE (subtype = float8); \
     CREATE EXTENSION hstore; CREATE EXTENSION citext; CREATE EXTENSION ltree";

/// A type, and values of it as SQL literals. Each value stands in a row of its own.
const VALUES: &[(&str, &[&str])] = &[
    ("boolean", &["true", "false"]),
    ("smallint", &["-32768", "32767"]),
    ("integer", &["-2147483648", "2147483647"]),
    ("bigint", &["-9223372036854775808", "9223372036854775807"]),
    ("real", &["'NaN'", "'-Infinity'", "1.17549435e-38", "3.4028235e38", "0.1", "'-0'"]),
    ("double precision", &["'NaN'", "'Infinity'", "5e-324", "1.7976931348623157e308", "0.1"]),
    ("numeric", &["'NaN'", "12345678901234567890123456789.000100", "-0.00", "1e100"]),
    ("numeric(10,2)", &["12345678.90", "-0.01"]),
    ("money", &["'-92233720368547758.08'", "'12.34'"]),
    ("text", &["''", "E'tab\\tnew\\nline\\\\N \\r'", "'\\N'", "'NULL'", "'Zoë 🎉 \"q\" ''s {,}'"]),
    ("varchar(7)", &["'1234567'", "' '"]),
    ("char(6)", &["'ab'", "''"]),
    ("\"char\"", &["'a'", "'\\'", "''"]),
    ("name", &["'some_name'"]),
    ("bytea", &["'\\x'", "'\\x00ff5c27'"]),
    ("date", &["'infinity'", "'-infinity'", "'0044-03-15 BC'", "'5874897-12-31'"]),
    ("time", &["'24:00:00'", "'00:00:00.000001'"]),
    ("timetz", &["'24:00:00-15:59'", "'12:34:56.789+05:30'"]),
    ("timestamp", &["'infinity'", "'4713-01-01 00:00:00 BC'", "'294276-12-31 23:59:59.999999'"]),
    ("timestamptz", &["'-infinity'", "'2026-11-20 12:00:00.1+03'", "'0001-01-01 00:00:00+00 BC'"]),
    ("timestamp(3)", &["'2026-11-20 12:00:00.123'"]),
    ("interval", &["'-178000000 years'", "'1 mon -2 days +03:04:05.678'", "'00:00:00'"]),
    ("uuid", &["'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'"]),
    ("json", &["'{\"b\": 1,  \"a\": [1, null], \"b\": 2}'", "'null'", "' \"x\" '"]),
    ("jsonb", &["'{\"b\": 1.00, \"a\": \"\\u00e9\\n\"}'", "'null'", "'[]'"]),
    ("jsonpath", &["'$.a[*] ? (@ > 1)'"]),
    ("xml", &["'<a b=\"c\">d &amp; e</a>'"]),
    ("bit(3)", &["B'101'"]),
    ("bit varying(9)", &["B''", "B'10101'"]),
    ("inet", &["'192.168.0.1/24'", "'::1'"]),
    ("cidr", &["'10.0.0.0/8'", "'2001:db8::/32'"]),
    ("macaddr", &["'08:00:2b:01:02:03'"]),
    ("macaddr8", &["'08:00:2b:01:02:03:04:05'"]),
    ("point", &["'(1.5,-2)'", "'(NaN,Infinity)'"]),
    ("line", &["'{1,2,3}'"]),
    ("lseg", &["'[(0,0),(1,1)]'"]),
    ("box", &["'(1,1),(0,0)'"]),
    ("path", &["'((0,0),(1,1))'", "'[(0,0),(1,1)]'"]),
    ("polygon", &["'((0,0),(1,1),(1,0))'"]),
    ("circle", &["'<(0,0),2>'"]),
    ("tsvector", &["'''it''''s'':1A fat:2 rat'::tsvector"]),
    ("tsquery", &["'fat & (rat | !cat)'"]),
    ("pg_lsn", &["'16/B374D848'"]),
    ("oid", &["4294967295"]),
    ("regclass", &["'pg_catalog.pg_class'"]),
    ("regtype", &["'integer'"]),
    ("int4range", &["'empty'", "'[1,10)'", "'(,)'"]),
    ("numrange", &["'[1.50,2.0]'"]),
    ("tstzrange", &["'[2026-01-01 00:00+00, infinity]'"]),
    ("int8multirange", &["'{}'", "'{[1,3),[5,9)}'"]),
    ("txid_snapshot", &["'10:20:10,14,15'"]),
    ("integer[]", &["'{}'", "'{1,NULL,3}'", "'{{1,2},{3,4}}'", "'[0:1]={7,8}'"]),
    ("text[]", &["'{\"a,b\",\"NULL\",NULL,\"\",\"q\\\"\\\\\"}'", "ARRAY['{x}', ' y ']"]),
    ("numeric(6,1)[]", &["'{1.0,NaN,NULL}'"]),
    ("timestamptz[]", &["'{infinity,\"2026-11-20 12:00:00+00\"}'"]),
    ("bytea[]", &["ARRAY['\\x5c00'::bytea, NULL]"]),
    ("public.mood", &["'sad'", "'it''s \"fine\"'"]),
    ("public.mood[]", &["ARRAY['ok', 'it''s \"fine\"']::mood[]"]),
    ("public.short", &["'12345'", "'a b'"]),
    ("public.pair", &["ROW(1, 'x,\"y\"')", "ROW(NULL, '')"]),
    ("public.pair[]", &["ARRAY[ROW(1, 'a b'), ROW(NULL, NULL)]::pair[]"]),
    ("public.span", &["'[1.5,2.5)'"]),
    ("public.hstore", &["'\"a b\"=>\"1\", c=>NULL'"]),
    ("public.citext", &["'MiXeD'"]),
    ("public.ltree", &["'Top.Science'"]),
];

async fn create(side: &Side, table: &str) {
    let columns = VALUES.iter().enumerate().map(|(i, (t, _))| format!("c{i} {t}"));
    let columns = columns.collect::<Vec<_>>().join(", ");
    side.sql(&format!("CREATE TABLE {table} (id int PRIMARY KEY, {columns})")).await;
}

/// Statements that put every value into a row, starting with this id.
fn inserts(first: usize) -> String {
    let rows = VALUES.iter().map(|(_, v)| v.len()).max().unwrap();
    let row = |r: usize| {
        let value = |values: &[&str]| values.get(r).map_or("NULL".to_string(), |v| v.to_string());
        let values: Vec<_> = VALUES.iter().map(|(_, v)| value(v)).collect();
        format!("INSERT INTO everything VALUES ({}, {})", first + r, values.join(", "))
    };
    (0..rows).map(row).collect::<Vec<_>>().join("; ")
}

async fn assert_identical(pair: &Pair) {
    let columns = VALUES.iter().enumerate().map(|(i, _)| format!("c{i}::text"));
    let query = format!(
        "SELECT id::text, {} FROM everything ORDER BY id",
        columns.collect::<Vec<_>>().join(", ")
    );
    let (theirs, ours) = (pair.from.sql(&query).await, pair.to.sql(&query).await);
    assert_eq!(theirs.len(), ours.len(), "rows");
    for (theirs, ours) in theirs.iter().zip(&ours) {
        for (i, (a, b)) in theirs.iter().zip(ours).enumerate() {
            let column = if i == 0 { "id" } else { VALUES[i - 1].0 };
            assert_eq!(a, b, "row {:?}, type {column}", theirs[0]);
        }
    }
}

#[tokio::test]
async fn every_type_arrives_with_identical_text_by_snapshot_and_by_stream() {
    let publish = "[service.shop.publish.everything]";
    let subscribe = "[service.order.subscribe.\"shop.everything\"]";
    let pair = Pair::new(Kind::Postgres, Kind::Postgres, publish, subscribe).await;
    for side in [&pair.from, &pair.to] {
        side.sql(TYPES).await;
    }
    create(&pair.from, "everything").await;
    pair.from.sql(&inserts(0)).await;
    pair.rowcast.run(LONG, &["check"]).await.good();
    pair.catch_up().await;
    assert_identical(&pair).await;
    let declared = "SELECT attname::text, format_type(atttypid, atttypmod) FROM pg_attribute \
         WHERE attrelid = 'everything'::regclass AND attnum > 0 ORDER BY attnum";
    pair.same(declared, declared).await;

    // Few rows go one by one, many in sets; updates go another way than inserts.
    pair.from.sql(&inserts(100)).await;
    pair.catch_up().await;
    assert_identical(&pair).await;
    let many: Vec<_> = (0..60).map(|i| inserts(1000 + i * 10)).collect();
    pair.from.sql(&many.join("; ")).await;
    pair.catch_up().await;
    assert_identical(&pair).await;
    pair.from.sql("UPDATE everything SET c2 = id, id = id + 100000 WHERE id < 1000").await;
    pair.from.sql("UPDATE everything SET c2 = -id").await;
    pair.catch_up().await;
    assert_identical(&pair).await;
    // Also in the eyes of `verify`, of which every type's text is another trap.
    pair.rowcast.run(LONG, &["verify"]).await.good();
}

#[tokio::test]
async fn a_large_value_that_did_not_change_is_never_overwritten() {
    let publish = "[service.shop.publish.doc]";
    let subscribe = "[service.order.subscribe.\"shop.doc\"]";
    for to in [Kind::Postgres, Kind::Sqlite] {
        let pair = Pair::new(Kind::Postgres, to, publish, subscribe).await;
        pair.from
            .sql(
                "CREATE TABLE doc (id int PRIMARY KEY, n int, body text); \
                 ALTER TABLE doc ALTER COLUMN body SET STORAGE EXTERNAL; \
                 INSERT INTO doc SELECT i, 0, repeat(md5(i::text), 500) FROM generate_series(1, 50) i",
            )
            .await;
        pair.catch_up().await;
        pair.from.sql("UPDATE doc SET n = n + 1").await;
        pair.from.sql("UPDATE doc SET id = id + 1000 WHERE id <= 5").await;
        pair.from.sql("UPDATE doc SET n = n + 1 WHERE id > 1000").await;
        pair.from.sql("UPDATE doc SET body = 'short' WHERE id = 6").await;
        pair.catch_up().await;
        let all = "SELECT id, n, body FROM doc ORDER BY id";
        pair.same(all, all).await;
    }
}

#[tokio::test]
async fn every_type_is_verified_and_mended() {
    let publish = "[service.shop.publish.everything]";
    let subscribe = "[service.order.subscribe.\"shop.everything\"]";
    let pair = Pair::new(Kind::Postgres, Kind::Postgres, publish, subscribe).await;
    for side in [&pair.from, &pair.to] {
        side.sql(TYPES).await;
    }
    create(&pair.from, "everything").await;
    pair.from.sql(&inserts(0)).await;
    pair.catch_up().await;
    let verify = async |further: &[&str]| {
        let args = [&["verify"], further].concat();
        pair.rowcast.run(LONG, &args).await
    };
    verify(&[]).await.good();
    for (i, (name, _)) in VALUES.iter().enumerate() {
        pair.to.sql(&format!("UPDATE everything SET c{i} = NULL WHERE id = 0")).await;
        if i % 8 == 0 {
            let found = verify(&[]).await;
            assert_eq!(found.code(), Some(1), "{name}");
            assert!(found.stdout.contains(&format!("c{i}")), "{name}: {}", found.said());
        }
    }
    pair.to.sql("DELETE FROM everything WHERE id = 1").await;
    verify(&["--repair"]).await.good();
    assert_identical(&pair).await;
    verify(&[]).await.good();
}

/// What a target's server refused so far, from its log.
fn refused(side: &Side) -> Vec<String> {
    let Side::Postgres { server, name } = side else { unreachable!("a server has a log") };
    let ours = format!(" {name} ERROR:");
    server.log().lines().filter(|line| line.contains(&ours)).map(str::to_string).collect()
}

/// As many rows as go by sets and by `COPY`, with every value in several of them, and a text too large
/// to stand in its row: an update leaves it out, so that only some columns are written.
async fn many(side: &Side) {
    let row = |r: usize| {
        let values: Vec<_> = VALUES.iter().map(|(_, v)| v[r % v.len()]).collect();
        format!("INSERT INTO everything VALUES ({r}, {})", values.join(", "))
    };
    let rows: Vec<_> = (0..50).map(row).collect();
    side.sql(&rows.join("; ")).await;
    let columns = (0..VALUES.len()).map(|i| format!("c{i}")).collect::<Vec<_>>().join(", ");
    side.sql(&format!(
        "INSERT INTO everything (id, {columns}) \
         SELECT id + 100 * g, {columns} FROM everything, generate_series(1, 11) g; \
         UPDATE everything SET big = CASE WHEN id % 2 = 0 THEN repeat('0123456789', 900) END"
    ))
    .await;
}

#[tokio::test]
async fn of_values_that_fit_the_target_refuses_no_statement() {
    let publish = "[service.shop.publish.everything]\n[service.shop.publish.keyed]";
    let subscribe = "[service.order.subscribe.\"shop.everything\"]\n\
                     [service.order.subscribe.\"shop.keyed\"]";
    let pair = Pair::new(Kind::Postgres, Kind::Postgres, publish, subscribe).await;
    for side in [&pair.from, &pair.to] {
        side.sql(TYPES).await;
    }
    create(&pair.from, "everything").await;
    pair.from
        .sql(
            "ALTER TABLE everything ADD big text; \
             ALTER TABLE everything ALTER big SET STORAGE EXTERNAL; \
             CREATE DOMAIN corner AS box; \
             CREATE TABLE keyed (d short, n name, c \"char\", i int, r regclass, b corner, \
                                 PRIMARY KEY (d, n, c, i))",
        )
        .await;
    pair.to.sql("CREATE DOMAIN corner AS box").await;
    pair.catch_up().await;
    let keyed = "INSERT INTO keyed SELECT 'k' || i % 9, 'n' || i, 'c', i, 'pg_class', \
                 CASE WHEN i % 5 > 0 THEN '(2,2),(1,1)'::box END FROM generate_series(1, 900) i";
    many(&pair.from).await;
    pair.from.sql(keyed).await;
    let rounds = [
        "UPDATE everything SET c0 = NOT c0; UPDATE keyed SET r = 'pg_type'",
        "DELETE FROM everything WHERE id % 3 = 0; DELETE FROM keyed WHERE i % 3 = 0",
        "UPDATE everything SET id = id + 100000 WHERE id % 7 = 0; UPDATE keyed SET d = 'z'",
    ];
    let all = "SELECT d, n, c, i, r::text, b::text FROM keyed ORDER BY i";
    let mut round = 0;
    loop {
        pair.catch_up().await;
        assert_eq!(refused(&pair.to), Vec::<String>::new(), "after round {round}");
        assert_identical(&pair).await;
        pair.same(all, all).await;
        let Some(sql) = rounds.get(round) else { break };
        pair.from.sql(sql).await;
        round += 1;
    }
}

#[tokio::test]
async fn sqlite_keeps_every_storage_class() {
    let publish = "[service.shop.publish.thing]";
    let subscribe = "[service.order.subscribe.\"shop.thing\"]";
    let pair = Pair::new(Kind::Sqlite, Kind::Sqlite, publish, subscribe).await;
    pair.from
        .sql("CREATE TABLE thing (id INTEGER PRIMARY KEY, free, i INTEGER, t TEXT, b BLOB, r REAL)")
        .await;
    let values = ["NULL", "1", "1.0", "'1'", "x'31'", "9e999", "''", "-0.0", "9223372036854775807"];
    let rows = |first: usize| {
        let row = |(i, v): (usize, &&str)| format!("({}, {v}, {v}, {v}, {v}, {v})", first + i);
        let rows = values.iter().enumerate().map(row).collect::<Vec<_>>().join(", ");
        format!("INSERT INTO thing VALUES {rows}")
    };
    pair.from.sql(&rows(0)).await;
    pair.catch_up().await;
    pair.from.sql(&rows(100)).await;
    pair.catch_up().await;
    let all = "SELECT id, typeof(free), quote(free), typeof(i), quote(i), typeof(t), quote(t), \
         typeof(b), quote(b), typeof(r), quote(r) FROM thing ORDER BY id";
    pair.same(all, all).await;
    pair.rowcast.run(LONG, &["verify"]).await.good();
}

/// Values of one type that the type itself calls equal, or that look much alike, and that are others.
const ALIKE: &[(&str, &str, &str)] = &[
    ("real", "0", "'-0'"),
    ("double precision", "0.1", "0.10000000000000002"),
    ("numeric", "1.0", "1.00"),
    ("text", "'\u{e9}'", "'e\u{301}'"),
    ("text", "'a'", "'a '"),
    ("text", "''", "NULL"),
    ("varchar(7)", "'NULL'", "NULL"),
    ("\"char\"", "''", "NULL"),
    ("bytea", "'\\x'", "'\\x00'"),
    ("timetz", "'12:00:00+00'", "'13:00:00+01'"),
    ("interval", "'1 mon'", "'30 days'"),
    ("interval", "'1 day'", "'24:00:00'"),
    ("json", "'{\"a\":1}'", "'{\"a\": 1}'"),
    ("json", "'null'", "NULL"),
    ("jsonb", "'1.0'", "'1.00'"),
    ("jsonb", "'null'", "NULL"),
    ("bit varying(9)", "B'1'", "B'01'"),
    ("inet", "'10.0.0.1'", "'10.0.0.1/8'"),
    ("box", "'(1,1),(0,0)'", "'(2,2),(1,1)'"),
    ("circle", "'<(0,0),2>'", "'<(1,1),2>'"),
    ("path", "'((0,0),(1,1))'", "'[(0,0),(1,1)]'"),
    ("numrange", "'[1.50,2.0]'", "'[1.5,2.0]'"),
    ("int4range", "'empty'", "NULL"),
    ("int8multirange", "'{}'", "NULL"),
    ("integer[]", "'{1,2}'", "'[0:1]={1,2}'"),
    ("integer[]", "'{}'", "NULL"),
    ("text[]", "'{\"NULL\"}'", "'{NULL}'"),
    ("numeric(6,1)[]", "'{NaN}'", "'{NULL}'"),
    ("public.pair", "ROW(1, '')", "ROW(1, NULL)"),
    ("public.pair", "ROW(NULL, NULL)", "NULL"),
    ("public.hstore", "'c=>NULL'", "'c=>\"NULL\"'"),
    ("public.citext", "'MiXeD'", "'mixed'"),
];

/// What `verify` lists of the copy: the columns that differ, by key.
async fn differing(pair: &Pair) -> BTreeMap<String, String> {
    let ended = pair.rowcast.run(LONG, &["verify", "--json"]).await;
    let answer: serde_json::Value =
        serde_json::from_str(&ended.stdout).unwrap_or_else(|_| panic!("no JSON: {}", ended.said()));
    let copy = &answer["routes"][0]["copies"][0];
    let listed = copy["listed"].as_array().unwrap_or_else(|| panic!("{}", ended.said()));
    let text = |v: &serde_json::Value| v.as_str().unwrap_or("NULL").to_string();
    let row = |row: &serde_json::Value| {
        assert_eq!(row["kind"], "different", "{row}");
        let columns: Vec<_> = row["columns"].as_array().unwrap().iter().map(text).collect();
        (text(&row["key"]["id"]), columns.join(" "))
    };
    assert_eq!(ended.code(), Some(i32::from(!listed.is_empty())), "{}", ended.said());
    listed.iter().map(row).collect()
}

/// Compares what `verify` lists with the column that was changed in each row.
async fn assert_named(pair: &Pair, changed: &BTreeMap<String, (String, String)>) {
    let found = differing(pair).await;
    for (id, (column, what)) in changed {
        assert_eq!(found.get(id), Some(column), "{what} was changed");
    }
    assert_eq!(found.len(), changed.len(), "{found:?}");
}

/// The difference that somebody made on purpose in one column of one row is found in every type, and
/// nothing else is.
#[tokio::test]
async fn verify_names_a_change_in_any_column_of_any_type() {
    let publish = "[service.shop.publish.everything]";
    let subscribe = "[service.order.subscribe.\"shop.everything\"]";
    let pair = Pair::new(Kind::Postgres, Kind::Postgres, publish, subscribe).await;
    for side in [&pair.from, &pair.to] {
        side.sql(TYPES).await;
    }
    create(&pair.from, "everything").await;
    // One row for each change: a value becomes another one, NULL, or NULL becomes a value.
    let place = |name: &str| VALUES.iter().position(|(t, _)| *t == name).unwrap();
    let mut changes: Vec<(usize, &str, &str)> = Vec::new();
    for (i, (_, values)) in VALUES.iter().enumerate() {
        changes.push((i, values[0], "NULL"));
        changes.push((i, "NULL", values[0]));
        changes.extend(values[1..].iter().map(|other| (i, values[0], *other)));
    }
    changes.extend(ALIKE.iter().flat_map(|(t, a, b)| [(place(t), *a, *b), (place(t), *b, *a)]));
    let rows = changes.iter().enumerate();
    let rows = rows.map(|(id, (i, value, _))| {
        format!("INSERT INTO everything (id, c{i}) VALUES ({id}, {value})")
    });
    pair.from.sql(&rows.collect::<Vec<_>>().join("; ")).await;
    pair.catch_up().await;
    assert!(differing(&pair).await.is_empty());
    let mut named = BTreeMap::new();
    let mut updates = Vec::new();
    for (id, (i, before, after)) in changes.iter().enumerate() {
        updates.push(format!("UPDATE everything SET c{i} = {after} WHERE id = {id}"));
        let what = format!("{} from {before} to {after}", VALUES[*i].0);
        named.insert(id.to_string(), (format!("c{i}"), what));
    }
    pair.to.sql(&updates.join("; ")).await;
    assert_named(&pair, &named).await;
    pair.rowcast.run(LONG, &["verify", "--repair"]).await.good();
    assert_identical(&pair).await;
}

/// The same in SQLite, which also tells the storage classes of one text apart.
#[tokio::test]
async fn verify_names_a_change_in_any_column_of_any_type_in_sqlite() {
    let publish = "[service.shop.publish.everything]";
    let subscribe = "[service.order.subscribe.\"shop.everything\"]";
    let pair = Pair::new(Kind::Postgres, Kind::Sqlite, publish, subscribe).await;
    pair.from.sql(TYPES).await;
    create(&pair.from, "everything").await;
    const WAYS: [&str; 4] = ["NULL", "'other'", "CAST(c AS BLOB)", "x''"];
    let mut rows = Vec::new();
    for (i, (_, values)) in VALUES.iter().enumerate() {
        for (w, _) in WAYS.iter().enumerate() {
            let id = i * 10 + w;
            rows.push(format!("INSERT INTO everything (id, c{i}) VALUES ({id}, {})", values[0]));
        }
        rows.push(format!("INSERT INTO everything (id) VALUES ({})", i * 10 + 9));
    }
    pair.from.sql(&rows.join("; ")).await;
    pair.catch_up().await;
    assert!(differing(&pair).await.is_empty());
    let mut named = BTreeMap::new();
    for (i, (name, _)) in VALUES.iter().enumerate() {
        let mut change = |id: usize, to: &str| {
            let column = format!("c{i}");
            let to = to.replace("(c ", &format!("({column} "));
            named.insert(id.to_string(), (column.clone(), format!("{name} to {to}")));
            format!("UPDATE everything SET {column} = {to} WHERE id = {id}")
        };
        let mut updates = vec![change(i * 10 + 9, "''")];
        for (w, to) in WAYS.iter().enumerate() {
            // A blob is one already.
            if *name != "bytea" || *to == "NULL" || *to == "'other'" {
                updates.push(change(i * 10 + w, to));
            }
        }
        pair.to.sql(&updates.join("; ")).await;
    }
    assert_named(&pair, &named).await;
    pair.rowcast.run(LONG, &["verify", "--repair"]).await.good();
    assert!(differing(&pair).await.is_empty());
}

/// From SQLite to both kinds: every storage class into every other one.
#[tokio::test]
async fn verify_names_a_change_of_any_value_that_came_from_sqlite() {
    let publish = "[service.shop.publish.thing]";
    let subscribe = "[service.order.subscribe.\"shop.thing\"]";
    let values = ["NULL", "1", "1.0", "'1'", "x'31'", "''", "x''", "'1.0'", "0.1"];
    let pair = Pair::new(Kind::Sqlite, Kind::Sqlite, publish, subscribe).await;
    pair.from.sql("CREATE TABLE thing (id INTEGER PRIMARY KEY, free)").await;
    let pairs: Vec<_> = values.iter().flat_map(|a| values.iter().map(move |b| (*a, *b))).collect();
    let pairs: Vec<_> = pairs.into_iter().filter(|(a, b)| a != b).collect();
    let each = pairs.iter().enumerate();
    let rows = each.map(|(id, (a, _))| format!("INSERT INTO thing VALUES ({id}, {a})"));
    pair.from.sql(&rows.collect::<Vec<_>>().join("; ")).await;
    pair.catch_up().await;
    assert!(differing(&pair).await.is_empty());
    let mut named = BTreeMap::new();
    let mut updates = Vec::new();
    for (id, (a, b)) in pairs.iter().enumerate() {
        updates.push(format!("UPDATE thing SET free = {b} WHERE id = {id}"));
        named.insert(id.to_string(), ("free".to_string(), format!("{a} to {b}")));
    }
    pair.to.sql(&updates.join("; ")).await;
    assert_named(&pair, &named).await;

    let pair = Pair::new(Kind::Sqlite, Kind::Postgres, publish, subscribe).await;
    let columns: &[(&str, &str, &str)] = &[
        ("flag BOOLEAN", "1", "false"),
        ("price DECIMAL(10,2)", "10.50", "10.51"),
        ("made DATETIME", "'2026-11-20 12:00'", "'2026-11-20 12:00:00.000001'"),
        ("day DATE", "'2026-11-20'", "'2026-11-21'"),
        ("data BLOB", "x'00ff'", "'\\x00'"),
        ("free", "1", "'1.0'"),
        ("score REAL", "0.1", "0.10000000000000002"),
        ("doc JSON", "'{\"a\":  1}'", "'{\"a\": 1}'"),
        (
            "uid UUID",
            "'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'",
            "'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a12'",
        ),
        ("word VARCHAR(20)", "'a'", "'a '"),
        ("n INTEGER", "1", "2"),
    ];
    let declared: Vec<_> = columns.iter().map(|(c, ..)| *c).collect();
    let table = format!("CREATE TABLE thing (id INTEGER PRIMARY KEY, {})", declared.join(", "));
    pair.from.sql(&table).await;
    let (mut named, mut rows, mut updates) = (BTreeMap::new(), Vec::new(), Vec::new());
    for (i, (declared, value, other)) in columns.iter().enumerate() {
        let column = declared.split(' ').next().unwrap();
        for (w, to) in [*other, "NULL"].into_iter().enumerate() {
            let id = i * 10 + w;
            rows.push(format!("INSERT INTO thing (id, {column}) VALUES ({id}, {value})"));
            updates.push(format!("UPDATE thing SET {column} = {to} WHERE id = {id}"));
            named.insert(id.to_string(), (column.to_string(), format!("{declared} to {to}")));
        }
    }
    pair.from.sql(&rows.join("; ")).await;
    pair.catch_up().await;
    assert!(differing(&pair).await.is_empty());
    pair.to.sql(&updates.join("; ")).await;
    assert_named(&pair, &named).await;
}
