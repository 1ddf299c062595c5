//! What the rows of a memory database look like.

use rowcast_core::{Column, EntityName, Kind, Row, RowWriter, Schema, Value};
use std::sync::Arc;

/// Every table's schema: a number as key, a text as value.
pub(super) fn schema(entity: &EntityName) -> Arc<Schema> {
    let column = |name: &str, kind, key| Column {
        name: name.into(),
        native: format!("{kind:?}"),
        kind,
        key,
        not_null: key.is_some(),
        fill: None,
    };
    Arc::new(Schema {
        entity: entity.clone(),
        dialect: "memory".into(),
        columns: vec![column("key", Kind::Int64, Some(0)), column("value", Kind::Text, None)],
        generated: vec![],
    })
}

/// A packed row; without a value only its key is said.
pub(super) fn pack(key: i64, value: Option<&str>, into: &mut Vec<u8>) {
    let mut row = RowWriter::new(into);
    row.push(Value::Integer(key));
    row.push(value.map_or(Value::Unchanged, |v| Value::Text(v.as_bytes())));
}

/// The key and, when it is given, the value of a packed row.
pub(super) fn read(row: Row<'_>) -> (i64, Option<String>) {
    let mut values = row.values().map(|v| v.expect("a packed row"));
    let Some(Value::Integer(key)) = values.next() else { panic!("a row begins with its key") };
    let value = match values.next() {
        Some(Value::Text(t)) => Some(String::from_utf8_lossy(t).into_owned()),
        _ => None,
    };
    (key, value)
}
