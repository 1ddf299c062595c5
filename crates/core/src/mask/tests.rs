use super::*;
use crate::Row;
use proptest::prelude::*;
use std::collections::HashMap;

const SECRET: &[u8] = b"a key of more than sixteen bytes";

fn masks(mask: Mask) -> Masks {
    Masks::new(vec![("f".into(), mask)], Some(MaskKey::new(SECRET).unwrap())).unwrap()
}

fn masked(mask: Mask, kind: Kind, value: Value<'_>) -> Option<String> {
    let masker = masks(mask).masker("f", kind).unwrap();
    let mut scratch = Vec::new();
    match masker.apply(value, &mut scratch) {
        Value::Text(text) => Some(String::from_utf8(text.to_vec()).unwrap()),
        Value::Null => None,
        other => panic!("{other:?}"),
    }
}

fn shown_as(mask: Mask, value: &str) -> String {
    masked(mask, Kind::Text, Value::Text(value.as_bytes())).unwrap()
}

#[test]
fn sha256_is_the_hmac_that_everybody_computes() {
    // printf 'ada@example.org' | openssl dgst -sha256 -hmac 'a key of more than sixteen bytes'
    assert_eq!(
        shown_as(Mask::Sha256, "ada@example.org"),
        "33d5b25426946f8dcfdfcb77baa5dc5201fe70908fbeb1ef45ef58ed87ab8f4a"
    );
}

#[test]
fn a_value_has_one_hash_whatever_database_it_lies_in() {
    let integer = masked(Mask::Sha256, Kind::Int64, Value::Integer(7));
    assert_eq!(integer, masked(Mask::Sha256, Kind::Int32, Value::Text(b"7")));
    let real = masked(Mask::Sha256, Kind::Float64, Value::Real(1.5));
    assert_eq!(real, masked(Mask::Sha256, Kind::Float64, Value::Text(b"1.5")));
}

#[test]
fn values_that_an_untyped_column_tells_apart_have_different_hashes() {
    for kind in [Kind::Any, Kind::Bytes] {
        let values = [Value::Integer(7), Value::Text(b"7"), Value::Blob(b"7")];
        let hashes = values.map(|v| masked(Mask::Sha256, kind, v));
        assert!(hashes[0] != hashes[1] && hashes[1] != hashes[2] && hashes[0] != hashes[2]);
    }
    let zero = |r| masked(Mask::Sha256, Kind::Float64, Value::Real(r));
    assert_eq!(zero(0.0), zero(-0.0));
}

#[test]
fn partial_shows_little_of_long_texts_and_nothing_of_short_ones() {
    for (value, shown) in [
        ("", "***"),
        ("1234567", "***"),
        ("12345678", "1***78"),
        ("DE89370400440532", "DE***0532"),
        ("DE89370400440532013000", "DE***3000"),
        ("zoë@bücher.example", "zo***mple"),
        ("日本語日本語日本", "日***日本"),
    ] {
        assert_eq!(shown_as(Mask::Partial, value), shown);
    }
    assert_eq!(masked(Mask::Partial, Kind::Int64, Value::Integer(123_456_789)).unwrap(), "1***89");
    assert_eq!(masked(Mask::Partial, Kind::Bytes, Value::Text(b"\\xdeadbeef")).unwrap(), "***");
    assert_eq!(masked(Mask::Partial, Kind::Any, Value::Blob(&[65; 40])).unwrap(), "***");
    assert_eq!(masked(Mask::Partial, Kind::Text, Value::Text(&[0xff; 40])).unwrap(), "***");
}

#[test]
fn what_is_no_value_stays_what_it_is() {
    for mask in Mask::ALL {
        let masker = masks(mask).masker("f", Kind::Text).unwrap();
        for value in [Value::Null, Value::Unchanged] {
            assert_eq!(masker.apply(value, &mut Vec::new()), value);
        }
    }
}

#[test]
fn a_masked_column_is_text_and_a_nulled_one_may_be_null() {
    let column = Column {
        name: "f".into(),
        native: "numeric(10,2)".into(),
        kind: Kind::Decimal,
        key: None,
        not_null: true,
        fill: Some("12.50".into()),
    };
    let hashed = masks(Mask::Sha256).column(column.clone());
    assert_eq!((hashed.native.as_str(), hashed.kind, hashed.not_null), ("text", Kind::Text, true));
    assert_eq!(hashed.fill, Some(shown_as(Mask::Sha256, "12.50")));
    let nulled = masks(Mask::Null).column(column.clone());
    assert_eq!((nulled.native.as_str(), nulled.kind), ("numeric(10,2)", Kind::Decimal));
    assert_eq!((nulled.not_null, nulled.fill), (false, None));
    let other = Column { name: "g".into(), ..column };
    assert_eq!(masks(Mask::Redact).column(other.clone()), other);
}

