//! What must not be shown.

use std::fmt;

/// A value that never prints itself.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Secret<T>(T);

impl<T> Secret<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(value)
    }

    /// The value, for the one place that needs it.
    pub(crate) fn reveal(&self) -> &T {
        &self.0
    }
}

impl<T> fmt::Debug for Secret<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// A text with the passwords of all URLs in it replaced: `scheme://user:***@host`, and
/// `password=***` among the parameters. What stands in `${…}` is a name, not a secret, and stays.
pub(crate) fn without_passwords(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let (head, tail) = rest.split_at(at + 3);
        out.push_str(head);
        let word = tail.find(['"', '\'', ' ']).unwrap_or(tail.len());
        // The last `@`, because a password may hold one. Better to hide too much than too little.
        let login = tail[..word].rfind('@').map_or("", |i| &tail[..i]);
        match login.split_once(':') {
            Some((user, password)) => {
                let shown = if is_variable(password) { password } else { "***" };
                out.push_str(&format!("{user}:{shown}"));
            }
            None => out.push_str(login),
        }
        rest = &tail[login.len()..];
    }
    out.push_str(rest);
    without_tokens(&without_parameters(&out))
}

fn is_variable(text: &str) -> bool {
    text.starts_with("${") && text.find('}') == Some(text.len() - 1) && !text.contains(":-")
}

/// A line of the file without the secret of `mask_key`, when it holds one, a little misspelt or not.
/// What follows the secret is left out too: the line may be malformed.
pub(crate) fn without_mask_key(line: &str) -> Option<String> {
    let begin = line.find("mask_k").or_else(|| line.find("mask-k"))?;
    let word = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-');
    let end = line[begin..].find(|c| !word(c)).map_or(line.len(), |at| begin + at);
    let value = line[end..].trim_start_matches(['"', '\'', ' ', '\t', '=']);
    let secret = value.split(['"', '\'']).next().unwrap_or_default();
    let shown = secret.is_empty() || is_variable(secret);
    (!shown).then(|| format!("{} = ***", &line[..end]))
}

fn without_parameters(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("password=") {
        let (head, tail) = rest.split_at(at + "password=".len());
        out.push_str(head);
        let end = tail.find(['&', '"', '\'', ' ']).unwrap_or(tail.len());
        let shown = if is_variable(&tail[..end]) { &tail[..end] } else { "***" };
        out.push_str(shown);
        rest = &tail[end..];
    }
    out.push_str(rest);
    out
}

/// `token = "***"`, as the file writes it.
fn without_tokens(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("token") {
        let (head, tail) = rest.split_at(at + "token".len());
        out.push_str(head);
        rest = tail;
        let value = tail.trim_start_matches(['"', '\'', ' ', '\t']).strip_prefix('=');
        let Some(value) = value.map(|v| v.trim_start_matches([' ', '\t'])) else { continue };
        let Some(quote) = value.chars().next().filter(|c| matches!(c, '"' | '\'')) else {
            continue;
        };
        let end = value[1..].find(quote).map_or(value.len(), |end| end + 1);
        let shown = if is_variable(&value[1..end]) { &value[1..end] } else { "***" };
        out.push_str(&tail[..tail.len() - value.len() + 1]);
        out.push_str(shown);
        rest = &value[end..];
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_in_urls_are_not_shown() {
        for (text, shown) in [
            ("postgres://a:geheim@h:5432/d", "postgres://a:***@h:5432/d"),
            (
                "database = \"postgres://a:p@ss/w:rd@h/d\" # x",
                "database = \"postgres://a:***@h/d\" # x",
            ),
            ("postgres://a:${PW}@h/d", "postgres://a:${PW}@h/d"),
            ("postgres://a:${PW:-geheim}@h/d", "postgres://a:***@h/d"),
            ("postgres://a@h:5432/d", "postgres://a@h:5432/d"),
            (
                "postgres://h:5432/d?user=a&password=geheim&x=1",
                "postgres://h:5432/d?user=a&password=***&x=1",
            ),
            ("sqlite:customers.db", "sqlite:customers.db"),
            ("a://b:c@d e://f:g@h", "a://b:***@d e://f:***@h"),
            (
                "tokens = [{ name = \"a\", token = \"geheim\" }]",
                "tokens = [{ name = \"a\", token = \"***\" }]",
            ),
            ("\"token\"='geheim', x", "\"token\"='***', x"),
            ("token = \"geheim", "token = \"***"),
            ("token = \"${T}\" # token", "token = \"${T}\" # token"),
        ] {
            assert_eq!(without_passwords(text), shown);
        }
    }

    #[test]
    fn a_mask_key_is_not_shown() {
        for line in [
            "mask_key = \"geheim\" # x",
            "mask_key='geheim",
            "service.a = { \"mask_key\" = \"${X:-geheim}\", x = 1 }",
        ] {
            let shown = without_mask_key(line).expect("it holds one");
            assert!(shown.ends_with("mask_key = ***") && !shown.contains("geheim"), "{shown}");
        }
        assert_eq!(without_mask_key("mask_key = \"${MASK_KEY}\""), None);
        assert_eq!(without_mask_key("table = \"t\""), None);
    }

    #[test]
    fn a_secret_does_not_print_itself() {
        assert_eq!(format!("{:?}", Secret::new("geheim")), "***");
    }
}
