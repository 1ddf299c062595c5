//! P5: PostgreSQL to PostgreSQL, `col::text` is identical on both sides for every type, whichever way
//! a row takes into its table.

use crate::support::{Bench, Ev, all_fields, schema};
use rowcast_core::{Op, SinkError, Value};

const TYPES: &str = "
    CREATE EXTENSION hstore; CREATE EXTENSION citext; CREATE EXTENSION ltree;
    CREATE SCHEMA \"Odd.Types\";
    CREATE TYPE \"Odd.Types\".\"Mood 🎉\" AS ENUM ('sad', 'o''k', 'very \"happy\"', 'a,b\\c');
    CREATE DOMAIN public.short AS varchar(5) CHECK (VALUE <> 'never');
    CREATE DOMAIN public.numbers AS int[];
    CREATE TYPE public.pair AS (\"A\" int, b text, c timestamptz);
    CREATE TYPE public.floats AS RANGE (subtype = float8);";

/// A column type and texts that its input reads.
const VALUES: &[(&str, &[&str])] = &[
    ("boolean", &["t", "f"]),
    ("smallint", &["-32768", "32767"]),
    ("integer", &["-2147483648", "0"]),
    ("bigint", &["-9223372036854775808", "9223372036854775807"]),
    ("real", &["NaN", "-Infinity", "1e-45", "3.4028235e38", "-0", "0.1"]),
    ("double precision", &["NaN", "Infinity", "5e-324", "1.7976931348623157e308", "-0", "0.1"]),
    ("numeric", &["NaN", "Infinity", "1.500", "-0.0000000000000000000001", "12345678901234567890"]),
    ("numeric(10,3)", &["1.5", "-1234567.891", "NaN"]),
    ("money", &["-12.34", "92233720368547758.07"]),
    ("text", &["", "NULL", "\\N", "\\.", "a\tb\nc\rd\\e", "{\"}\", 'quoted'", "🎉é\u{7f}", " "]),
    ("character varying(6)", &["abc", "", "ä€𝄞", "abc   "]),
    ("character(6)", &["abc", "", "ab   "]),
    ("\"char\"", &["a", "", "\\"]),
    ("name", &["a name", "\"Q\""]),
    ("bytea", &["\\x", "\\x00ff5c27", "\\x0a0d09"]),
    ("date", &["infinity", "-infinity", "0044-03-15 BC", "5874897-12-31", "2026-11-20"]),
    ("time without time zone", &["24:00:00", "00:00:00", "12:34:56.789012"]),
    ("time(2) with time zone", &["24:00:00+15:59", "12:34:56.78-08"]),
    ("time with time zone", &["12:34:56.123456+02", "00:00:00-15:59:59"]),
    (
        "timestamp without time zone",
        &["infinity", "4714-11-24 00:00:00 BC", "294276-12-31 23:59:59.999999"],
    ),
    (
        "timestamp(3) with time zone",
        &["-infinity", "0001-01-01 00:00:00+00 BC", "2026-11-20 12:00:00.123+05:30"],
    ),
    (
        "timestamp with time zone",
        &["infinity", "294276-12-31 23:59:59.999999+00", "1883-11-18 12:03:57+00"],
    ),
    (
        "interval",
        &["178000000 years", "-178000000 years", "1 mon -2 days +03:04:05.678901", "00:00:00"],
    ),
    ("interval day to second(2)", &["3 days 04:05:06.78"]),
    ("uuid", &["a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"]),
    ("json", &["{\"b\" : 1,  \"a\": null, \"b\":2}", "null", "\"\\u0041\\n\\\\\"", "[1e400]"]),
    ("jsonb", &["{\"b\": 1, \"aa\": null}", "null", "1.00000000000000000000000001", "\"\\\\\\n\""]),
    ("jsonpath", &["$.\"a\"[*]?(@ > 1)"]),
    ("xml", &["<a b=\"c\">d&amp;</a>", "just text"]),
    ("bit(5)", &["10101"]),
    ("bit varying", &["", "1011"]),
    ("bit varying(4)", &["101"]),
    ("inet", &["10.0.0.1", "10.0.0.1/8", "2001:db8::1/64"]),
    ("cidr", &["10.0.0.0/8", "2001:db8::/32"]),
    ("macaddr", &["08:00:2b:01:02:03"]),
    ("macaddr8", &["08:00:2b:01:02:03:04:05"]),
    ("point", &["(1,-0)", "(NaN,Infinity)", "(0.1,1e300)"]),
    ("line", &["{1,2,3}"]),
    ("lseg", &["[(0,0),(1,1)]"]),
    ("box", &["(1,1),(0,0)"]),
    ("path", &["((0,0),(1,1))", "[(0,0),(1,1)]"]),
    ("polygon", &["((0,0),(1,1),(1,0))"]),
    ("circle", &["<(0,0),1.5>"]),
    ("tsvector", &["'a':1A 'it''s':2,3B", ""]),
    ("tsquery", &["'a' & !'b' <-> 'c':*A"]),
    ("pg_lsn", &["FFFFFFFF/FFFFFFFF", "0/0"]),
    ("txid_snapshot", &["10:20:10,14,15"]),
    ("pg_snapshot", &["10:20:10,14,15"]),
    ("xid", &["4294967295"]),
    ("xid8", &["18446744073709551615"]),
    ("cid", &["7"]),
    ("tid", &["(42,7)"]),
    ("oid", &["4294967295", "0"]),
    ("regclass", &["pg_class", "-", "4294967295", "\"Odd.Types\".t"]),
    ("regtype", &["integer", "\"Odd.Types\".\"Mood 🎉\"", "-"]),
    ("regproc", &["now", "-"]),
    ("regprocedure", &["sum(integer)"]),
    ("regoper", &["0"]),
    ("regoperator", &["*(integer,integer)"]),
    ("regrole", &["postgres"]),
    ("regnamespace", &["\"Odd.Types\""]),
    ("regconfig", &["english"]),
    ("regdictionary", &["simple"]),
    ("oidvector", &["1 2 3"]),
    ("int2vector", &["1 2 -3"]),
    ("int4range", &["[1,5)", "empty", "(,)", "[,3)"]),
    ("numrange", &["[1.50,2.500]"]),
    ("tstzrange", &["[\"2026-11-20 00:00:00+00\",infinity)"]),
    ("int8multirange", &["{[1,3),[5,8)}", "{}"]),
    ("public.floats", &["[0.1,NaN]"]),
    ("integer[]", &["{1,NULL,3}", "{}", "{{1,2},{3,4}}", "[0:1]={7,8}", "[-1:0][2:2]={{1},{2}}"]),
    ("text[]", &["{\"\",NULL,\"NULL\",\"a,b\",\"q\\\"\\\\\"}", "{\"{}\"}"]),
    ("character varying(3)[]", &["{abc,\"\"}"]),
    ("bit(3)[]", &["{101,NULL}"]),
    ("numeric(5,2)[]", &["{1.50,NaN}"]),
    ("\"char\"[]", &["{a,b}"]),
    ("\"Odd.Types\".\"Mood 🎉\"", &["sad", "o'k", "very \"happy\"", "a,b\\c"]),
    ("\"Odd.Types\".\"Mood 🎉\"[]", &["{sad,\"very \\\"happy\\\"\",\"a,b\\\\c\"}"]),
    ("public.short", &["abcde", ""]),
    ("public.short[]", &["{abcde,NULL,\"\"}"]),
    ("public.numbers", &["{1,2}", "{{1},{2}}"]),
    ("public.pair", &["(1,\"a,b\",\"2026-11-20 00:00:00+00\")", "(,,)", "(2,\"\",)"]),
    ("public.pair[]", &["{\"(1,\\\"a b\\\",)\",NULL}"]),
    ("public.hstore", &["\"a\"=>NULL, \"b\"=>\"c\\\"d\"", ""]),
    ("public.citext", &["MiXed", ""]),
    ("public.ltree", &["Top.Science.Astronomy", ""]),
    ("public.lquery", &["*.Astronomy.*{1,2}"]),
];

const PINNED: &str = "SET DateStyle = 'ISO, MDY'; SET IntervalStyle = postgres; SET TimeZone = UTC;
    SET extra_float_digits = 3; SET lc_monetary = 'C'; SET search_path = ''; SET bytea_output = hex;";

/// A table with a column for every type, and its rows as its server prints them.
async fn source() -> (Bench, Vec<(String, String)>, Vec<Vec<Option<String>>>) {
    let setup = format!("{TYPES} CREATE TABLE \"Odd.Types\".t (); {PINNED}");
    let columns: Vec<(String, String)> = std::iter::once(("id".into(), "bigint".into()))
        .chain(VALUES.iter().enumerate().map(|(i, (t, _))| (format!("c{i}"), t.to_string())))
        .collect();
    let bench = Bench::new(&setup, vec![all_fields("every", "every_copy")]).await;
    let list: Vec<_> = columns.iter().map(|(n, t)| format!("{n} {t}")).collect();
    bench.sql(&format!("CREATE TABLE public.every ({}, PRIMARY KEY (id))", list.join(", "))).await;
    let deepest = VALUES.iter().map(|(_, v)| v.len()).max().unwrap();
    for row in 0..deepest {
        let literal = |texts: &[&str]| {
            texts.get(row).map_or("NULL".to_string(), |t| format!("'{}'", t.replace('\'', "''")))
        };
        let literals: Vec<_> = VALUES.iter().map(|(_, texts)| literal(texts)).collect();
        bench
            .sql(&format!("INSERT INTO public.every VALUES ({row}, {})", literals.join(", ")))
            .await;
    }
    let rows = bench.sql("SELECT * FROM public.every ORDER BY id").await;
    (bench, columns, rows)
}

/// Writes `copies` of every row by `op` and compares.
async fn arrives(op: Op, copies: usize) {
    let (mut bench, columns, rows) = source().await;
    let borrowed: Vec<_> = columns.iter().map(|(n, t)| (n.as_str(), t.as_str())).collect();
    let schema = schema("every", 1, &borrowed);
    let keys: Vec<_> = (0..copies * rows.len()).map(|n| n.to_string()).collect();
    let value = |text: &'_ Option<String>| text.as_ref().map(|t| t.as_bytes().to_vec());
    let owned: Vec<Vec<Option<Vec<u8>>>> =
        rows.iter().map(|r| r.iter().map(value).collect()).collect();
    let mut events = Vec::new();
    for (n, key) in keys.iter().enumerate() {
        let row = &owned[n % rows.len()];
        let mut after: Vec<_> =
            row.iter().map(|v| v.as_ref().map_or(Value::Null, |text| Value::Text(text))).collect();
        after[0] = Value::Text(key.as_bytes());
        events.push(Ev { schema: &schema, op, before: vec![], after });
    }
    bench.apply(&events).await;
    for (name, native) in &columns[1..] {
        let different = format!(
            "SELECT e.{name}::text, c.{name}::text FROM public.every_copy c
             JOIN public.every e ON e.id = c.id % {} WHERE e.{name}::text IS DISTINCT FROM c.{name}::text",
            rows.len()
        );
        let found = bench.sql(&different).await;
        assert!(found.is_empty(), "{native}: {:?}", &found[..found.len().min(3)]);
    }
    assert_eq!(bench.one("SELECT count(*) FROM public.every_copy").await, keys.len().to_string());
    let types = "SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute
                 WHERE attrelid = 'public.{}'::regclass AND attnum > 0 ORDER BY attnum";
    let of = |table: &str| types.replace("{}", table);
    assert_eq!(bench.sql(&of("every_copy")).await, bench.sql(&of("every")).await);
}

#[tokio::test]
async fn every_type_arrives_unchanged_row_by_row() {
    arrives(Op::Create, 1).await;
}

#[tokio::test]
async fn every_type_arrives_unchanged_in_sets() {
    arrives(Op::Update, 10).await;
}

#[tokio::test]
async fn every_type_arrives_unchanged_by_copy() {
    arrives(Op::Read, 60).await;
}

/// Types whose values travel as bytes, and expressions that give all kinds of them.
const COMMON: &[(&str, &str)] = &[
    ("boolean", "random() < 0.5"),
    ("smallint", "(random() * 65535 - 32768)::smallint"),
    ("integer", "(random() * 4294967294 - 2147483647)::integer"),
    ("bigint", "((random() - 0.5) * 1.8e19)::bigint"),
    ("real", "((random() - 0.5) * 10 ^ (random() * 70 - 35))::real"),
    ("double precision", "(random() - 0.5) * 10 ^ (random() * 600 - 300)"),
    (
        "numeric",
        "round((random() - 0.5)::numeric * 10::numeric ^ ((random() * 40)::int - 20), g % 30)",
    ),
    ("numeric(20,5)", "(random() - 0.5) * 10 ^ (g % 15)"),
    ("text", "substr(E'\\\\ \t\n\r🎉é\\\\N' || md5(g::text), 1, g % 40)"),
    ("character varying(50)", "repeat('ä', g % 50)"),
    ("bytea", "decode(repeat(md5(g::text), g % 4), 'hex')"),
    ("date", "'2000-01-01'::date + (random() * 5000000 - 2400000)::int"),
    (
        "timestamp without time zone",
        "'2000-01-01'::timestamp + (random() * 5e6 - 2.4e6) * interval '1 d'",
    ),
    ("timestamp with time zone", "'2000-01-01'::timestamptz + (random() - 0.5) * interval '90 y'"),
    ("timestamp(3) with time zone", "now() + random() * interval '1 d'"),
    ("uuid", "gen_random_uuid()"),
    ("json", "'{\"b\" :  ' || g || '}'"),
    ("jsonb", "jsonb_build_object('a', g, 'b', md5(g::text))"),
];

/// A row that a server printed.
fn whole(row: &[Option<Vec<u8>>]) -> Vec<Value<'_>> {
    row.iter().map(|v| v.as_ref().map_or(Value::Null, |text| Value::Text(text))).collect()
}

