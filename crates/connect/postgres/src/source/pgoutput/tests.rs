use super::*;
use proptest::prelude::*;

/// Recorded from PostgreSQL 15: `CREATE TABLE t (id int PRIMARY KEY, big text)`.
const RELATION: &[u8] = b"R\0\0\x40\x0cpublic\0t\0d\0\x02\
    \x01id\0\0\0\0\x17\xff\xff\xff\xff\
    \0big\0\0\0\0\x19\xff\xff\xff\xff";

#[test]
fn a_recorded_relation_reads_as_the_table() {
    let Message::Relation(relation) = parse(RELATION).unwrap() else { panic!("no relation") };
    assert_eq!((relation.oid, relation.namespace.as_str()), (0x400c, "public"));
    assert_eq!((relation.name.as_str(), relation.identity), ("t", b'd'));
    let id = &relation.columns[0];
    assert_eq!(
        (id.identity, id.name.as_str(), id.type_oid, id.type_modifier),
        (true, "id", 23, -1)
    );
    assert!(!relation.columns[1].identity);
}

#[test]
fn a_recorded_update_keeps_null_unchanged_and_text_apart() {
    let bytes = b"U\0\0\x40\x0cK\0\x03t\0\0\0\x011nnN\0\x03t\0\0\0\x012un";
    let Message::Update { old: Some(old), new, .. } = parse(bytes).unwrap() else {
        panic!("no update with an old key")
    };
    let cells: Vec<_> = old.cells().collect();
    assert_eq!(cells, [Cell::Text(b"1"), Cell::Null, Cell::Null]);
    let cells: Vec<_> = new.cells().collect();
    assert_eq!(cells, [Cell::Text(b"2"), Cell::Unchanged, Cell::Null]);
}

#[test]
fn a_recorded_truncate_names_all_its_tables() {
    let bytes = b"T\0\0\0\x02\x01\0\0\x40\x0c\0\0\x40\x0d";
    assert_eq!(parse(bytes), Ok(Message::Truncate { relations: vec![0x400c, 0x400d] }));
    // A count that the message cannot hold is damage, not a reason to reserve memory.
    assert!(parse(b"T\xff\xff\xff\xff\x01\0\0\x40\x0c").is_err());
}

#[test]
fn a_recorded_transaction_says_where_it_ends() {
    let begin = b"B\0\0\0\0\x01\x6b\x37\x40\0\x02\xf0\x12\x34\x56\x78\x9a\0\0\x02\xe1";
    assert!(matches!(parse(begin), Ok(Message::Begin { commit: 0x16b_3740, .. })));
    let commit =
        b"C\0\0\0\0\0\x01\x6b\x37\x40\0\0\0\0\x01\x6b\x37\x70\0\x02\xf0\x12\x34\x56\x78\x9a";
    assert_eq!(parse(commit), Ok(Message::Commit { commit: 0x16b_3740, end: 0x16b_3770 }));
}

#[derive(Debug, Clone)]
enum Given {
    Null,
    Unchanged,
    Text(Vec<u8>),
}

fn given() -> impl Strategy<Value = Given> {
    prop_oneof![
        Just(Given::Null),
        Just(Given::Unchanged),
        prop::collection::vec(any::<u8>(), 0..40).prop_map(Given::Text),
    ]
}

fn write_tuple(out: &mut Vec<u8>, cells: &[Given]) {
    out.extend((cells.len() as u16).to_be_bytes());
    for cell in cells {
        match cell {
            Given::Null => out.push(b'n'),
            Given::Unchanged => out.push(b'u'),
            Given::Text(t) => {
                out.push(b't');
                out.extend((t.len() as u32).to_be_bytes());
                out.extend(t);
            }
        }
    }
}

proptest! {
    #[test]
    fn a_row_reads_back_what_was_sent(cells in prop::collection::vec(given(), 0..20)) {
        let mut bytes = b"I\0\0\0\x07N".to_vec();
        write_tuple(&mut bytes, &cells);
        let Message::Insert { relation: 7, new } = parse(&bytes).unwrap() else { panic!("no insert") };
        let read: Vec<_> = new.cells().collect();
        let sent: Vec<_> = cells.iter().map(|c| match c {
            Given::Null => Cell::Null,
            Given::Unchanged => Cell::Unchanged,
            Given::Text(t) => Cell::Text(t),
        }).collect();
        prop_assert_eq!(usize::from(new.columns), sent.len());
        prop_assert_eq!(read, sent);
    }

    #[test]
    fn a_message_cut_short_is_refused(
        cells in prop::collection::vec(given(), 1..8), cut in any::<prop::sample::Index>(),
    ) {
        let mut bytes = b"U\0\0\0\x07K".to_vec();
        write_tuple(&mut bytes, &cells);
        bytes.push(b'N');
        write_tuple(&mut bytes, &cells);
        bytes.truncate(cut.index(bytes.len()));
        prop_assert!(parse(&bytes).is_err());
    }

    #[test]
    fn garbage_never_panics(kind in "[BCRIUDTMOYZ]", rest in prop::collection::vec(any::<u8>(), 0..80)) {
        let _ = parse(&[kind.as_bytes(), &rest].concat());
    }
}
