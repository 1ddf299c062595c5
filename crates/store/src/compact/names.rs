//! Schemas and keys, by number.

use super::record::Fault;
use rowcast_core::{EntityName, Row, Schema, SchemaId, Value};
use std::collections::HashMap;
use std::sync::Arc;

/// The schemas that a compaction met.
#[derive(Debug, Default)]
pub(crate) struct Names {
    schemas: Vec<Named>,
    by_id: HashMap<SchemaId, u32>,
    /// By address; holding the schema keeps its address from meaning another.
    by_address: HashMap<usize, (Arc<Schema>, u32)>,
    entities: Vec<EntityName>,
    /// Keys of one entity compare when they are made of the same columns.
    layouts: HashMap<(u32, Vec<String>), u32>,
}

#[derive(Debug)]
pub(crate) struct Named {
    pub(crate) schema: Arc<Schema>,
    pub(crate) entity: u32,
    layout: u32,
    key: Vec<usize>,
}

/// Schemas remembered by address.
const ADDRESSES_MAX: usize = 8192;

impl Names {
    /// The number of a schema.
    pub(crate) fn number(&mut self, schema: &Arc<Schema>) -> u32 {
        let address = Arc::as_ptr(schema) as usize;
        if let Some((_, known)) = self.by_address.get(&address) {
            return *known;
        }
        let number = self.number_by_content(schema);
        if self.by_address.len() >= ADDRESSES_MAX {
            self.by_address.clear();
        }
        self.by_address.insert(address, (schema.clone(), number));
        number
    }

    fn number_by_content(&mut self, schema: &Arc<Schema>) -> u32 {
        let id = schema.id();
        if let Some(known) = self.by_id.get(&id) {
            return *known;
        }
        let entity = self.entity_number(&schema.entity);
        let key = schema.key();
        let columns = key.iter().map(|i| schema.columns[*i].name.clone()).collect();
        let next = self.layouts.len() as u32;
        let layout = *self.layouts.entry((entity, columns)).or_insert(next);
        let number = self.schemas.len() as u32;
        self.schemas.push(Named { schema: schema.clone(), entity, layout, key });
        self.by_id.insert(id, number);
        number
    }

    fn entity_number(&mut self, entity: &EntityName) -> u32 {
        let known = self.entities.iter().position(|e| e == entity);
        known.unwrap_or_else(|| {
            self.entities.push(entity.clone());
            self.entities.len() - 1
        }) as u32
    }

    pub(crate) fn get(&self, schema: u32) -> &Named {
        &self.schemas[schema as usize]
    }

    /// The bytes that tell the key of a row. Equal for equal keys only, and for all of them.
    pub(crate) fn key(&self, schema: u32, row: Row<'_>) -> Result<Box<[u8]>, Fault> {
        let named = self.get(schema);
        let mut values = Vec::with_capacity(named.schema.columns.len());
        row.unpack(&mut values)?;
        let mut key = named.layout.to_le_bytes().to_vec();
        for column in &named.key {
            match values.get(*column) {
                None | Some(Value::Unchanged) => {
                    return Err(Fault::NoKey(named.schema.entity.clone()));
                }
                Some(value) => tagged(&mut key, *value),
            }
        }
        if named.key.is_empty() {
            return Err(Fault::NoKey(named.schema.entity.clone()));
        }
        Ok(key.into())
    }

    /// A key that no other event has.
    pub(crate) fn unlike_any(&self, schema: u32, offset: u64) -> Box<[u8]> {
        let layout = self.get(schema).layout.to_le_bytes();
        [layout.as_slice(), &offset.to_le_bytes()].concat().into()
    }
}

/// A value with its kind and length, so that different keys never give the same bytes.
fn tagged(key: &mut Vec<u8>, value: Value<'_>) {
    let mut put = |tag: u8, bytes: &[u8]| {
        key.push(tag);
        key.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
        key.extend_from_slice(bytes);
    };
    match value {
        Value::Null | Value::Unchanged => put(0, &[]),
        Value::Text(text) => put(1, text),
        Value::Integer(i) => put(2, &i.to_le_bytes()),
        // Where types are not declared, 5 and 5.0 are one key.
        Value::Real(r) if r == (r as i64) as f64 => put(2, &(r as i64).to_le_bytes()),
        Value::Real(r) => put(3, &r.to_bits().to_le_bytes()),
        Value::Blob(blob) => put(4, blob),
    }
}
