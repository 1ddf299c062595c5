//! Bodies of frames: protobuf, laid out in columns so that an event costs a few bytes and no
//! allocation. Field numbers outlive releases; `docs/log-format.md` lists them.

use crate::files::frame::{BODY_MAX, Flags, Header, point_from, point_number};
use bytes::Bytes;
use gaps::{gaps, sparse};
use prost::Message;
use rowcast_core::{
    Batch, Column, Event, Generated, Kind, LogId, Offset, Op, Point, Schema, Snapshot, Span,
    Transaction,
};
use std::collections::HashMap;
use std::sync::Arc;

/// Schemas of a segment by the number that its frames use.
pub(crate) type SchemaTable = HashMap<u64, Arc<Schema>>;

/// Bodies below this are not worth compressing.
const COMPRESS_MIN: usize = 512;

#[derive(Clone, PartialEq, Message)]
struct BatchBody {
    /// Numbers of the schemas that the events use, by index.
    #[prost(fixed64, repeated, tag = "1")]
    schemas: Vec<u64>,
    /// Those of them that the segment has not shown before.
    #[prost(message, repeated, tag = "2")]
    new_schemas: Vec<SchemaBody>,
    /// One byte an event.
    #[prost(bytes = "bytes", tag = "3")]
    ops: Bytes,
    /// Index into `schemas` for each event; absent when it is 0 for all.
    #[prost(uint32, repeated, tag = "4")]
    schema_of: Vec<u32>,
    /// Length of the row before, for each event; absent when it is 0 for all.
    #[prost(uint32, repeated, tag = "5")]
    before_len: Vec<u32>,
    /// Length of the row after, for each event; absent when it is 0 for all.
    #[prost(uint32, repeated, tag = "6")]
    after_len: Vec<u32>,
    /// Events of each transaction.
    #[prost(uint32, repeated, tag = "7")]
    tx_events: Vec<u32>,
    /// Commit point of each transaction, as the difference to the one before.
    #[prost(sint64, repeated, tag = "8")]
    tx_at: Vec<i64>,
    /// Commit time of each transaction, as the difference to the one before.
    #[prost(sint64, repeated, tag = "9")]
    tx_committed: Vec<i64>,
    /// Kind of each commit point; absent when all are of the kind of the frame's position.
    #[prost(bytes = "vec", tag = "10")]
    tx_kind: Vec<u8>,
    #[prost(bytes = "bytes", tag = "11")]
    rows: Bytes,
    #[prost(message, repeated, tag = "12")]
    snapshots: Vec<SnapshotBody>,
    /// Starts of the rows before and after, in turn; absent when each row follows the one before.
    #[prost(uint32, repeated, tag = "13")]
    starts: Vec<u32>,
    /// Of a compacted batch: offsets left out before each event; absent when it is 0 for all.
    #[prost(uint32, repeated, tag = "14")]
    gaps: Vec<u32>,
}

#[derive(Clone, PartialEq, Message)]
struct HeadBody {
    #[prost(fixed64, tag = "1")]
    log: u64,
    #[prost(message, repeated, tag = "2")]
    schemas: Vec<SchemaBody>,
    #[prost(message, repeated, tag = "3")]
    snapshots: Vec<SnapshotBody>,
    #[prost(message, optional, tag = "4")]
    compacted: Option<CompactedBody>,
}

#[derive(Clone, PartialEq, Message)]
struct CompactedBody {
    /// The offset after the last one that was compacted.
    #[prost(uint64, tag = "1")]
    until: u64,
    /// From this offset on every delete is there.
    #[prost(uint64, tag = "2")]
    complete_history: u64,
}

#[derive(Clone, PartialEq, Message)]
struct SchemaBody {
    #[prost(fixed64, tag = "1")]
    id: u64,
    #[prost(string, tag = "2")]
    entity: String,
    #[prost(string, tag = "3")]
    dialect: String,
    #[prost(message, repeated, tag = "4")]
    columns: Vec<ColumnBody>,
    #[prost(message, repeated, tag = "5")]
    generated: Vec<GeneratedBody>,
}

#[derive(Clone, PartialEq, Message)]
struct ColumnBody {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    native: String,
    #[prost(uint32, tag = "3")]
    kind: u32,
    #[prost(uint32, optional, tag = "4")]
    key: Option<u32>,
    #[prost(bool, tag = "5")]
    not_null: bool,
    #[prost(string, optional, tag = "6")]
    fill: Option<String>,
}

#[derive(Clone, PartialEq, Message)]
struct GeneratedBody {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    native: String,
    #[prost(string, tag = "3")]
    expression: String,
}

