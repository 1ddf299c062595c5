//! SQL identifiers: the quoting that every SQL database understands.

/// Why a text is not a dotted path of identifiers.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no table name: {why}")]
pub struct IdentError {
    text: String,
    why: &'static str,
}

/// Reads `table`, `schema.table` or `"Odd schema"."Odd.table"` into its parts. Unquoted parts keep
/// their case and may hold anything but dots and quotes; a quote inside quotes is doubled.
pub fn parse_path(text: &str) -> Result<Vec<String>, IdentError> {
    let bad = |why| IdentError { text: text.into(), why };
    let mut parts = Vec::new();
    let mut rest = text;
    loop {
        let part;
        if let Some(quoted) = rest.strip_prefix('"') {
            (part, rest) = quoted_part(quoted).ok_or_else(|| bad("a quote is never closed"))?;
        } else {
            let end = rest.find(['.', '"']).unwrap_or(rest.len());
            part = rest[..end].to_string();
            rest = &rest[end..];
        }
        if part.is_empty() || part.contains('\0') {
            return Err(bad("a part is empty"));
        }
        parts.push(part);
        match rest.strip_prefix('.') {
            Some(next) => rest = next,
            None if rest.is_empty() => return Ok(parts),
            None => return Err(bad("a quoted part must be followed by a dot or by nothing")),
        }
    }
}

fn quoted_part(text: &str) -> Option<(String, &str)> {
    let mut part = String::new();
    let mut rest = text;
    loop {
        let end = rest.find('"')?;
        part.push_str(&rest[..end]);
        rest = &rest[end + 1..];
        match rest.strip_prefix('"') {
            Some(next) => {
                part.push('"');
                rest = next;
            }
            None => return Some((part, rest)),
        }
    }
}

/// A table's parts without the schema that is meant when none is written, so that `public.t` and
/// `t` are taken for one. What is no path is one part.
pub fn plain_path(table: &str) -> Vec<String> {
    let mut parts = parse_path(table).unwrap_or_else(|_| vec![table.to_string()]);
    if parts.len() == 2 && matches!(parts[0].as_str(), "public" | "main") {
        parts.remove(0);
    }
    parts
}

/// An identifier in double quotes, safe to put into SQL.
pub fn quote(ident: &str) -> String {
    format!("\"{}\"", ident.replace('"', "\"\""))
}

/// A dotted path with every part quoted.
pub fn quote_path<S: AsRef<str>>(parts: &[S]) -> String {
    parts.iter().map(|p| quote(p.as_ref())).collect::<Vec<_>>().join(".")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn paths_split_at_dots_outside_quotes() {
        assert_eq!(parse_path("public.customers").unwrap(), ["public", "customers"]);
        assert_eq!(parse_path("\"a.b\".\"c\"\"d\"").unwrap(), ["a.b", "c\"d"]);
        assert_eq!(parse_path("Grüße 🎉").unwrap(), ["Grüße 🎉"]);
        for bad in ["", ".", "a.", ".a", "\"a", "\"a\"b", "\"\"", "a\"b"] {
            assert!(parse_path(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn what_is_quoted_reads_back(parts in prop::collection::vec("[^\0]{1,8}", 1..4)) {
            prop_assert_eq!(parse_path(&quote_path(&parts)).unwrap(), parts);
        }
    }
}
