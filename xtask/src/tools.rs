//! What the tests need from the machine, and how to come by it.

use crate::run::must;
use anyhow::{Result, bail};
use rowcast_testkit::postgres::BIN_DIR_VARIABLE as POSTGRES_VARIABLE;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const PACKAGES: &[&str] = &["postgresql", "postgresql-contrib", "sqlite3", "openssl", "pgbouncer"];
/// Where Debian puts it, which not everybody's PATH names.
const PGBOUNCER: &str = "/usr/sbin/pgbouncer";
/// Brings PostgreSQL's other versions. Debian's drags in a hundred others: only where there is none.
const NPM: &str = "npm";

/// Makes sure that everything is there, by installing it where that is possible.
pub(crate) fn ensure(with_postgres: bool) -> Result<()> {
    let missing = missing(with_postgres);
    if missing.is_empty() {
        return Ok(());
    }
    eprintln!("the tests need {}, which this machine lacks", missing.join(", "));
    if on_path("apt-get").is_none() {
        bail!("{}", instructions(&missing));
    }
    let Some(become_root) = become_root() else { bail!("{}", instructions(&missing)) };
    let apt = |arguments: &[&str]| {
        let words = [become_root, &["env", "DEBIAN_FRONTEND=noninteractive", "apt-get"], arguments];
        let words = words.concat();
        must(Command::new(words[0]).args(&words[1..]).stdin(Stdio::null()))
    };
    apt(&["update"])?;
    let npm: &[&str] = if missing.contains(&NPM) { &[NPM] } else { &[] };
    apt(&[&["install", "--yes", "--no-install-recommends"], PACKAGES, npm].concat())?;
    let missing = self::missing(with_postgres);
    if !missing.is_empty() {
        bail!("{}", instructions(&missing));
    }
    Ok(())
}

/// The first directory of PATH that holds `program`.
pub(crate) fn on_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|dir| dir.join(program)).find(|file| file.is_file())
}

fn missing(with_postgres: bool) -> Vec<&'static str> {
    let mut missing = Vec::new();
    if !["cc", "gcc", "clang"].iter().any(|name| on_path(name).is_some()) {
        missing.push("a C compiler");
    }
    if on_path("sqlite3").is_none() {
        missing.push("the sqlite3 shell");
    }
    if with_postgres && on_path("openssl").is_none() {
        missing.push("openssl");
    }
    if with_postgres && on_path("pgbouncer").is_none() && !Path::new(PGBOUNCER).is_file() {
        missing.push("pgbouncer");
    }
    if with_postgres && on_path("npm").is_none() {
        missing.push(NPM);
    }
    if with_postgres && !has_postgres() {
        missing.push("a PostgreSQL server");
    }
    missing
}

/// Looks where the tests will look.
fn has_postgres() -> bool {
    let is_bin = |dir: &Path| dir.join("postgres").is_file() && dir.join("initdb").is_file();
    if let Some(dir) = std::env::var_os(POSTGRES_VARIABLE) {
        return is_bin(Path::new(&dir));
    }
    let packaged = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let configured = crate::run::output(Command::new("pg_config").arg("--bindir")).ok();
    packaged
        .map(|version| version.path().join("bin"))
        .chain(configured.map(|dir| PathBuf::from(dir.trim())))
        .chain(on_path("postgres").and_then(|file| file.parent().map(Path::to_owned)))
        .any(|dir| is_bin(&dir))
}

/// What to put before a command so that root runs it; `None` when that would need a password.
fn become_root() -> Option<&'static [&'static str]> {
    let answers = |program: &str, arguments: &[&str]| {
        crate::run::output(Command::new(program).args(arguments)).ok()
    };
    if answers("id", &["-u"])?.trim() == "0" {
        return Some(&[]);
    }
    answers("sudo", &["-n", "true"]).map(|_| &["sudo", "-n"][..])
}

fn instructions(missing: &[&str]) -> String {
    format!(
        "please install {}:\n  \
         Debian, Ubuntu  sudo apt-get install build-essential {}\n  \
         Fedora          sudo dnf install gcc postgresql-server postgresql-contrib sqlite openssl npm\n  \
         macOS           xcode-select --install; brew install postgresql@17 sqlite openssl node\n\
         or set {POSTGRES_VARIABLE} to a directory that holds `postgres` and `initdb`.\n\
         `cargo xtask test --offline` leaves out the tests that need a server.",
        missing.join(", "),
        PACKAGES.join(" ")
    )
}
