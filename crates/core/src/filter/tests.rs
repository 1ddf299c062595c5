use super::*;
use crate::{Column, Kind, RowWriter};
use Verdict::{Depends, No, Yes};
use proptest::prelude::*;

fn schema() -> Schema {
    let column = |name: &str, native: &str, kind| Column {
        name: name.into(),
        native: native.into(),
        kind,
        key: (name == "id").then_some(0),
        not_null: false,
        fill: None,
    };
    Schema {
        entity: "customer".parse().unwrap(),
        dialect: "test".into(),
        columns: vec![
            column("id", "bigint", Kind::Int64),
            column("status", "text", Kind::Text),
            column("credit_limit", "numeric(10,2)", Kind::Decimal),
            column("active", "boolean", Kind::Bool),
            column("born", "date", Kind::Date),
            column("seen", "timestamptz", Kind::TimestampTz),
            column("score", "double precision", Kind::Float64),
            column("mood", "mood", Kind::Text),
            column("Odd Name", "citext", Kind::Text),
            column("doc", "jsonb", Kind::Json),
            column("loose", "", Kind::Any),
            column("tag", "uuid", Kind::Uuid),
            column("raw", "bytea", Kind::Bytes),
            column("code", "character(5)", Kind::Text),
            column("net", "inet", Kind::Other),
        ],
        generated: vec![],
    }
}

