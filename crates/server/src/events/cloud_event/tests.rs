use super::*;
use rowcast_core::{BatchBuilder, Epoch, Point, Position, RowWriter};
use serde_json::{Value as Json, json};
use std::sync::Arc;

fn schema() -> Arc<Schema> {
    let column = |name: &str, kind, key| Column {
        name: name.into(),
        native: "x".into(),
        kind,
        key,
        not_null: false,
        fill: None,
    };
    Arc::new(Schema {
        entity: "customer".parse().unwrap(),
        dialect: "test".into(),
        columns: vec![
            column("id", Kind::Int64, Some(1)),
            column("region", Kind::Text, Some(0)),
            column("balance", Kind::Decimal, None),
            column("notes", Kind::Json, None),
            column("rate", Kind::Float64, None),
            column("vip", Kind::Bool, None),
        ],
        generated: vec![],
    })
}

fn text(op: Op, before: &[Value<'_>], after: &[Value<'_>]) -> String {
    let schema = schema();
    let mut builder = BatchBuilder::new();
    let index = builder.schema(schema.id(), &schema);
    builder.begin(Point::Lsn(0x16_0000_0001), 1_709_210_096_123_456);
    let write = |values: &[Value<'_>], into: &mut Vec<u8>| {
        let mut writer = RowWriter::new(into);
        values.iter().for_each(|v| writer.push(*v));
    };
    builder.push(op, index, |b| write(before, b), |b| write(after, b));
    let batch = builder.finish(Position::new(Epoch::default(), Point::Lsn(1)), true);
    let service = "shop".parse().unwrap();
    let text = cloud_event(&service, 7, &batch, &batch.events[0], &batch.transactions[0]);
    assert!(!text.contains(['\n', '\r']), "{text}");
    text
}

fn read(op: Op, before: &[Value<'_>], after: &[Value<'_>]) -> Json {
    serde_json::from_str(&text(op, before, after)).unwrap()
}

const T: fn(&'static str) -> Value<'static> = |t| Value::Text(t.as_bytes());
const NOT_SENT: Value<'static> = Value::Unchanged;

#[test]
fn an_update_brings_what_changed_and_leaves_out_what_did_not() {
    let after = [T("5"), T("eu"), T("12.50"), NOT_SENT, T("0.1"), T("t")];
    let expected = json!({
        "specversion": "1.0", "id": "shop/7", "source": "/rowcast/shop",
        "type": "rowcast.customer.update", "subject": "eu/5",
        "time": "2024-02-29T12:34:56.123456Z", "offset": "7", "position": "16/1",
        "datacontenttype": "application/json",
        "data": {"id": 5, "region": "eu", "balance": "12.50", "rate": 0.1, "vip": true},
    });
    assert_eq!(read(Op::Update, &[], &after), expected);
}

#[test]
fn a_delete_brings_the_key() {
    let gone = [T("5"), T("eu"), NOT_SENT, NOT_SENT, NOT_SENT, NOT_SENT];
    let json = read(Op::Delete, &gone, &[]);
    assert_eq!(
        (&json["subject"], &json["data"]),
        (&json!("eu/5"), &json!({"id": 5, "region": "eu"}))
    );
    assert!(json.get("oldkey").is_none());
}

#[test]
fn a_changed_key_is_told_beside_the_new_one() {
    let before = [T("5"), T("eu"), NOT_SENT, NOT_SENT, NOT_SENT, NOT_SENT];
    let after = [T("5"), T("a/b%"), Value::Null, NOT_SENT, NOT_SENT, NOT_SENT];
    let json = read(Op::Update, &before, &after);
    assert_eq!((&json["subject"], &json["oldkey"]), (&json!("a%2Fb%25/5"), &json!("eu/5")));
    assert_eq!(json["data"], json!({"id": 5, "region": "a/b%", "balance": null}));
}

#[test]
fn a_truncate_has_neither_subject_nor_data() {
    let json = read(Op::Truncate, &[], &[]);
    assert_eq!(json["type"], "rowcast.customer.truncate");
    assert!(json.get("subject").is_none() && json.get("data").is_none(), "{json}");
}

#[test]
fn a_schema_brings_its_fields() {
    let json = read(Op::Schema, &[], &[]);
    assert_eq!(json["data"]["fields"][0], json!({"name": "id", "type": "x", "key": 1}));
}

#[test]
fn numbers_and_json_keep_their_digits() {
    let after = [
        T("9223372036854775807"),
        T("two\nlines"),
        T("1.10"),
        T("{\n\"a\": 12345678901234567890.123,\r\n \"a\": \"x\\ny\"}"),
        T("1e+20"),
        T("f"),
    ];
    let text = text(Op::Create, &[], &after);
    for kept in [
        "\"id\":9223372036854775807,",
        "\"region\":\"two\\nlines\"",
        "\"balance\":\"1.10\"",
        "{ \"a\": 12345678901234567890.123,   \"a\": \"x\\ny\"}",
        "\"rate\":1e+20,",
        "\"vip\":false",
        "\"subject\":\"two%0Alines/9223372036854775807\"",
    ] {
        assert!(text.contains(kept), "{kept} in {text}");
    }
}

#[test]
fn what_json_has_no_number_for_is_text() {
    let after = [T("x"), T(""), T("NaN"), T("{broken"), T("-Infinity"), T("maybe")];
    let data = &read(Op::Create, &[], &after)["data"];
    let expected = json!({
        "id": "x", "region": "", "balance": "NaN", "notes": "{broken", "rate": "-Infinity",
        "vip": "maybe",
    });
    assert_eq!(*data, expected);
}

#[test]
fn values_without_declared_types_are_what_they_are() {
    let after = [
        Value::Integer(1),
        Value::Blob(&[0, 0xff]),
        Value::Real(f64::INFINITY),
        Value::Real(f64::NAN),
        Value::Real(0.5),
        Value::Text(b"\xff"),
    ];
    let data = &read(Op::Create, &[], &after)["data"];
    let expected = json!({
        "id": 1, "region": "\\x00ff", "balance": "Infinity", "notes": "NaN", "rate": 0.5,
        "vip": "\u{fffd}",
    });
    assert_eq!(*data, expected);
}
