use super::*;

fn key(columns: &[(&str, &str, &str)]) -> Vec<KeyColumn> {
    let column = |(name, native, operators): &(&str, &str, &str)| KeyColumn {
        name: (*name).into(),
        native: (*native).into(),
        operators: (*operators).into(),
    };
    columns.iter().map(column).collect()
}

#[test]
fn a_cursor_belongs_to_its_key() {
    let id = key(&[("a", "integer", "pg_catalog"), ("b", "text", "pg_catalog")]);
    let names = vec!["a".to_string(), "b".to_string()];
    let after = vec![b"7".to_vec(), "ü'x".as_bytes().to_vec()];
    let cursor = Cursor {
        oid: 16_400,
        fields: None,
        masks: vec![],
        key: names,
        after,
        made: None,
        published: None,
    };
    assert_eq!(go_on(&cursor, &id, None), Some(vec!["7".into(), "ü'x".into()]));
    let other = key(&[("b", "text", "pg_catalog"), ("a", "integer", "pg_catalog")]);
    assert_eq!(go_on(&cursor, &other, None), None);
}

#[test]
fn going_on_after_a_row_compares_whole_keys() {
    let id = key(&[("a", "integer", "pg_catalog"), ("b", "text", "pg_catalog")]);
    let values = [b"7".to_vec(), b"it's".to_vec()];
    assert_eq!(after(&id, &values), "(\"a\", \"b\") > ('7'::integer, 'it''s'::text)");
    let values = [b"7".to_vec(), b"a'\xff".to_vec()];
    assert_eq!(after(&id, &values), "(\"a\", \"b\") > ('7'::integer, E'\\x61\\x27\\xff'::text)");
}

#[test]
fn an_extension_compares_by_its_own_operators() {
    let id = key(&[("a", "public.citext", "public"), ("b", "integer", "pg_catalog")]);
    let values = [b"x".to_vec(), b"1".to_vec()];
    assert_eq!(
        after(&id, &values),
        "\"a\" OPERATOR(\"public\".>=) 'x'::public.citext AND (\"a\" OPERATOR(\"public\".>) \
         'x'::public.citext OR ((\"b\") > ('1'::integer)))"
    );
}

#[test]
fn keys_of_different_entities_and_splits_differ() {
    let mut scratch = Vec::new();
    let mut hash = |entity, key: &[&[u8]]| key_hash(entity, key.iter().copied(), &mut scratch);
    assert_ne!(hash(0, &[b"ab", b"c"]), hash(0, &[b"a", b"bc"]));
    assert_ne!(hash(0, &[b"a"]), hash(1, &[b"a"]));
    assert_eq!(hash(3, &[b"a"]), hash(3, &[b"a"]));
}
