//! The text format of `COPY … TO STDOUT`: rows end in a line feed, values in a tab, and backslashes
//! protect both.

use memchr::memchr2;

/// The line is not in the format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a malformed row of COPY")]
pub(crate) struct Malformed;

/// Calls `each` with every value of a line (without its line feed); `None` is NULL. `scratch` holds
/// values that had to be unescaped.
pub(crate) fn values(
    line: &[u8],
    scratch: &mut Vec<u8>,
    mut each: impl FnMut(Option<&[u8]>),
) -> Result<usize, Malformed> {
    let mut rest = Some(line);
    let mut count = 0;
    while let Some(bytes) = rest {
        count += 1;
        rest = match memchr2(b'\t', b'\\', bytes) {
            None => {
                each(Some(bytes));
                None
            }
            Some(end) if bytes[end] == b'\t' => {
                each(Some(&bytes[..end]));
                Some(&bytes[end + 1..])
            }
            Some(_) => match bytes.strip_prefix(b"\\N") {
                Some([]) => {
                    each(None);
                    None
                }
                Some([b'\t', after @ ..]) => {
                    each(None);
                    Some(after)
                }
                _ => {
                    let after = unescape(bytes, scratch)?;
                    each(Some(scratch));
                    after
                }
            },
        };
    }
    Ok(count)
}

/// Undoes the escapes of the first value; what follows its tab, if there is one.
fn unescape<'a>(bytes: &'a [u8], into: &mut Vec<u8>) -> Result<Option<&'a [u8]>, Malformed> {
    into.clear();
    let mut rest = bytes;
    while let Some(at) = memchr2(b'\t', b'\\', rest) {
        into.extend_from_slice(&rest[..at]);
        if rest[at] == b'\t' {
            return Ok(Some(&rest[at + 1..]));
        }
        into.push(match rest.get(at + 1).ok_or(Malformed)? {
            b'b' => 8,
            b't' => b'\t',
            b'n' => b'\n',
            b'v' => 11,
            b'f' => 12,
            b'r' => b'\r',
            other => *other,
        });
        rest = &rest[at + 2..];
    }
    into.extend_from_slice(rest);
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(line: &[u8]) -> Vec<Option<Vec<u8>>> {
        let mut values_read = Vec::new();
        let count = values(line, &mut Vec::new(), |v| values_read.push(v.map(<[u8]>::to_vec)));
        assert_eq!(count, Ok(values_read.len()));
        values_read
    }

    /// As the server does it.
    fn write(row: &[Option<Vec<u8>>]) -> Vec<u8> {
        let value = |v: &Option<Vec<u8>>| match v {
            None => b"\\N".to_vec(),
            Some(bytes) => bytes
                .iter()
                .flat_map(|b| match b {
                    8 => b"\\b".to_vec(),
                    b'\t' => b"\\t".to_vec(),
                    b'\n' => b"\\n".to_vec(),
                    11 => b"\\v".to_vec(),
                    12 => b"\\f".to_vec(),
                    b'\r' => b"\\r".to_vec(),
                    b'\\' => b"\\\\".to_vec(),
                    other => vec![*other],
                })
                .collect(),
        };
        row.iter().map(value).collect::<Vec<_>>().join(&b'\t')
    }

    #[test]
    fn null_is_not_the_text_that_looks_like_it() {
        assert_eq!(
            read(b"\\N\t\\\\N\t\tN"),
            [None, Some(b"\\N".to_vec()), Some(b"".to_vec()), Some(b"N".to_vec())]
        );
        assert!(values(b"a\\", &mut Vec::new(), |_| {}).is_err());
    }

    proptest! {
        #[test]
        fn what_the_server_escapes_reads_back(
            row in prop::collection::vec(
                prop::option::of(prop::collection::vec(prop_oneof![0u8..16, Just(b'\\'), Just(b'N'), any::<u8>()], 0..12)),
                1..6,
            )
        ) {
            prop_assert_eq!(read(&write(&row)), row);
        }

        #[test]
        fn garbage_never_panics(line in prop::collection::vec(any::<u8>(), 0..60)) {
            let _ = values(&line, &mut Vec::new(), |_| {});
        }
    }
}
