//! Did you mean …?
//!
//! One way of offering names, for the configuration, the command line and the API alike.

/// The candidate that somebody who typed `word` most likely meant, if any is near enough.
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let folded = word.to_lowercase();
    let distance = |c: &str| strsim::damerau_levenshtein(&folded, &c.to_lowercase());
    let near = (word.chars().count() / 3).max(1);
    candidates
        .into_iter()
        .map(|c| (distance(c), c))
        .filter(|(d, _)| *d <= near)
        .min_by_key(|(d, _)| *d)
        .map(|(_, c)| c)
}

/// A sentence that offers the nearest candidate, or else lists all of them.
pub fn advice<'a>(word: &str, what: &str, candidates: impl IntoIterator<Item = &'a str>) -> String {
    let mut candidates: Vec<&str> = candidates.into_iter().collect();
    // Several copies of one entity are one candidate.
    let mut seen = std::collections::HashSet::new();
    candidates.retain(|c| seen.insert(*c));
    match nearest(word, candidates.iter().copied()) {
        Some(near) => format!("did you mean `{near}`?"),
        None if candidates.is_empty() => "there are none".into(),
        None => format!("{what} are {}", listed(&candidates)),
    }
}

/// `a`, `b` and `c`; long lists are cut.
pub fn listed(names: &[&str]) -> String {
    const SHOWN: usize = 12;
    let mut quoted: Vec<String> = names.iter().take(SHOWN).map(|n| format!("`{n}`")).collect();
    if names.len() > SHOWN {
        quoted.push(format!("{} more", names.len() - SHOWN));
    }
    match quoted.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, rest)) => format!("{} and {last}", rest.join(", ")),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_finds_what_was_meant_and_a_guess_lists_all() {
        let keys = ["table", "fields", "chain"];
        assert_eq!(advice("tabel", "keys", keys), "did you mean `table`?");
        assert_eq!(advice("Fields", "keys", keys), "did you mean `fields`?");
        assert_eq!(advice("where", "keys", keys), "keys are `table`, `fields` and `chain`");
        assert_eq!(advice("x", "its entities", []), "there are none");
        assert_eq!(advice("where", "its entities", ["t", "t"]), "its entities are `t`");
    }
}