#[derive(Clone, PartialEq, Message)]
struct SnapshotBody {
    #[prost(string, tag = "1")]
    entity: String,
    #[prost(bytes = "bytes", tag = "2")]
    cursor: Bytes,
    #[prost(uint64, tag = "3")]
    rows: u64,
    #[prost(uint64, optional, tag = "4")]
    rows_estimate: Option<u64>,
    #[prost(bool, tag = "5")]
    done: bool,
    /// The offset after the word; in heads only.
    #[prost(uint64, tag = "6")]
    at: u64,
}

/// What the head of a segment repeats.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Head {
    pub(crate) log: LogId,
    pub(crate) schemas: Vec<Arc<Schema>>,
    pub(crate) snapshots: Vec<(Snapshot, Offset)>,
    pub(crate) compacted: Option<Compacted>,
}

/// What the head of a compacted segment says of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Compacted {
    /// The offset after the last one that was compacted.
    pub(crate) until: u64,
    /// From this offset on every delete is there.
    pub(crate) complete_history: u64,
}

impl Head {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let body = HeadBody {
            log: self.log.0,
            schemas: self.schemas.iter().map(|s| schema_body(s.id().0, s)).collect(),
            snapshots: self.snapshots.iter().map(|(s, at)| snapshot_body(s, at.0)).collect(),
            compacted: self
                .compacted
                .map(|c| CompactedBody { until: c.until, complete_history: c.complete_history }),
        };
        body.encode_to_vec()
    }

    pub(crate) fn decode(body: Bytes) -> Result<(Self, SchemaTable), String> {
        let body = HeadBody::decode(body).map_err(|e| e.to_string())?;
        let mut table = SchemaTable::new();
        let mut schemas = Vec::with_capacity(body.schemas.len());
        for s in body.schemas {
            let (id, schema) = schema_from(s)?;
            table.insert(id, schema.clone());
            schemas.push(schema);
        }
        let snapshots = body.snapshots.into_iter().map(|s| {
            let at = Offset(s.at);
            Ok((snapshot_from(s)?, at))
        });
        let snapshots = snapshots.collect::<Result<_, String>>()?;
        let compacted = body
            .compacted
            .map(|c| Compacted { until: c.until, complete_history: c.complete_history });
        Ok((Self { log: LogId(body.log), schemas, snapshots, compacted }, table))
    }
}

/// Turns batches into bodies. Remembers schemas' numbers, which are hashes of all their content.
#[derive(Debug, Default)]
pub(crate) struct Encoder {
    /// By address; holding the schema keeps its address from meaning another.
    ids: HashMap<usize, (Arc<Schema>, u64)>,
    plain: Vec<u8>,
}

/// Schemas remembered by address, and bytes of the scratch buffer kept between batches.
const IDS_MAX: usize = 8192;
const SCRATCH_MAX: usize = 4 << 20;

impl Encoder {
    fn id(&mut self, schema: &Arc<Schema>) -> u64 {
        if self.ids.len() >= IDS_MAX {
            self.ids.clear();
        }
        let known = self.ids.entry(Arc::as_ptr(schema) as usize);
        known.or_insert_with(|| (schema.clone(), schema.id().0)).1
    }

    /// Appends the body of `batch` to `out`. Schemas that are neither in `known` nor in `added` go
    /// inline and into `added`. Returns the flags and the length before compression.
    pub(crate) fn encode(
        &mut self,
        batch: &Batch,
        known: &SchemaTable,
        added: &mut SchemaTable,
        compress: bool,
        out: &mut Vec<u8>,
    ) -> (Flags, usize) {
        let mut body = batch_body(batch);
        for schema in &batch.schemas {
            let id = self.id(schema);
            body.schemas.push(id);
            if !known.contains_key(&id) && !added.contains_key(&id) {
                body.new_schemas.push(schema_body(id, schema));
                added.insert(id, schema.clone());
            }
        }
        let flags = Flags::default()
            .with(Flags::WHOLE, batch.whole)
            .with(Flags::FRESH, batch.fresh)
            .with(Flags::SCHEMAS, !body.new_schemas.is_empty());
        let plain_len = body.encoded_len();
        if !compress || plain_len < COMPRESS_MIN {
            body.encode(out).expect("a Vec grows");
            return (flags, plain_len);
        }
        self.plain.clear();
        body.encode(&mut self.plain).expect("a Vec grows");
        let start = out.len();
        out.resize(start + lz4_flex::block::get_maximum_output_size(plain_len), 0);
        let packed = lz4_flex::block::compress_into(&self.plain, &mut out[start..]);
        // Below an eighth saved, reading it back costs more than the disk is worth.
        let pays = packed.as_ref().is_ok_and(|n| *n <= plain_len - plain_len / 8);
        out.truncate(start + packed.unwrap_or(0));
        if !pays {
            out.truncate(start);
            out.extend_from_slice(&self.plain);
        }
        self.plain.shrink_to(SCRATCH_MAX);
        (flags.with(Flags::LZ4, pays), plain_len)
    }
}