#[test]
fn a_mask_of_an_unknown_field_and_of_a_key_is_refused() {
    let misfit = |mask, key: &[&str]| masks(mask).misfit(&["f", "id"], key).map(|(what, _)| what);
    assert!(masks(Mask::Null).misfit(&["id"], &[]).unwrap().0.contains("no published field"));
    assert_eq!(misfit(Mask::Sha256, &["f"]), None);
    assert_eq!(misfit(Mask::Redact, &["id"]), None);
    for mask in [Mask::Redact, Mask::Null, Mask::Partial] {
        assert!(misfit(mask, &["f"]).unwrap().contains("would make rows one"));
    }
}

#[test]
fn a_key_is_long_is_needed_and_never_shows() {
    assert_eq!(MaskKey::new(&SECRET[..15]), Err(MaskError::ShortKey));
    let keyless = Masks::new(vec![("f".into(), Mask::Sha256)], None);
    assert_eq!(keyless, Err(MaskError::NoKey));
    assert!(Masks::new(vec![("f".into(), Mask::Partial)], None).is_ok());
    let masks = masks(Mask::Sha256);
    let shown = format!("{masks:?} {masks} {} {:?}", masks.notes(), masks.masker("f", Kind::Text));
    assert!(!shown.contains("sixteen"), "{shown}");
}

#[test]
fn notes_tell_masks_and_keys_apart() {
    let other = MaskKey::new(b"another key of sixteen bytes or more").unwrap();
    let other = Masks::new(vec![("f".into(), Mask::Sha256)], Some(other)).unwrap();
    let mut notes: Vec<_> = Mask::ALL.map(|m| masks(m).notes()).to_vec();
    notes.extend([other.notes(), Masks::default().notes()]);
    let count = notes.len();
    notes.sort();
    notes.dedup();
    assert_eq!(notes.len(), count, "{notes:?}");
}

#[test]
fn a_name_reads_back() {
    for mask in Mask::ALL {
        assert_eq!(mask.name().parse(), Ok(mask));
    }
    assert_eq!("md5".parse::<Mask>(), Err(MaskError::Unknown("md5".into())));
}

fn value() -> impl Strategy<Value = (u8, Vec<u8>, i64, f64)> {
    (0u8..4, prop::collection::vec(any::<u8>(), 0..60), any::<i64>(), any::<f64>())
}

fn of((class, bytes, i, r): &(u8, Vec<u8>, i64, f64)) -> Value<'_> {
    match class {
        0 => Value::Text(bytes),
        1 => Value::Blob(bytes),
        2 => Value::Integer(*i),
        _ => Value::Real(*r),
    }
}

proptest! {
    #[test]
    fn equal_values_have_equal_hashes_and_no_others(values in prop::collection::vec(value(), 1..40)) {
        let mut seen: HashMap<String, Value<'_>> = HashMap::new();
        for value in values.iter().map(of) {
            let hash = masked(Mask::Sha256, Kind::Any, value).unwrap();
            prop_assert!(hash.len() == 64 && hash.bytes().all(|b| b.is_ascii_hexdigit()));
            if let Some(other) = seen.insert(hash, value) {
                let nan = matches!((value, other), (Value::Real(a), Value::Real(b)) if a.is_nan() && b.is_nan());
                let number = matches!((value, other), (Value::Integer(a), Value::Real(b))
                    | (Value::Real(b), Value::Integer(a)) if a as f64 == b);
                prop_assert!(nan || number || value == other, "{value:?} {other:?}");
            }
        }
    }

    #[test]
    fn a_mask_shows_at_most_six_characters_and_at_most_three_eighths(text in "\\PC{0,60}") {
        let shown = shown_as(Mask::Partial, &text);
        let of_it = shown.chars().count() - 3;
        prop_assert!(of_it <= 6 && of_it * 8 <= text.chars().count() * 3, "{shown}");
        prop_assert_eq!(shown_as(Mask::Redact, &text), "***");
        prop_assert_eq!(masked(Mask::Null, Kind::Text, Value::Text(text.as_bytes())), None);
    }

    #[test]
    fn no_value_makes_a_masker_panic_or_a_row_unreadable(v in value(), kind in 1u8..=19) {
        let kind = Kind::from_number(kind).unwrap();
        for mask in Mask::ALL {
            let (mut row, mut scratch) = (Vec::new(), Vec::new());
            let masker = masks(mask).masker("f", kind).unwrap();
            masker.push(of(&v), &mut scratch, &mut RowWriter::new(&mut row));
            let mut values = Vec::new();
            Row(&row).unpack(&mut values).unwrap();
            prop_assert!(matches!(values[..], [Value::Null | Value::Text(_)]));
        }
    }

    #[test]
    fn what_is_sealed_opens_with_its_key_only(bytes in prop::collection::vec(any::<u8>(), 8..200), nonce: [u8; 16]) {
        let key = MaskKey::new(SECRET).unwrap();
        let sealed = key.seal(&bytes, nonce);
        prop_assert!(!sealed.windows(8).any(|w| bytes.windows(8).any(|b| b == w)));
        prop_assert_eq!(key.open(&sealed), Some(bytes.clone()));
        let other = MaskKey::new(b"another key of sixteen bytes or more").unwrap();
        prop_assert_ne!(other.open(&sealed), Some(bytes));
        prop_assert_eq!(key.open(&sealed[..15]), None);
    }
}
