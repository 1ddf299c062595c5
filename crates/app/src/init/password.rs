//! A password that is typed at a terminal, for addresses that have none.

use crate::config::Secret;
use crate::output::Output;
use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
use std::io::{self, BufRead, IsTerminal};

/// The address with a password: its own, or the one that somebody types. Without a terminal, and when
/// nothing is typed, it stays as it is.
pub(super) fn completed(url: &Secret<String>, output: Output) -> Secret<String> {
    let url = url.reveal();
    let there = std::env::var_os("PGPASSWORD").is_some() || !io::stdin().is_terminal();
    let typed = lacks_password(url).filter(|_| !there).and_then(|user| typed(user, output));
    Secret::new(match typed {
        Some(password) => with(url, &password),
        None => url.clone(),
    })
}

/// The user of an address that names a user and no password.
fn lacks_password(url: &str) -> Option<&str> {
    let (_, rest) = url.split_once("://").filter(|(s, _)| s.starts_with("postgres"))?;
    let (user, _) = rest.split_once('@')?;
    (!user.is_empty() && !user.contains([':', '/', '?'])).then_some(user)
}

fn with(url: &str, password: &str) -> String {
    let encoded: String = password
        .bytes()
        .map(|b| match b {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                char::from(b).to_string()
            }
            _ => format!("%{b:02X}"),
        })
        .collect();
    url.replacen('@', &format!(":{encoded}@"), 1)
}

/// What somebody types, unseen.
fn typed(user: &str, output: Output) -> Option<String> {
    let stdin = io::stdin();
    let before = tcgetattr(&stdin).ok()?;
    let mut hidden = before.clone();
    hidden.local_modes.remove(LocalModes::ECHO);
    hidden.local_modes.insert(LocalModes::ECHONL);
    output.ask(&format!("Password of {user}, or nothing if it needs none: "));
    tcsetattr(&stdin, OptionalActions::Flush, &hidden).ok()?;
    let mut line = String::new();
    let read = stdin.lock().read_line(&mut line);
    let shown = tcsetattr(&stdin, OptionalActions::Flush, &before);
    let password = line.trim_end_matches(['\r', '\n']);
    (read.is_ok() && shown.is_ok() && !password.is_empty()).then(|| password.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_address_with_a_user_and_no_password_lacks_one() {
        assert_eq!(lacks_password("postgres://me@h/d"), Some("me"));
        for url in
            ["postgres://me:x@h/d", "postgres://h/d", "sqlite:a@b.db", "postgres:///d?user=a@b"]
        {
            assert_eq!(lacks_password(url), None, "{url}");
        }
        assert_eq!(with("postgres://me@h/d", "a:b@/ü"), "postgres://me:a%3Ab%40%2F%C3%BC@h/d");
    }
}
