//! PostgreSQL as the judge of filters: what random conditions come out as over random rows, there
//! and here.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use rowcast_core::{Column, Filter, Kind, RowWriter, Schema, Value, Verdict};
use rowcast_testkit::postgres::{Server, shared};

/// Name, SQL type, kind, values worth trying.
type Tried = (&'static str, &'static str, Kind, &'static [&'static str]);

const COLUMNS: [Tried; 15] = [
    ("i2", "smallint", Kind::Int16, &["0", "1", "-1", "32767", "-32768", "7"]),
    ("i4", "integer", Kind::Int32, &["0", "1", "-3", "2147483647", "-2147483648", "1000"]),
    ("i8", "bigint", Kind::Int64, &["0", "2", "-5", "9223372036854775807", "-9223372036854775808"]),
    (
        "dec",
        "numeric",
        Kind::Decimal,
        &[
            "0",
            "0.10",
            "0.1",
            "-2.5",
            "1000.00",
            "NaN",
            "Infinity",
            "-Infinity",
            "123456789012345678901234567890.123456789",
            "0.000000000000000000001",
        ],
    ),
    ("f4", "real", Kind::Float32, &["0", "-0", "0.1", "1.5", "NaN", "Infinity", "3e38", "-7"]),
    (
        "f8",
        "double precision",
        Kind::Float64,
        &["0", "0.1", "1e300", "-1e-300", "NaN", "Infinity", "-Infinity", "2.5"],
    ),
    ("txt", "text", Kind::Text, &["", "a", "A", "abc", "ab%", "a_c", "zz", "日本", "1", "a\\b"]),
    ("vc", "character varying(9)", Kind::Text, &["", "abc", "ABC", "b", " a", "a ", "100%"]),
    ("ch", "character(4)", Kind::Text, &["", "a", "ab", "abcd", "b"]),
    ("yes", "boolean", Kind::Bool, &["t", "f"]),
    (
        "day",
        "date",
        Kind::Date,
        &["2026-11-20", "0044-03-15 BC", "infinity", "-infinity", "2000-02-29", "10000-01-01"],
    ),
    ("clock", "time", Kind::Time, &["00:00", "24:00:00", "12:34:56.789", "23:59:59.999999"]),
    (
        "at",
        "timestamp",
        Kind::Timestamp,
        &["2026-11-20 00:00", "2026-11-20 12:34:56.7", "infinity", "4713-01-01 10:00 BC"],
    ),
    (
        "atz",
        "timestamptz",
        Kind::TimestampTz,
        &["2026-11-20 00:00+00", "2026-11-20 12:34:56+02", "-infinity", "294276-12-31 23:59+00"],
    ),
    (
        "tag",
        "uuid",
        Kind::Uuid,
        &["a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", "00000000-0000-0000-0000-000000000000"],
    ),
];

/// A repeatable source of numbers.
struct Dice(u64);

