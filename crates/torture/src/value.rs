//! Types of columns, and random values of them as SQL literals.

use crate::console::Dialect;
use rand::Rng;
use rand::rngs::StdRng;

/// The enum that columns may have.
pub(crate) const MOOD: &str = "torture_mood";
/// The domain that columns may have.
pub(crate) const SHORT: &str = "torture_short";

const POSTGRES: &[&str] = &[
    "integer",
    "bigint",
    "numeric(14,4)",
    "text",
    "character varying(80)",
    "boolean",
    "timestamp with time zone",
    "date",
    "uuid",
    "jsonb",
    "bytea",
    "integer[]",
    "name",
    "\"char\"",
    "double precision",
    "public.torture_mood",
    "public.torture_short",
];

const SQLITE: &[&str] = &["INTEGER", "TEXT", "REAL", "BLOB", "NUMERIC"];

/// A column's type.
pub(crate) fn kind(dialect: Dialect, random: &mut StdRng) -> &'static str {
    let all = match dialect {
        Dialect::Postgres => POSTGRES,
        Dialect::Sqlite => SQLITE,
    };
    all[random.random_range(0..all.len())]
}

/// A value of a type; now and then NULL.
pub(crate) fn literal(kind: &str, moods: &[String], random: &mut StdRng) -> String {
    if random.random_range(0..9) == 0 {
        return "NULL".into();
    }
    let number: i32 = random.random_range(-2_000_000..2_000_000);
    let wide: u64 = random.random();
    match kind {
        "integer" | "INTEGER" => number.to_string(),
        "bigint" => (wide as i64).to_string(),
        "numeric(14,4)" => format!("{number}.{:04}", wide % 10_000),
        "NUMERIC" => format!("{number}.5"),
        "boolean" => (number % 2 == 0).to_string(),
        "timestamp with time zone" if number % 13 == 0 => "'infinity'".into(),
        "timestamp with time zone" => {
            format!("'2020-01-01 00:00:00.25+02'::timestamptz + interval '{number} min'")
        }
        "date" => format!("'2001-02-03'::date + {}", number % 30_000),
        "uuid" => format!("'a0eebc99-9c0b-4ef8-bb6d-{:012x}'", wide % (1 << 48)),
        "jsonb" => format!("'{{\"n\": {number}, \"t\": [\"{wide:x}\", null]}}'"),
        "bytea" => format!("'\\x{wide:016x}'"),
        "BLOB" => format!("x'{wide:016x}'"),
        "integer[]" => format!("'{{{number},NULL,{}}}'", wide % 1000),
        "\"char\"" => format!("'{}'", char::from(b'a' + (wide % 26) as u8)),
        "double precision" if number % 17 == 0 => "'NaN'".into(),
        "double precision" | "REAL" => format!("{number}.25e3"),
        "public.torture_mood" => {
            format!("'{}'", moods[number.unsigned_abs() as usize % moods.len()])
        }
        "public.torture_short" => format!("'s{}'", wide % 10_000),
        "name" | "character varying(80)" => format!("'n {wide:x} ö'"),
        // Long enough, and hard enough to compress, to be stored apart from its row.
        _ if number % 7 == 0 => format!("'{}'", long(random)),
        _ => format!("'t{number} \"q\" {{,}} \\ ü'"),
    }
}

fn long(random: &mut StdRng) -> String {
    (0..220).map(|_| format!("{:016x}", random.random::<u64>())).collect()
}
