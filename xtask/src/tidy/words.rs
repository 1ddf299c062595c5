//! Words that do not merge: promises to oneself, and traces of one machine.

use super::SourceFile;

/// Spelled in halves, so that this list is clean itself.
const PROMISES: &[&str] = &[concat!("FIX", "ME"), concat!("TO", "DO"), concat!("XX", "X")];
const TRACES: &[&str] = &[
    concat!("/ro", "ot/"),
    concat!("/wo", "rk/"),
    concat!("/ho", "me/"),
    concat!("/t", "mp/"),
    concat!("crates", ".io/"),
    concat!("npm", "js."),
    concat!("py", "pi.org"),
    concat!("deb.", "debian.org"),
    concat!("proxy.", "golang.org"),
];
/// Written by cargo, not by us.
const LOCK: &str = "Cargo.lock";

pub(super) fn look(files: &[SourceFile], findings: &mut Vec<String>) {
    for file in files.iter().filter(|file| file.path != LOCK && file.path != "LICENSE") {
        for (index, line) in file.text.lines().enumerate() {
            let place = format!("{}:{}", file.path, index + 1);
            if let Some(word) = PROMISES.iter().find(|word| has_word(line, word)) {
                findings.push(format!("{place}: {word} does not merge"));
            }
            if let Some(trace) = TRACES.iter().find(|trace| line.contains(**trace)) {
                findings.push(format!("{place}: {trace} is about one machine or its registry"));
            }
        }
    }
}

fn has_word(line: &str, word: &str) -> bool {
    let letter = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
    line.match_indices(word).any(|(at, _)| {
        !letter(line[..at].chars().next_back()) && !letter(line[at + word.len()..].chars().next())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_counts_only_alone() {
        let word = PROMISES[1];
        assert!(has_word(&format!("// {word}: later"), word));
        assert!(!has_word(&format!("{word}S and MY_{word}"), word));
    }
}