impl Dice {
    fn throw(&mut self, sides: usize) -> usize {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) % sides as u64) as usize
    }

    fn pick<'a>(&mut self, from: &[&'a str]) -> &'a str {
        from[self.throw(from.len())]
    }

    fn value(&mut self, column: &str) -> &'static str {
        let (.., values) = COLUMNS.iter().find(|(name, ..)| *name == column).unwrap();
        values[self.throw(values.len())]
    }

    fn condition(&mut self, depth: usize) -> String {
        if depth == 0 || self.throw(4) == 0 {
            return self.simple(depth);
        }
        let a = self.condition(depth - 1);
        match self.throw(7) {
            0 => format!("NOT ({a})"),
            1 => {
                let what = self.pick(&["TRUE", "NOT TRUE", "FALSE", "UNKNOWN", "NOT UNKNOWN"]);
                format!("({a}) IS {what}")
            }
            2 => format!("({a}) {} ({})", self.comparison(), self.condition(depth - 1)),
            3 => format!("coalesce({a}, {})", self.condition(depth - 1)),
            n => {
                let joined = if n % 2 == 0 { "AND" } else { "OR" };
                format!("({a} {joined} {})", self.condition(depth - 1))
            }
        }
    }

    fn comparison(&mut self) -> &'static str {
        self.pick(&["=", "<>", "<", "<=", ">", ">=", "IS DISTINCT FROM", "IS NOT DISTINCT FROM"])
    }

    fn simple(&mut self, depth: usize) -> String {
        let not = self.pick(&["", "NOT "]);
        let how = self.comparison();
        match self.throw(11) {
            0 => "yes".into(),
            1 => format!("yes {how} {}", self.pick(&["TRUE", "FALSE", "NULL", "'f'"])),
            2 => format!("{} IS {not}NULL", COLUMNS[self.throw(COLUMNS.len())].0),
            3 => {
                let column = COLUMNS[self.throw(COLUMNS.len())].0;
                format!("{column} {how} '{}'", self.value(column))
            }
            4 => {
                let moments = ["day", "at", "atz"];
                format!("{} {how} {}", self.pick(&moments), self.pick(&moments))
            }
            5 => {
                let column = self.pick(&["i4", "txt", "day", "tag", "clock", "atz", "dec"]);
                let list: Vec<_> = (0..3).map(|_| format!("'{}'", self.value(column))).collect();
                let null = self.pick(&["", ", NULL"]);
                format!("{column} {not}IN ({}{null})", list.join(", "))
            }
            6 => {
                let patterns = ["a%", "%b%", "_", "A_C", "", "%", "a\\%", "ab!%", "%\\_%"];
                let (like, pattern) = (self.pick(&["LIKE", "ILIKE"]), self.pick(&patterns));
                let escape = self.pick(&["", " ESCAPE '!'", " ESCAPE ''"]);
                format!("{} {not}{like} '{pattern}'{escape}", self.text(depth))
            }
            7 => format!("{} {how} {}", self.text(depth), self.text(depth)),
            8 => {
                let (low, high) = (self.number(1), self.number(1));
                format!("{} {not}BETWEEN {low} AND {high}", self.number(depth))
            }
            _ => format!("{} {how} {}", self.number(depth), self.number(depth)),
        }
    }

    fn text(&mut self, depth: usize) -> String {
        let column = self.pick(&["txt", "vc"]).to_owned();
        if depth == 0 {
            return column;
        }
        match self.throw(6) {
            0 => format!("lower({})", self.text(depth - 1)),
            1 => format!("upper({})", self.text(depth - 1)),
            2 => format!("({} || {})", self.text(depth - 1), self.text(depth - 1)),
            3 => format!("({column} || 'a')"),
            4 => format!("coalesce({column}, 'b')"),
            _ => column,
        }
    }

    fn number(&mut self, depth: usize) -> String {
        let leaf = self.pick(&[
            "i2",
            "i4",
            "i8",
            "dec",
            "f4",
            "f8",
            "0",
            "1",
            "2.5",
            "-3",
            "0.1",
            "1e3",
            "NULL::int",
            "'7'::numeric",
        ]);
        if depth == 0 {
            return leaf.into();
        }
        match self.throw(8) {
            0 => format!("abs({})", self.number(depth - 1)),
            1 => format!("-({})", self.number(depth - 1)),
            2 => format!("length({})", self.text(depth - 1)),
            3 => format!("coalesce({}, {})", self.pick(&["i4", "i8"]), self.pick(&["0", "dec"])),
            4 => {
                let exact = ["i2", "i4", "i8", "dec", "7", "-2", "0.3"];
                format!("({} % {})", self.pick(&exact), self.pick(&exact))
            }
            5 => {
                let operation = self.pick(&["+", "-", "*", "/"]);
                format!("({} {operation} {})", self.number(depth - 1), self.number(depth - 1))
            }
            _ => leaf.into(),
        }
    }
}