/// Its key.
fn key_only(row: &[Option<Vec<u8>>]) -> Vec<Value<'_>> {
    let mut key = whole(row);
    key[1..].fill(Value::Unchanged);
    key
}

/// Rows of common types as a server prints them, and what `op` makes of them. With `odd`, one row in
/// the middle has a text that only the server's own input reads.
async fn common_types_arrive(op: Op, rows: usize, odd: bool) {
    let mut bench = Bench::new(PINNED, vec![all_fields("common", "common_copy")]).await;
    let named = COMMON.iter().enumerate().map(|(i, (native, _))| (format!("c{i}"), *native));
    let named: Vec<_> = std::iter::once(("id".to_string(), "bigint")).chain(named).collect();
    let list: Vec<_> = named.iter().map(|(name, native)| format!("{name} {native}")).collect();
    let values: Vec<_> = COMMON
        .iter()
        .map(|(native, e)| format!("CASE WHEN random() > 0.1 THEN ({e})::{native} END"))
        .collect();
    let fill = format!(
        "CREATE TABLE public.common ({}); INSERT INTO public.common SELECT g, {} FROM generate_series(1, {rows}) g",
        list.join(", "),
        values.join(", ")
    );
    bench.sql(&fill).await;
    let mut texts = bench.sql("SELECT * FROM public.common ORDER BY id").await;
    if odd {
        texts[rows / 2][14] = Some("2026-11-20 12:00:00+05:30".into());
        let spelled = "UPDATE public.common SET c13 = '2026-11-20 06:30:00+00' WHERE id = ";
        bench.sql(&format!("{spelled}{}", rows / 2 + 1)).await;
    }
    let borrowed: Vec<_> = named.iter().map(|(n, t)| (n.as_str(), *t)).collect();
    let schema = schema("common", 1, &borrowed);
    let value = |t: &'_ Option<String>| t.as_ref().map(|t| t.as_bytes().to_vec());
    let owned: Vec<Vec<_>> = texts.iter().map(|row| row.iter().map(value).collect()).collect();
    let events: Vec<_> = owned
        .iter()
        .map(|row| Ev { schema: &schema, op, before: vec![], after: whole(row) })
        .collect();
    bench.apply(&events).await;
    for (name, native) in &named {
        let different = format!(
            "SELECT c.id, e.{name}::text, c.{name}::text FROM public.common_copy c FULL JOIN \
             public.common e USING (id) WHERE e.{name}::text IS DISTINCT FROM c.{name}::text"
        );
        let found = bench.sql(&different).await;
        assert!(found.is_empty(), "{native}: {:?}", &found[..found.len().min(3)]);
    }
    let deletes: Vec<_> = owned
        .iter()
        .map(|row| Ev { schema: &schema, op: Op::Delete, before: key_only(row), after: vec![] })
        .collect();
    bench.apply(&deletes).await;
    assert_eq!(bench.one("SELECT count(*) FROM public.common_copy").await, "0");
}