/// The columns of a batch, without its schemas.
fn batch_body(batch: &Batch) -> BatchBody {
    let mut cursor = 0u32;
    let mut in_turn = true;
    let mut follows = |span: Span| {
        in_turn &= span.start == cursor;
        cursor = cursor.wrapping_add(span.len);
    };
    for e in &batch.events {
        follows(e.before);
        follows(e.after);
    }
    let column = |of: fn(&Event) -> u32| -> Vec<u32> {
        let needed = batch.events.iter().any(|e| of(e) != 0);
        if needed { batch.events.iter().map(of).collect() } else { Vec::new() }
    };
    let starts = || batch.events.iter().flat_map(|e| [e.before.start, e.after.start]).collect();
    let kind = point_number(batch.until.point);
    let kinds = batch.transactions.iter().map(|t| point_number(t.at));
    let tx_kind = if kinds.clone().any(|k| k != kind) { kinds.collect() } else { Vec::new() };
    BatchBody {
        schemas: Vec::with_capacity(batch.schemas.len()),
        new_schemas: Vec::new(),
        ops: batch.events.iter().map(|e| e.op as u8).collect(),
        schema_of: column(|e| e.schema),
        before_len: column(|e| e.before.len),
        after_len: column(|e| e.after.len),
        tx_events: batch.transactions.iter().map(|t| t.events).collect(),
        tx_at: differences(batch.transactions.iter().map(|t| t.at.value() as i64)),
        tx_committed: differences(batch.transactions.iter().map(|t| t.committed)),
        tx_kind,
        rows: batch.rows.clone(),
        snapshots: batch.snapshots.iter().map(|s| snapshot_body(s, 0)).collect(),
        starts: if in_turn { Vec::new() } else { starts() },
        gaps: batch.sparse.as_ref().map_or_else(Vec::new, |s| gaps(&s.places)),
    }
}

fn differences(values: impl Iterator<Item = i64>) -> Vec<i64> {
    let mut last = 0i64;
    values
        .map(|v| {
            let d = v.wrapping_sub(last);
            last = v;
            d
        })
        .collect()
}

fn sums(differences: &[i64]) -> impl Iterator<Item = i64> + '_ {
    differences.iter().scan(0i64, |last, d| {
        *last = last.wrapping_add(*d);
        Some(*last)
    })
}

fn schema_body(id: u64, s: &Schema) -> SchemaBody {
    let columns = s.columns.iter().map(|c| ColumnBody {
        name: c.name.clone(),
        native: c.native.clone(),
        kind: c.kind as u32,
        key: c.key.map(u32::from),
        not_null: c.not_null,
        fill: c.fill.clone(),
    });
    let generated = s.generated.iter().map(|g| GeneratedBody {
        name: g.name.clone(),
        native: g.native.clone(),
        expression: g.expression.clone(),
    });
    SchemaBody {
        id,
        entity: s.entity.as_str().into(),
        dialect: s.dialect.to_string(),
        columns: columns.collect(),
        generated: generated.collect(),
    }
}

fn schema_from(s: SchemaBody) -> Result<(u64, Arc<Schema>), String> {
    let column = |c: ColumnBody| {
        let kind = u8::try_from(c.kind).ok().and_then(Kind::from_number);
        Ok(Column {
            name: c.name,
            native: c.native,
            kind: kind.ok_or_else(|| format!("a column of unknown kind {}", c.kind))?,
            key: c.key.map(u16::try_from).transpose().map_err(|_| "a key place out of range")?,
            not_null: c.not_null,
            fill: c.fill,
        })
    };
    let generated =
        |g: GeneratedBody| Generated { name: g.name, native: g.native, expression: g.expression };
    let schema = Schema {
        entity: s.entity.parse().map_err(|_| "a schema without an entity")?,
        dialect: s.dialect.into(),
        columns: s.columns.into_iter().map(column).collect::<Result<_, String>>()?,
        generated: s.generated.into_iter().map(generated).collect(),
    };
    Ok((s.id, Arc::new(schema)))
}

fn snapshot_body(s: &Snapshot, at: u64) -> SnapshotBody {
    SnapshotBody {
        entity: s.entity.as_str().into(),
        cursor: s.cursor.clone(),
        rows: s.rows,
        rows_estimate: s.rows_estimate,
        done: s.done,
        at,
    }
}