fn packed(values: &[Value<'_>]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut writer = RowWriter::new(&mut bytes);
    values.iter().for_each(|v| writer.push(*v));
    bytes
}

fn bound(filter: &str) -> Bound {
    let filter: Filter = filter.parse().unwrap_or_else(|e: FilterError| panic!("{filter}: {e}"));
    filter.bind(&schema()).unwrap_or_else(|e| panic!("{filter}: {e}\n{}", e.shown(&filter.text)))
}

/// The verdict over a row in which only the named columns are not NULL.
fn judged(filter: &str, said: &[(&str, Value<'_>)]) -> Verdict {
    let mut values = vec![Value::Null; schema().columns.len()];
    for (name, value) in said {
        values[schema().column(name).unwrap()] = *value;
    }
    bound(filter).verdict(Row(&packed(&values)))
}

fn text(text: &str) -> Value<'_> {
    Value::Text(text.as_bytes())
}

#[test]
fn a_row_passes_what_is_true_of_it_and_nothing_else() {
    let row = [
        ("id", text("7")),
        ("status", text("active")),
        ("credit_limit", text("1000.50")),
        ("active", text("t")),
        ("born", text("0044-03-15 BC")),
        ("seen", text("2026-11-20 12:00:00+00")),
        ("score", text("0.1")),
        ("mood", text("glad")),
        ("tag", text("a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11")),
        ("raw", text("\\x00ff")),
        ("code", text("ab   ")),
        ("loose", Value::Integer(5)),
    ];
    for (filter, verdict) in [
        ("status = 'active' AND credit_limit > 1000", Yes),
        ("STATUS = 'active' AND \"status\" <> 'x'", Yes),
        ("credit_limit = 1000.5 and credit_limit < 1e4", Yes),
        ("credit_limit - 1000 = 0.50 AND credit_limit % 7 = 6.5", Yes),
        ("id / 2 = 3 AND -id / 2 = -3 AND -id % 4 = -3 AND id + 1.5 = 8.5", Yes),
        ("id IN (1, 7, NULL)", Yes),
        ("id NOT IN (1, NULL)", No),
        ("id BETWEEN 7 AND 9 AND id NOT BETWEEN 8 AND 9", Yes),
        ("active", Yes),
        ("NOT active OR active = FALSE OR active IS NOT TRUE", No),
        ("active = 'yes' AND active > FALSE", Yes),
        ("born < '0001-01-01' AND born < seen", Yes),
        ("seen = TIMESTAMPTZ '2026-11-20 14:00:00+02'", Yes),
        ("seen >= '2026-11-20'::date", Yes),
        ("score = 0.1 AND score + id > 7", Yes),
        ("mood IN ('sad', 'glad') AND mood IS DISTINCT FROM 'sad'", Yes),
        ("status LIKE 'a_t%' AND status NOT LIKE 'A%' AND status ILIKE 'A%'", Yes),
        ("status LIKE 'a!%' ESCAPE '!'", No),
        ("upper(status) || '-' || code = 'ACTIVE-ab'", Yes),
        ("length(status) = 6 AND length(raw) = 2 AND length(code) = 2", Yes),
        ("doc IS NULL AND net IS NULL AND \"Odd Name\" IS NULL", Yes),
        ("tag = 'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11'", Yes),
        ("raw > X'00fe' AND raw = '\\x00ff'", Yes),
        ("code = 'ab' AND code = 'ab ' AND code < 'abc'", Yes),
        ("loose = 5 AND loose < 'a' AND loose <> '5' AND loose > 4.5", Yes),
        ("coalesce(NULL, id, 2.5) / 2 = 3.5 AND coalesce(score, id) / 2 < 1", Yes),
        ("id - 1 * 2 = 5 AND status || 'x' = 'activex' OR NULL", Yes),
        ("NOT id = 8 AND id = 7 IS NOT NULL", Yes),
        ("abs(-id) = 7 AND coalesce(NULL, id) = 7", Yes),
        ("(doc IS NULL) = TRUE", Yes),
        ("NULL", No),
        ("NULL IS NULL AND (NULL AND FALSE) IS FALSE AND (NULL OR FALSE) IS UNKNOWN", Yes),
    ] {
        assert_eq!(judged(filter, &row), verdict, "{filter}");
    }
}

#[test]
fn what_has_no_result_is_null_and_passes_nothing() {
    let row = [("id", text("9223372036854775807")), ("score", text("1e308"))];
    for filter in ["id + 1 > 0", "id / 0 = 1", "id % 0 = 1", "score * 10 > 0", "score / 0 > 0"] {
        assert_eq!(judged(filter, &row), No, "{filter}");
        assert_eq!(judged(&format!("({filter}) IS NULL"), &row), Yes, "{filter}");
    }
    assert_eq!(judged("credit_limit / 0 IS NULL", &[("credit_limit", text("1"))]), Yes);
}

#[test]
fn nan_and_infinity_have_the_order_of_numeric() {
    for (value, filter) in [
        ("NaN", "credit_limit > 'Infinity' AND credit_limit = 'NaN'"),
        ("Infinity", "credit_limit > 1e1000 AND credit_limit < 'NaN'"),
        ("-Infinity", "credit_limit < -1e1000"),
    ] {
        assert_eq!(judged(filter, &[("credit_limit", text(value))]), Yes, "{filter}");
    }
    let filter = "score > 'Infinity' AND score = 'NaN'";
    assert_eq!(judged(filter, &[("score", text("NaN"))]), Yes);
}

#[test]
fn an_unchanged_value_matters_only_where_it_decides() {
    let said = [("status", Value::Unchanged), ("id", text("1"))];
    for (filter, verdict) in [
        ("status = 'x'", Depends),
        ("status = 'x' AND id = 2", No),
        ("status = 'x' OR id = 1", Yes),
        ("status = 'x' OR id = 2", Depends),
        ("NOT (status = 'x' AND id = 1)", Depends),
        ("status IS NULL OR status IS NOT NULL", Depends),
        ("id IN (1, 2) OR length(status) > 3", Yes),
        ("status = NULL", No),
        ("(status = 'x') IS UNKNOWN AND id = 2", No),
        ("coalesce(status, 'y') = 'y'", Depends),
    ] {
        assert_eq!(judged(filter, &said), verdict, "{filter}");
    }
}

#[test]
fn values_of_a_source_without_types_keep_their_storage_class() {
    let judge = |filter, value| judged(filter, &[("loose", value)]);
    assert_eq!(judge("loose > 100", text("abc")), Yes);
    assert_eq!(judge("loose > 'zzz'", Value::Blob(b"a")), Yes);
    assert_eq!(judge("loose < 1.5", Value::Real(1.25)), Yes);
    assert_eq!(judge("loose + 1 = 3", Value::Integer(2)), Yes);
    assert_eq!(judge("loose + 1 = 3", text("2")), No);
    // A value that breaks its column's declared type compares as what it is.
    assert_eq!(judged("id > 5", &[("id", text("abc"))]), Yes);
    assert_eq!(judged("id < 5", &[("id", Value::Real(4.5))]), Yes);
    assert_eq!(judged("credit_limit = 0.1", &[("credit_limit", Value::Real(0.1))]), Yes);
    assert_eq!(judged("active", &[("active", Value::Integer(1))]), Yes);
}

/// What a person sees of a filter that is refused.
fn refusal(text: &str) -> String {
    let refused = text.parse::<Filter>().and_then(|f| f.bind(&schema()));
    let error = refused.expect_err(text);
    assert!(text.is_char_boundary(error.at.start) && text.is_char_boundary(error.at.end));
    assert!(text.is_empty() || !error.at.is_empty(), "{text}: {:?}", error.at);
    format!("{}\n{}", error.what, error.shown(text))
}

#[test]
fn a_mistake_is_shown_where_it_is() {
    for (filter, what, caret) in [
        ("stauts = 'a'", "customer has no field \"stauts\"", "^^^^^^"),
        ("id = 1 AND stätus = 'a'", "customer has no field \"stätus\"", "           ^^^^^^"),
        ("status = \"gone\"", "customer has no field \"gone\"", "         ^^^^^^"),
        ("id = 'x'", "this is not an integer", "     ^^^"),
        ("born > '2026-02-30'", "this is not a date", "       ^^^^^^^^^^^^"),
        ("status = 5", "this compares text with an integer", "^^^^^^^^^^"),
        ("doc = NULL", "values of this type cannot be compared", "^^^"),
        ("coalesce(net, doc) IS NULL", "this is of a type whose", "              ^^^"),
        ("tag > '0'", "this is not a uuid", "      ^^^"),
        ("doc = '{}'", "values of this type cannot be compared", "^^^"),
        ("mood > 'sad'", "this type has an order of its own", "^^^^"),
        ("\"Odd Name\" = 'x'", "this text compares without case", "^^^^^^^^^^"),
        ("credit_limit", "this is a decimal number, not a condition", "^^^^^^^^^^^^"),
        ("id = 1 AND", "", "         ^"),
        ("id = 1 status", "the condition ends before `status`", "       ^^^^^^"),
        ("(id = 1", "", "      ^"),
        ("id = 'x", "", "     ^"),
        ("id = (SELECT 1)", "is not supported in a filter", "      ^^^^^^^^"),
        ("now() > born", "`now` is not supported in a filter", "^^^"),
        ("id::text = '1'", "only literals can be cast", "^^"),
        ("active = 1", "this is an integer, beside what is true or false", "         ^"),
        ("status LIKE 'a\\'", "the pattern ends with its escape character", "            ^^^^"),
        ("score % 2 = 1", "floating-point numbers have no remainder", "^^^^^^^^^"),
        ("", "the filter is empty", "^"),
    ] {
        let shown = refusal(filter);
        assert!(shown.contains(what), "{filter}: {shown}");
        assert!(shown.ends_with(&format!("\n{caret}")), "{filter}:\n{shown}");
    }
    assert_eq!(refusal("id = 1\n AND nmae = 2").lines().last(), Some("     ^^^^"));
}

#[test]
fn a_filter_is_bounded_in_depth_and_length() {
    let deep = format!("{}id = 1{}", "(".repeat(5_000), ")".repeat(5_000));
    let nots = format!("{} active", "NOT ".repeat(3_000));
    let sums = format!("id{} = 1", " + 1".repeat(490));
    let long = format!("id = 1{}", " OR id = 1".repeat(5_000));
    for filter in [deep, nots, sums, long] {
        filter.parse::<Filter>().expect_err("too much");
    }
    let wide = format!("id = 1{}", " OR id = 1".repeat(240));
    assert_eq!(judged(&wide, &[("id", text("2"))]), No);
    let list: Vec<_> = (0..9_000).map(|n| n.to_string()).collect();
    let list = format!("id IN ({})", list.join(", "));
    assert_eq!(judged(&list, &[("id", text("8999"))]), Yes);
}

#[test]
fn filters_are_equal_by_their_text() {
    let [a, b, c] = ["id = 1", "id = 1", "id  = 1"].map(|t| t.parse::<Filter>().unwrap());
    assert_eq!(a, b);
    assert_ne!(a, c);
    assert_eq!(a.to_string(), "id = 1");
}

const WORDS: &str = "id status credit_limit active born seen score mood doc loose tag raw code net \
    = <> < >= + - * / % || ( ) , AND OR NOT IS NULL TRUE IN BETWEEN LIKE ESCAPE 'a' '%' 1 0 2.5 \
    1e999 9223372036854775807 DATE '2026-01-01' :: int lower( length( coalesce( abs( DISTINCT FROM \
    X'00' CASE SELECT \" ' -- /* $1 [ { ; ä infinity";

fn word() -> impl Strategy<Value = &'static str> {
    prop::sample::select(WORDS.split_whitespace().collect::<Vec<_>>())
}

fn value() -> impl Strategy<Value = Option<(u8, Vec<u8>, i64, f64)>> {
    let bytes = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..12),
        "[-+0-9a-fA-F:. ]{0,20}".prop_map(String::into_bytes),
    ];
    prop::option::of((0..5_u8, bytes, any::<i64>(), any::<f64>()))
}

proptest! {
    #[test]
    fn no_text_and_no_row_makes_a_filter_panic(
        words in prop::collection::vec(word(), 0..14),
        garbage in "\\PC{0,30}",
        values in prop::collection::vec(value(), 0..16),
    ) {
        let values: Vec<Value<'_>> = values.iter().map(|v| match v {
            None => Value::Null,
            Some((0, bytes, ..)) => Value::Text(bytes),
            Some((1, bytes, ..)) => Value::Blob(bytes),
            Some((2, _, int, _)) => Value::Integer(*int),
            Some((3, .., real)) => Value::Real(*real),
            Some(_) => Value::Unchanged,
        }).collect();
        for text in [words.join(" "), garbage] {
            match text.parse::<Filter>().and_then(|f| f.bind(&schema())) {
                Ok(bound) => {
                    bound.verdict(Row(&packed(&values)));
                }
                Err(e) => {
                    prop_assert!(text.is_char_boundary(e.at.start), "{}", text);
                    prop_assert!(text.is_char_boundary(e.at.end), "{}", text);
                    e.shown(&text);
                }
            }
        }
    }
}