#[tokio::test]
async fn common_types_arrive_unchanged_by_copy() {
    common_types_arrive(Op::Create, 3_000, false).await;
}

#[tokio::test]
async fn common_types_arrive_unchanged_in_sets() {
    common_types_arrive(Op::Update, 3_000, false).await;
}

#[tokio::test]
async fn a_text_that_only_the_server_reads_arrives_all_the_same() {
    common_types_arrive(Op::Create, 900, true).await;
    common_types_arrive(Op::Update, 900, true).await;
}

/// Types that no key can have.
const UNORDERED: &[&str] = &[
    "json",
    "jsonpath",
    "xml",
    "point",
    "line",
    "lseg",
    "box",
    "path",
    "polygon",
    "circle",
    "txid_snapshot",
    "pg_snapshot",
    "xid",
    "cid",
    "public.lquery",
    "int2vector",
];

#[tokio::test]
async fn rows_are_found_by_keys_of_every_type() {
    let keys: Vec<_> =
        VALUES.iter().filter(|(t, v)| v.len() >= 2 && !UNORDERED.contains(t)).collect();
    let subscriptions =
        (0..keys.len()).map(|i| all_fields(&format!("e{i}"), &format!("k{i}"))).collect();
    let setup = format!("{TYPES} CREATE TABLE \"Odd.Types\".t ();");
    let mut bench = Bench::new(&setup, subscriptions).await;
    bench.sql(PINNED).await;
    let columns = |t| [("k", t), ("v", "text"), ("w", "text")];
    let schemas: Vec<_> = keys
        .iter()
        .enumerate()
        .map(|(i, (t, _))| schema(&format!("e{i}"), 1, &columns(t)))
        .collect();
    let each = |event: &dyn Fn(usize, &'static str) -> Option<Ev<'static>>| -> Vec<Ev<'static>> {
        (0..keys.len())
            .flat_map(|i| [event(i, keys[i].1[0]), event(i, keys[i].1[1])])
            .flatten()
            .collect()
    };
    // Leaked so that the closures above stay simple; a few hundred bytes once.
    let schemas: &'static [_] = Box::leak(schemas.into_boxed_slice());
    let first = |i: usize, key: &str| key == keys[i].1[0];
    bench.apply(&each(&|i, k| Some(Ev::create(&schemas[i], &[k, "v", "w"])))).await;
    bench.apply(&each(&|i, k| Some(Ev::update(&schemas[i], &[k, "~", "set"])))).await;
    for chunk in
        each(&|i, k| first(i, k).then(|| Ev::update(&schemas[i], &[k, "one", "~"]))).chunks(10)
    {
        bench.apply(chunk).await;
    }
    for (i, (native, _)) in keys.iter().enumerate() {
        let found =
            bench.one(&format!("SELECT string_agg(v || w, ' ' ORDER BY v) FROM public.k{i}")).await;
        assert_eq!(found, "oneset vset", "{native}");
    }
    bench.apply(&each(&|i, k| first(i, k).then(|| Ev::delete(&schemas[i], &[k, "~", "~"])))).await;
    for chunk in
        each(&|i, k| (!first(i, k)).then(|| Ev::delete(&schemas[i], &[k, "~", "~"]))).chunks(10)
    {
        let before: Vec<_> = chunk.iter().map(|e| e.schema.entity.to_string()).collect();
        for entity in before {
            let table = entity.replace('e', "k");
            assert_eq!(
                bench.one(&format!("SELECT count(*) FROM public.{table}")).await,
                "1",
                "{table}"
            );
        }
        bench.apply(chunk).await;
    }
    for (i, (native, _)) in keys.iter().enumerate() {
        assert_eq!(bench.one(&format!("SELECT count(*) FROM public.k{i}")).await, "0", "{native}");
    }
}

