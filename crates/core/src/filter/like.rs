//! `LIKE`: `%` stands for any text, `_` for one character.

/// A pattern, ready to be compared.
#[derive(Debug, Clone)]
pub(super) struct Pattern {
    parts: Vec<Part>,
    fold: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    One,
    Many,
    This(char),
}

/// A character in lower case, where that is one character too.
pub(super) fn lower(c: char) -> char {
    let mut lower = c.to_lowercase();
    match (lower.next(), lower.next()) {
        (Some(one), None) => one,
        _ => c,
    }
}

/// A character in upper case, where that is one character too.
pub(super) fn upper(c: char) -> char {
    let mut upper = c.to_uppercase();
    match (upper.next(), upper.next()) {
        (Some(one), None) => one,
        _ => c,
    }
}

impl Pattern {
    /// `None` when it ends with the escape character, which has nothing to escape there. With `fold`
    /// case does not count.
    pub(super) fn new(text: &str, escape: Option<char>, fold: bool) -> Option<Self> {
        let folded = |c| if fold { lower(c) } else { c };
        let mut parts = Vec::new();
        let mut chars = text.chars();
        while let Some(c) = chars.next() {
            let part = match c {
                c if Some(c) == escape => Part::This(folded(chars.next()?)),
                '%' => Part::Many,
                '_' => Part::One,
                c => Part::This(folded(c)),
            };
            if part != Part::Many || parts.last() != Some(&Part::Many) {
                parts.push(part);
            }
        }
        Some(Self { parts, fold })
    }

    pub(super) fn matches(&self, text: &str) -> bool {
        let folded = |c| if self.fold { lower(c) } else { c };
        let text: Vec<char> = text.chars().map(folded).collect();
        let (mut at, mut part) = (0, 0);
        // Where to go on when what followed the last `%` does not fit: one character later.
        let mut again = None;
        while at < text.len() {
            match self.parts.get(part) {
                Some(Part::Many) => {
                    again = Some((at, part + 1));
                    part += 1;
                    continue;
                }
                Some(Part::One) => {}
                Some(Part::This(c)) if *c == text[at] => {}
                Some(Part::This(_)) | None => {
                    let Some((from, then)) = again else { return false };
                    again = Some((from + 1, then));
                    (at, part) = (from + 1, then);
                    continue;
                }
            }
            at += 1;
            part += 1;
        }
        self.parts[part..].iter().all(|p| *p == Part::Many)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_fit_what_they_say() {
        for (text, pattern, fits) in [
            ("abc", "abc", true),
            ("abc", "ab", false),
            ("abc", "a%", true),
            ("abc", "%c", true),
            ("abc", "a_c", true),
            ("abc", "____", false),
            ("", "%", true),
            ("", "_", false),
            ("aXbXc", "%X%c", true),
            ("mississippi", "%iss%pp_", true),
            ("ü", "_", true),
            ("50%", "50\\%", true),
            ("500", "50\\%", false),
        ] {
            let pattern = Pattern::new(pattern, Some('\\'), false).unwrap();
            assert_eq!(pattern.matches(text), fits, "{text:?} {pattern:?}");
        }
        assert!(Pattern::new("ÄB%", Some('\\'), true).unwrap().matches("äbc"));
        assert!(Pattern::new("a\\", Some('\\'), false).is_none());
        assert!(Pattern::new("a\\", None, false).unwrap().matches("a\\"));
    }
}
