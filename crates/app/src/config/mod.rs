//! `rowcast.toml`: read, expanded and checked, with every problem at once.

mod expand;
mod file;
mod filter;
mod from;
mod log;
mod mask;
mod plan;
mod problem;
mod retain;
mod rules;
mod secret;
mod server;
mod suggest;
mod tree;

pub(crate) use plan::{Plan, PlannedRoute, PlannedService};
pub(crate) use problem::{Problems, SourceFile, Weight};
pub(crate) use secret::{Secret, without_passwords};
pub(crate) use suggest::nearest;

use expand::Environment;
use file::Config;
use problem::Place;
use rowcast_server::Tls;
use std::path::Path;
use toml::de::DeTable;
use tree::{Reader, Section};

/// A file that may be used: what it says, and what somebody should know about it.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub(crate) plan: Plan,
    pub(crate) file: SourceFile,
    pub(crate) warnings: Problems,
}

impl Loaded {
    /// Opens the files of `[server] tls`, which the other commands leave alone: they may be for the
    /// eyes of whoever runs the instance only. `untimely` is how bad it is that the certificate has
    /// expired or has not begun.
    pub(crate) fn tls(&mut self, untimely: Weight) -> Result<Option<Tls>, ConfigError> {
        let Some(files) = &self.plan.tls else { return Ok(None) };
        let mut problems = self.warnings.clone();
        let tls = files.open(untimely, &mut problems);
        if problems.errors() > 0 {
            return Err(ConfigError::Wrong { file: self.file.clone(), problems });
        }
        self.warnings = problems;
        Ok(tls)
    }
}

/// Why there is no plan.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    #[error("there is no {0}")]
    Missing(String),
    #[error("{name} cannot be read")]
    Unreadable { name: String, source: std::io::Error },
    #[error("{} has {}", .file.name, count(.problems.errors(), "mistake"))]
    Wrong { file: SourceFile, problems: Problems },
}

/// `1 mistake`, `5 mistakes`.
pub(crate) fn count(n: usize, what: &str) -> String {
    if n == 1 { format!("1 {what}") } else { format!("{n} {what}s") }
}

/// Reads a file with the process's environment.
pub(crate) fn load(path: &Path) -> Result<Loaded, ConfigError> {
    let name = path.display().to_string();
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            return Err(ConfigError::Missing(name));
        }
        Err(source) => return Err(ConfigError::Unreadable { name, source }),
    };
    let base = path.parent().unwrap_or(Path::new(""));
    read(SourceFile { name, text }, base, &|name| std::env::var(name).ok())
}

/// Reads a file's text; paths in it are relative to `base`.
pub(crate) fn read(
    file: SourceFile,
    base: &Path,
    env: Environment<'_>,
) -> Result<Loaded, ConfigError> {
    let (document, errors) = DeTable::parse_recoverable(&file.text);
    let mut reader = Reader { text: &file.text, env, problems: Problems::default() };
    if !errors.is_empty() {
        for error in errors {
            let at = Place { span: error.span().unwrap_or_default(), path: String::new() };
            let help = "the rest of the file is checked once this can be read";
            reader.problems.error(&at, error.message(), help);
        }
        drop(document);
        return Err(ConfigError::Wrong { problems: reader.problems, file });
    }
    let config = Config::read(Section::new(document.into_inner(), Place::default()), &mut reader);
    let mut problems = reader.problems;
    config.check(&mut problems);
    let plan = Plan::new(config, base, &mut problems);
    if problems.errors() > 0 {
        return Err(ConfigError::Wrong { file, problems });
    }
    Ok(Loaded { plan, file, warnings: problems })
}

#[cfg(test)]
mod tests;
