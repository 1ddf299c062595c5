//! Which columns the server's expressions read.

/// Whether an expression, as the server prints it, may read the column. It errs towards yes: a
/// function of the column's name counts as the column.
pub(super) fn reads(expression: &str, column: &str) -> bool {
    let mut rest = expression;
    while let Some(first) = rest.chars().next() {
        if first == '\'' || first == '"' {
            let (word, after) = quoted(rest, first);
            if first == '"' && word == column {
                return true;
            }
            rest = after;
            continue;
        }
        let part = |c: char| c.is_alphanumeric() || matches!(c, '_' | '$');
        let end = rest.find(|c| !part(c)).unwrap_or(rest.len());
        if end == 0 {
            rest = &rest[first.len_utf8()..];
            continue;
        }
        if rest[..end] == *column {
            return true;
        }
        rest = &rest[end..];
    }
    false
}

/// A quoted word, its doubled quotes single, and what follows it.
fn quoted(text: &str, quote: char) -> (String, &str) {
    let mut word = String::new();
    let mut rest = &text[1..];
    while let Some(at) = rest.find(quote) {
        word.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if !rest.starts_with(quote) {
            return (word, rest);
        }
        word.push(quote);
        rest = &rest[1..];
    }
    (word, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_column_is_found_bare_and_quoted_and_not_in_a_literal() {
        for (expression, column) in [
            ("lower(email)", "email"),
            ("((a + b))::text", "b"),
            ("(\"Odd \"\"name\"\"\" || 'x'::text)", "Odd \"name\""),
            ("('it''s'::text || email)", "email"),
            ("(\"größe\" * 2)", "größe"),
        ] {
            assert!(reads(expression, column), "{expression}");
        }
        for (expression, column) in [
            ("lower(email)", "mail"),
            ("(e_mail || 'email'::text)", "email"),
            ("('\"email\"'::text || name)", "email"),
            ("(\"Email\" || name)", "email"),
            ("'unclosed", "unclosed"),
        ] {
            assert!(!reads(expression, column), "{expression}");
        }
    }
}