#[tokio::test]
async fn what_is_too_long_is_refused_and_never_cut() {
    for native in ["character varying(3)", "bit(3)", "public.short", "character varying(3)[]"] {
        let setup = format!(
            "CREATE DOMAIN public.short AS varchar(3); CREATE TABLE t (id bigint PRIMARY KEY, v {native});"
        );
        let mut bench = Bench::new(&setup, vec![all_fields("t", "t")]).await;
        let schema = schema("t", 1, &[("id", "bigint"), ("v", native)]);
        let text = match native {
            "bit(3)" => "10101",
            "character varying(3)[]" => "{toolong}",
            _ => "toolong",
        };
        for count in [1, 30, 500] {
            let keys: Vec<_> = (0..count).map(|n| n.to_string()).collect();
            for op in [Op::Create, Op::Update] {
                let events: Vec<_> =
                    keys.iter().map(|k| Ev::whole(&schema, op, &[k, text])).collect();
                let error = bench.try_apply(&events, true).await.unwrap_err();
                assert!(
                    matches!(&error, SinkError::Data { key: Some(k), .. } if k == "0"),
                    "{native} {count}: {error:?}"
                );
                bench.wants().await.unwrap();
            }
        }
        assert_eq!(bench.one("SELECT count(*) FROM public.t").await, "0");
    }
}
