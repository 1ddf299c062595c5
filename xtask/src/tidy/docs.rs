//! Links lead somewhere, and every error code has its page.

use super::SourceFile;
use anyhow::{Context, Result};
use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

const CODES: &str = "crates/core/src/remedy.rs";
const PAGES: &str = "docs/errors/";

pub(super) fn look(files: &[SourceFile], findings: &mut Vec<String>) -> Result<()> {
    pages(files, findings)?;
    for file in files.iter().filter(|file| file.has_extension("md")) {
        for (line, link) in links(&file.text) {
            if let Some(trouble) = trouble(files, file, link)? {
                findings.push(format!("{}:{line}: {link}: {trouble}", file.path));
            }
        }
    }
    Ok(())
}

fn pages(files: &[SourceFile], findings: &mut Vec<String>) -> Result<()> {
    let source = files.iter().find(|file| file.path == CODES);
    let source = source.with_context(|| format!("{CODES} is missing"))?;
    let codes: BTreeSet<&str> = source
        .text
        .lines()
        .filter_map(|line| line.trim().strip_suffix("\",")?.split_once(" = \""))
        .map(|(_, code)| code)
        .collect();
    if codes.is_empty() {
        findings.push(format!("{CODES}: tidy finds no error codes there any more"));
    }
    let written: BTreeSet<&str> = files
        .iter()
        .filter_map(|file| file.path.strip_prefix(PAGES)?.strip_suffix(".md"))
        .filter(|name| *name != "README")
        .collect();
    for code in codes.difference(&written) {
        findings.push(format!("{PAGES}{code}.md: missing; say there what to do about {code}"));
    }
    for page in written.difference(&codes) {
        findings.push(format!("{PAGES}{page}.md: there is no such code"));
    }
    Ok(())
}

/// Every inline link of a Markdown text, with its line, outside of code.
fn links(text: &str) -> Vec<(usize, &str)> {
    let mut found = Vec::new();
    let mut fenced = false;
    for (index, line) in text.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        }
        if fenced {
            continue;
        }
        for (at, _) in line.match_indices("](") {
            let in_code = line[..at].matches('`').count() % 2 == 1;
            if let Some(end) = line[at..].find(')').filter(|_| !in_code) {
                found.push((index + 1, &line[at + 2..at + end]));
            }
        }
    }
    found
}

/// What is wrong with a link; web addresses are not followed.
fn trouble(files: &[SourceFile], from: &SourceFile, link: &str) -> Result<Option<&'static str>> {
    if link.contains("://") || link.starts_with("mailto:") {
        return Ok(None);
    }
    let (path, anchor) = link.split_once('#').unwrap_or((link, ""));
    let target = if path.is_empty() {
        PathBuf::from(&from.path)
    } else {
        let dir = Path::new(&from.path).parent().unwrap_or(Path::new(""));
        match resolve(&dir.join(path)) {
            Some(target) => target,
            None => return Ok(Some("leads out of the project")),
        }
    };
    if !crate::root()?.join(&target).exists() {
        return Ok(Some("leads nowhere"));
    }
    let page = files.iter().find(|file| Path::new(&file.path) == target);
    let Some(page) = page.filter(|page| !anchor.is_empty() && page.has_extension("md")) else {
        return Ok(None);
    };
    let known = headings(&page.text).any(|heading| heading == anchor);
    Ok((!known).then_some("there is no such heading"))
}

fn resolve(path: &Path) -> Option<PathBuf> {
    let mut resolved = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir if !resolved.pop() => return None,
            Component::ParentDir | Component::CurDir => {}
            part => resolved.push(part),
        }
    }
    Some(resolved)
}

/// The anchors that readers of Markdown make from headings.
fn headings(text: &str) -> impl Iterator<Item = String> {
    text.lines().filter_map(|line| {
        let title = line.strip_prefix('#')?.trim_start_matches('#').strip_prefix(' ')?;
        let letters = title.trim().to_lowercase().replace(' ', "-");
        Some(letters.chars().filter(|c| c.is_alphanumeric() || matches!(c, '-' | '_')).collect())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_found_outside_of_code() {
        let text = "see [a](b.md#c) and `[x](y)`\n```\n[no](z)\n```\n[d](#e)";
        assert_eq!(links(text), [(1, "b.md#c"), (5, "#e")]);
    }

    #[test]
    fn headings_become_anchors() {
        let text = "# The `rowcast` file\n## Why, how?";
        assert_eq!(headings(text).collect::<Vec<_>>(), ["the-rowcast-file", "why-how"]);
    }

    #[test]
    fn a_link_cannot_leave_the_project() {
        assert_eq!(resolve(Path::new("docs/../README.md")), Some(PathBuf::from("README.md")));
        assert_eq!(resolve(Path::new("docs/../../x")), None);
    }
}