/// The table with its rows, and a function that says what a condition comes out as.
async fn table(server: &Server, db: &str, dice: &mut Dice) -> Vec<Vec<Option<String>>> {
    server
        .sql(
            "postgres",
            &format!("CREATE DATABASE {db} TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'"),
        )
        .await;
    server.sql("postgres", &format!("ALTER DATABASE {db} SET timezone TO 'UTC'")).await;
    let columns: Vec<_> = COLUMNS.iter().map(|(n, t, ..)| format!("{n} {t}")).collect();
    let create = format!("CREATE TABLE t (id int PRIMARY KEY, {})", columns.join(", "));
    server.sql(db, &create).await;
    server
        .sql(
            db,
            "CREATE FUNCTION judge(condition text, row_id int) RETURNS text LANGUAGE plpgsql AS $$ \
             DECLARE answer text; BEGIN \
             EXECUTE 'SELECT coalesce((' || condition || ')::text, ''null'') FROM t WHERE id = $1' \
             INTO answer USING row_id; RETURN answer; \
             EXCEPTION WHEN division_by_zero OR numeric_value_out_of_range THEN RETURN 'none'; \
             END $$",
        )
        .await;
    for id in 0..40 {
        let values = COLUMNS.map(|(name, ..)| match dice.throw(5) {
            0 => "NULL".into(),
            _ => format!("'{}'", dice.value(name)),
        });
        server.sql(db, &format!("INSERT INTO t VALUES ({id}, {})", values.join(", "))).await;
    }
    let columns: Vec<_> = COLUMNS.iter().map(|(n, ..)| *n).collect();
    server.sql(db, &format!("SELECT {} FROM t ORDER BY id", columns.join(", "))).await
}

fn schema() -> Schema {
    let column = |(name, native, kind, _): &Tried| Column {
        name: (*name).into(),
        native: (*native).into(),
        kind: *kind,
        key: (*name == "i8").then_some(0),
        not_null: false,
        fill: None,
    };
    Schema {
        entity: "t".parse().unwrap(),
        dialect: "postgres".into(),
        columns: COLUMNS.iter().map(column).collect(),
        generated: vec![],
    }
}

fn packed(row: &[Option<String>]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut writer = RowWriter::new(&mut bytes);
    for value in row {
        writer.push(value.as_ref().map_or(Value::Null, |v| Value::Text(v.as_bytes())));
    }
    bytes
}

#[tokio::test]
async fn a_filter_comes_out_as_the_database_itself_says() {
    let seed = std::env::var("SEED").ok().and_then(|s| s.parse().ok()).unwrap_or(20_261_121);
    let mut dice = Dice(seed);
    let server = shared().await;
    let db = format!("filter_judge_{}", std::process::id());
    let rows = table(server, &db, &mut dice).await;
    let schema = schema();
    let session = server.session(&db).await;
    let (mut judged, mut passed) = (0, 0);
    for round in 0..600 {
        let text = dice.condition(3);
        let query = format!("SELECT judge($judge${text}$judge$, id) FROM t ORDER BY id");
        let answers = match session.try_sql(&query).await {
            Ok(answers) => answers,
            // Literals alone may be out of range, or a pattern end too early.
            Err(e) if e.code().is_some_and(|c| c.code().starts_with("22")) => continue,
            Err(e) => panic!("seed {seed}, round {round}: {text}: {e:?}"),
        };
        let filter: Filter = text.parse().unwrap_or_else(|e| panic!("{text}: {e}"));
        let bound =
            filter.bind(&schema).unwrap_or_else(|e| panic!("{text}: {e}\n{}", e.shown(&text)));
        let negated: Filter = format!("NOT ({text})").parse().unwrap();
        let negated = negated.bind(&schema).unwrap();
        for (row, answer) in rows.iter().zip(&answers) {
            let packed = packed(row);
            let packed = rowcast_core::Row(&packed);
            let ours = match (bound.verdict(packed), negated.verdict(packed)) {
                (Verdict::Yes, Verdict::No) => "true",
                (Verdict::No, Verdict::Yes) => "false",
                (Verdict::No, Verdict::No) => "null",
                other => panic!("{text}: {other:?}"),
            };
            let theirs = answer[0].as_deref().unwrap();
            if theirs != "none" {
                assert_eq!(ours, theirs, "seed {seed}, round {round}: {text}\nover {row:?}");
                judged += 1;
                passed += u32::from(theirs == "true");
            }
        }
    }
    assert!(judged > 10_000 && passed > 2_000, "{judged} judged, {passed} passed");
    drop(session);
    server.sql("postgres", &format!("DROP DATABASE {db} WITH (FORCE)")).await;
}
