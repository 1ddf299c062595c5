//! Just enough of Rust's grammar to tell code from text.

/// The source with the inside of comments, strings and character literals blanked out. Lines stay.
pub(super) fn code(source: &str) -> String {
    let text: Vec<char> = source.chars().collect();
    let mut out = String::with_capacity(source.len());
    let mut at = 0;
    while at < text.len() {
        let end = skip(&text, at);
        if end == at {
            out.push(text[at]);
            at += 1;
        } else {
            out.extend(text[at..end].iter().map(|c| if *c == '\n' { '\n' } else { ' ' }));
            at = end;
        }
    }
    out
}

/// The end of the comment or literal that begins at `at`; `at` when none does.
fn skip(text: &[char], at: usize) -> usize {
    let next = |offset: usize| text.get(at + offset).copied().unwrap_or('\0');
    let in_word = at > 0 && (text[at - 1].is_alphanumeric() || text[at - 1] == '_');
    match text[at] {
        '/' if next(1) == '/' => until(text, at, |at| text[at] == '\n'),
        '/' if next(1) == '*' => block_comment(text, at),
        '"' => quoted(text, at),
        'r' if !in_word || next_is_byte_prefix(text, at) => raw(text, at),
        '\'' if next(1) == '\\' => until(text, at + 3, |at| text[at] == '\'') + 1,
        // A lifetime has no quote behind its first character.
        '\'' if next(2) == '\'' => at + 3,
        _ => at,
    }
    .min(text.len())
}

fn next_is_byte_prefix(text: &[char], at: usize) -> bool {
    let alone = at < 2 || !(text[at - 2].is_alphanumeric() || text[at - 2] == '_');
    alone && matches!(text[at - 1], 'b' | 'c')
}

fn until(text: &[char], from: usize, stop: impl Fn(usize) -> bool) -> usize {
    (from..text.len()).find(|at| stop(*at)).unwrap_or(text.len())
}

fn block_comment(text: &[char], at: usize) -> usize {
    let mut depth = 0;
    let mut at = at;
    while at + 1 < text.len() {
        match (text[at], text[at + 1]) {
            ('/', '*') => depth += 1,
            ('*', '/') => depth -= 1,
            _ => {
                at += 1;
                continue;
            }
        }
        at += 2;
        if depth == 0 {
            return at;
        }
    }
    text.len()
}

fn quoted(text: &[char], at: usize) -> usize {
    let mut at = at + 1;
    while at < text.len() {
        match text[at] {
            '\\' => at += 2,
            '"' => return at + 1,
            _ => at += 1,
        }
    }
    text.len()
}

/// `r"…"`, `r#"…"#`, and so on; not `r#name`.
fn raw(text: &[char], at: usize) -> usize {
    let hashes = text[at + 1..].iter().take_while(|c| **c == '#').count();
    if text.get(at + 1 + hashes) != Some(&'"') {
        return at;
    }
    let closes = |at: usize| {
        text[at] == '"'
            && text[at + 1..].iter().take(hashes).filter(|c| **c == '#').count() == hashes
    };
    until(text, at + 2 + hashes, closes) + 1 + hashes
}

/// A function's name, the line it begins on (counted from 1) and how many lines it takes.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Function {
    pub(super) name: String,
    pub(super) line: usize,
    pub(super) lines: usize,
}

/// All functions with a body in blanked-out code.
pub(super) fn functions(code: &str) -> Vec<Function> {
    let mut found = Vec::new();
    let mut line = 1;
    let mut at = 0;
    for word in code.split_inclusive(|c: char| !(c.is_alphanumeric() || c == '_')) {
        let keyword = word.strip_suffix(|c: char| c == ' ');
        if keyword == Some("fn")
            && let Some(lines) = body_lines(&code[at..])
        {
            let rest = &code[at + word.len()..];
            let name = rest.split(|c: char| !(c.is_alphanumeric() || c == '_')).next();
            found.push(Function { name: name.unwrap_or_default().to_owned(), line, lines });
        }
        line += word.matches('\n').count();
        at += word.len();
    }
    found
}

/// Lines from `fn` to its closing brace; `None` for a declaration without a body.
fn body_lines(code: &str) -> Option<usize> {
    let mut depth = 0_usize;
    let mut nested = 0_usize;
    for (at, c) in code.char_indices() {
        match c {
            '(' | '[' => nested += 1,
            ')' | ']' => nested = nested.saturating_sub(1),
            ';' if depth == 0 && nested == 0 => return None,
            '{' => depth += 1,
            '}' => {
                depth = depth.checked_sub(1)?;
                if depth == 0 && nested == 0 {
                    return Some(code[..at].matches('\n').count() + 1);
                }
            }
            _ => {}
        }
    }
    None
}

/// The code without its test modules: from `#[cfg(test)]` to the end of the item's braces.
pub(super) fn without_tests(code: &str) -> String {
    let mut out = String::new();
    let mut rest = code;
    while let Some(at) = rest.find("#[cfg(test)]") {
        out.push_str(&rest[..at]);
        let item = &rest[at..];
        let semicolon = item.find(';').unwrap_or(item.len());
        let brace = item.find('{').unwrap_or(item.len());
        let end = if semicolon < brace { semicolon } else { closing(item, brace) };
        out.extend(item[..end].matches('\n'));
        rest = &item[end..];
    }
    out + rest
}

fn closing(code: &str, from: usize) -> usize {
    let mut depth = 0_usize;
    for (at, c) in code[from..].char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 1 => return from + at + 1,
            '}' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    code.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_blanked_out_and_code_stays() {
        let source = r##"let a = "fn {"; /* { /* } */ */ let b = '{'; // }
let c: &'static str = r#"}"{"#; let d = b'\''; r#fn(b"{\"{");"##;
        let code = code(source);
        assert!(!code.contains(['{', '}', '"']), "{code}");
        assert!(code.contains("&'static str") && code.contains("r#fn("));
        assert_eq!(code.lines().count(), 2);
    }

    #[test]
    fn functions_are_measured_with_what_lies_within() {
        let source =
            "trait T { fn no(&self); }\nfn yes(a: [u8; 2])\nwhere\n{\n    fn inner() {}\n}\n";
        let found = functions(source);
        let named: Vec<_> = found.iter().map(|f| (f.name.as_str(), f.line, f.lines)).collect();
        assert_eq!(named, [("yes", 2, 5), ("inner", 5, 1)]);
    }

    #[test]
    fn test_modules_are_left_out() {
        let source = "a\n#[cfg(test)]\nmod tests {\n fn b() { }\n}\nc\n#[cfg(test)]\nmod d;\ne";
        let left = without_tests(source);
        assert!(left.contains('a') && left.contains('c') && left.contains('e'));
        assert!(!left.contains('b') && !left.contains("mod d"));
        assert_eq!(left.lines().count(), source.lines().count());
    }
}