fn snapshot_from(s: SnapshotBody) -> Result<Snapshot, String> {
    Ok(Snapshot {
        entity: s.entity.parse().map_err(|_| "a snapshot without an entity")?,
        cursor: s.cursor,
        rows: s.rows,
        rows_estimate: s.rows_estimate,
        done: s.done,
    })
}

/// The body as it was before compression.
pub(crate) fn plain_body(header: &Header, body: Bytes) -> Result<Bytes, String> {
    if !header.flags.has(Flags::LZ4) {
        return Ok(body);
    }
    let plain = header.plain as usize;
    // LZ4 cannot expand further than this, so nobody makes us allocate what no data fills.
    if plain > body.len().saturating_mul(255).min(BODY_MAX) {
        return Err("its length before compression is impossible".into());
    }
    let mut out = vec![0; plain];
    match lz4_flex::block::decompress_into(&body, &mut out) {
        Ok(n) if n == plain => Ok(out.into()),
        Ok(n) => Err(format!("it expands to {n} bytes, not {plain}")),
        Err(e) => Err(e.to_string()),
    }
}

/// Reads the schemas that a body brings, into `table`.
pub(crate) fn schemas_of(
    header: &Header,
    body: Bytes,
    table: &mut SchemaTable,
) -> Result<(), String> {
    let body = BatchBody::decode(plain_body(header, body)?).map_err(|e| e.to_string())?;
    for s in body.new_schemas {
        let (id, schema) = schema_from(s)?;
        table.insert(id, schema);
    }
    Ok(())
}

/// The batch in a frame. Whatever the bytes, it returns.
pub(crate) fn decode(header: &Header, body: Bytes, table: &SchemaTable) -> Result<Batch, String> {
    let body = BatchBody::decode(plain_body(header, body)?).map_err(|e| e.to_string())?;
    let until = header.until.ok_or("a batch without a position")?;
    let schema =
        |id: &u64| table.get(id).cloned().ok_or(format!("schema {id:016x} is nowhere before it"));
    let batch = Batch {
        schemas: body.schemas.iter().map(schema).collect::<Result<_, _>>()?,
        transactions: transactions(&body, point_number(until.point))?,
        events: events(&body, header.count as usize)?,
        rows: body.rows,
        until,
        whole: header.flags.has(Flags::WHOLE),
        fresh: header.flags.has(Flags::FRESH),
        sparse: sparse(header, &body.gaps)?,
        snapshots: body.snapshots.into_iter().map(snapshot_from).collect::<Result<_, _>>()?,
    };
    if batch.is_sound() { Ok(batch) } else { Err("its events point outside of it".into()) }
}

fn events(body: &BatchBody, count: usize) -> Result<Vec<Event>, String> {
    let fits = |len: usize| len == 0 || len == count;
    let columns = [body.schema_of.len(), body.before_len.len(), body.after_len.len()];
    let starts = body.starts.len();
    if body.ops.len() != count || !columns.into_iter().all(fits) {
        return Err(format!("its columns do not have {count} events"));
    }
    if starts != 0 && starts != 2 * count {
        return Err(format!("its starts do not have {count} events"));
    }
    let at = |column: &[u32], i: usize| column.get(i).copied().unwrap_or(0);
    let mut cursor = 0u32;
    let mut span = |len: u32, place: usize| {
        let start = body.starts.get(place).copied().unwrap_or(cursor);
        cursor = cursor.wrapping_add(len);
        Span { start, len }
    };
    let event = |(i, op): (usize, &u8)| {
        let before = span(at(&body.before_len, i), 2 * i);
        let after = span(at(&body.after_len, i), 2 * i + 1);
        let op = Op::from_number(*op).ok_or_else(|| format!("an unknown operation {op}"))?;
        Ok(Event { op, schema: at(&body.schema_of, i), before, after })
    };
    body.ops.iter().enumerate().map(event).collect()
}

fn transactions(body: &BatchBody, kind: u8) -> Result<Vec<Transaction>, String> {
    let n = body.tx_events.len();
    let kinds = body.tx_kind.len();
    if body.tx_at.len() != n || body.tx_committed.len() != n || (kinds != 0 && kinds != n) {
        return Err("its transactions' columns differ in length".into());
    }
    let whens = sums(&body.tx_at).zip(sums(&body.tx_committed));
    let transaction = |(i, (at, committed)): (usize, (i64, i64))| {
        let kind = body.tx_kind.get(i).copied().unwrap_or(kind);
        let point: Option<Point> = point_from(kind, at as u64);
        let at = point.ok_or_else(|| format!("an unknown kind of position {kind}"))?;
        Ok(Transaction { events: body.tx_events[i], at, committed })
    };
    whens.enumerate().map(transaction).collect()
}

mod gaps;
#[cfg(test)]
mod tests;
