use super::*;
use proptest::prelude::*;
use rowcast_core::{BatchBuilder, Position};
use rowcast_testkit::log_suite::{batch, position, schema, snapshot};

fn frame(batch: &Batch, compress: bool) -> (Header, Bytes, SchemaTable) {
    let (mut added, mut out) = (SchemaTable::new(), Vec::new());
    let (flags, plain) =
        Encoder::default().encode(batch, &SchemaTable::new(), &mut added, compress, &mut out);
    let header = Header {
        flags,
        body: out.len() as u32,
        plain: plain as u32,
        base: 0,
        count: batch.events.len() as u32,
        body_crc: crc32c::crc32c(&out),
        durable: 0,
        until: Some(batch.until),
        prev: None,
        skipped: None,
    };
    (header, out.into(), added)
}

/// Any sound batch, also such as no source makes.
fn any_batch() -> impl Strategy<Value = Batch> {
    let event = (1u8..8, 0u32..3, 0u32..40, 0u32..40, 0u32..40, 0u32..40);
    let transaction = (0u32..9, any::<bool>(), any::<u64>(), any::<i64>());
    (
        prop::collection::vec(event, 0..20),
        prop::collection::vec(transaction, 1..5),
        prop::collection::vec(any::<u8>(), 80),
        (any::<bool>(), any::<bool>(), any::<u64>(), any::<u64>(), any::<bool>()),
    )
        .prop_map(|(events, transactions, rows, (whole, fresh, at, index, words))| {
            let events: Vec<Event> = events
                .into_iter()
                .map(|(op, schema, a, b, c, d)| Event {
                    op: Op::from_number(op).unwrap_or(Op::Read),
                    schema,
                    before: Span { start: a, len: b },
                    after: Span { start: c, len: d },
                })
                .collect();
            let mut left = events.len() as u32;
            let last = transactions.len() - 1;
            let transactions = transactions.into_iter().enumerate().map(|(i, t)| {
                let events = if i == last { left } else { t.0.min(left) };
                left -= events;
                let at = if t.1 { Point::Lsn(t.2) } else { Point::Sequence(t.2) };
                Transaction { events, at, committed: t.3 }
            });
            Batch {
                schemas: ["a", "b", "c"].into_iter().map(schema).collect(),
                transactions: transactions.collect(),
                events,
                rows: rows.into(),
                until: Position { index, ..position(at, at) },
                whole,
                fresh,
                sparse: None,
                snapshots: if words { vec![snapshot("a", at, whole)] } else { vec![] },
            }
        })
}

proptest! {
    #[test]
    fn every_sound_batch_reads_back(batch in any_batch(), compress in any::<bool>()) {
        let (header, body, table) = frame(&batch, compress);
        prop_assert_eq!(decode(&header, body, &table), Ok(batch));
    }

    #[test]
    fn no_bytes_make_decoding_panic(
        bytes in prop::collection::vec(any::<u8>(), 0..300),
        lz4 in any::<bool>(),
        plain in any::<u32>(),
        count in 0u32..50,
    ) {
        let (header, ..) = frame(&batch(1, 1, 3), false);
        let flags = header.flags.with(Flags::LZ4, lz4);
        let header = Header { flags, plain, count, ..header };
        let _ = decode(&header, bytes.clone().into(), &SchemaTable::new());
        let _ = Head::decode(bytes.into());
    }

    #[test]
    fn what_decodes_after_a_change_is_sound(
        batch in any_batch(),
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
        compress in any::<bool>(),
    ) {
        let (header, body, table) = frame(&batch, compress);
        let mut bytes = body.to_vec();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        if let Ok(read) = decode(&header, bytes.into(), &table) {
            prop_assert!(read.is_sound());
        }
    }
}

#[test]
fn a_body_that_claims_to_expand_beyond_what_is_possible_is_refused() {
    let (header, body, table) = frame(&batch(1, 1, 100), true);
    assert!(header.flags.has(Flags::LZ4));
    for plain in [0, header.plain - 1, header.plain + 1, u32::MAX] {
        let header = Header { plain, ..header };
        assert!(decode(&header, body.clone(), &table).is_err(), "{plain}");
    }
}

#[test]
fn what_does_not_shrink_is_kept_as_it_is() {
    let mut b = BatchBuilder::new();
    let mut state = 1u64;
    let noise = |row: &mut Vec<u8>| {
        row.extend((0..4000).map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 56) as u8
        }));
    };
    let thing = schema("thing");
    let index = b.schema(thing.id(), &thing);
    b.begin(Point::Sequence(1), 0);
    b.push(Op::Create, index, |_| {}, noise);
    let batch = b.finish(position(1, 1), true);
    let (header, body, table) = frame(&batch, true);
    assert!(!header.flags.has(Flags::LZ4));
    assert_eq!(decode(&header, body, &table), Ok(batch));
}

#[test]
fn a_schema_is_written_once_and_found_by_its_number_afterwards() {
    let mut encoder = Encoder::default();
    let (mut added, mut out) = (SchemaTable::new(), Vec::new());
    let known = SchemaTable::new();
    let one = batch(1, 1, 1);
    let (first, _) = encoder.encode(&one, &known, &mut added, false, &mut out);
    let long = out.len();
    out.clear();
    // The same schema at another address, as after a restart.
    let (second, _) = encoder.encode(&batch(1, 1, 1), &known, &mut added, false, &mut out);
    assert!(first.has(Flags::SCHEMAS) && !second.has(Flags::SCHEMAS));
    assert!(out.len() < long && added.len() == 1);
}

#[test]
fn a_head_reads_back() {
    let head = Head {
        log: LogId(7),
        schemas: vec![schema("a"), schema("b")],
        snapshots: vec![(snapshot("a", 3, true), Offset(9))],
        compacted: Some(Compacted { until: 77, complete_history: 5 }),
    };
    let (read, table) = Head::decode(head.encode().into()).unwrap();
    assert_eq!(read, head);
    assert_eq!(table.get(&schema("b").id().0), Some(&schema("b")));
}

#[test]
fn a_compacted_batch_reads_back_with_its_gaps() {
    for (places, span) in
        [(vec![0, 1, 2], 3), (vec![0, 1, 2], 9), (vec![4, 5, 4_000_000], u32::MAX)]
    {
        let mut wrote = batch(1, 1, 3);
        wrote.sparse = Some(Box::new(rowcast_core::Sparse { places, span }));
        let (header, body, table) = frame(&wrote, false);
        let header = Header { skipped: Some(span - 3), ..header };
        assert_eq!(decode(&header, body.clone(), &table).unwrap(), wrote);
        let short = Header { skipped: Some(0), count: 2, ..header };
        assert!(decode(&short, body, &table).is_err());
    }
}
