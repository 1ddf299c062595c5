//! Which PostgreSQL to run, and as whom.

use rand::Rng;
use std::ffi::OsStr;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, OnceLock};
use std::time::{SystemTime, UNIX_EPOCH};

/// Environment variable naming the directory whose `postgres` and `initdb` to use.
pub const BIN_DIR_VARIABLE: &str = "ROWCAST_TEST_POSTGRES";

/// Environment variable naming the directory with the programs of one major version, for tests of
/// what only that version can: `ROWCAST_TEST_POSTGRES_18`. `cargo xtask test` sets one each.
pub fn major_variable(major: u32) -> String {
    format!("{BIN_DIR_VARIABLE}_{major}")
}

/// When this environment variable is set, a test that needs a server fails at once, with
/// [`LEFT_OUT`], so that a machine without one can run the others and list these.
pub const OFFLINE_VARIABLE: &str = "ROWCAST_TEST_OFFLINE";

/// What such a test says.
pub const LEFT_OUT: &str = "left out: needs a PostgreSQL server";

/// PostgreSQL's programs, and the user who runs them.
#[derive(Debug, Clone)]
pub(super) struct Install {
    bin: PathBuf,
    /// Major version.
    version: OnceLock<u32>,
    template: OnceLock<PathBuf>,
    /// PostgreSQL refuses to run as root, so root hands it to somebody else.
    user: Option<(u32, u32)>,
}

impl Install {
    /// The one to use in this process.
    ///
    /// # Panics
    /// When there is none, with what to install.
    pub(super) fn found() -> &'static Install {
        static FOUND: OnceLock<Install> = OnceLock::new();
        assert!(std::env::var_os(OFFLINE_VARIABLE).is_none(), "{LEFT_OUT}");
        FOUND.get_or_init(|| Self::of(bin_dir()))
    }

    /// The programs of one major version.
    ///
    /// # Panics
    /// When there are none, with how to get them.
    pub(super) fn of_major(major: u32) -> &'static Install {
        let install = Self::at(&major_bin_dir(major));
        assert_eq!(install.version(), major, "{} holds another version", install.bin.display());
        install
    }

    /// The programs in a directory.
    pub(super) fn at(bin: &Path) -> &'static Install {
        static KNOWN: Mutex<Vec<&'static Install>> = Mutex::new(Vec::new());
        assert!(std::env::var_os(OFFLINE_VARIABLE).is_none(), "{LEFT_OUT}");
        let mut known = KNOWN.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if let Some(install) = known.iter().find(|install| install.bin == bin) {
            return install;
        }
        let install: &'static Install = Box::leak(Box::new(Self::of(bin.into())));
        known.push(install);
        install
    }

    fn of(bin: PathBuf) -> Self {
        let user = unprivileged();
        Self { bin, version: OnceLock::new(), template: OnceLock::new(), user }
    }

    /// The full path of a program beside `postgres`, else of the same name anywhere known.
    pub(super) fn program(&self, name: &str) -> Option<PathBuf> {
        std::iter::once(self.bin.clone())
            .chain(packaged())
            .chain(on_path())
            .map(|dir| dir.join(name))
            .find(|path| path.is_file())
    }

    /// A command that runs as the server's user, in a directory which that user can enter.
    pub(super) fn command(&self, program: impl AsRef<OsStr>, dir: &Path) -> Command {
        let mut command = Command::new(program);
        command.current_dir(dir).env("LC_ALL", "C").env_remove("PGDATA");
        if let Some((uid, gid)) = self.user {
            command.uid(uid).gid(gid);
        }
        command
    }

    /// Gives a path to the server's user.
    pub(super) fn hand_over(&self, path: &Path) {
        if let Some((uid, gid)) = self.user {
            chown(path, Some(uid), Some(gid)).expect("root may change an owner");
        }
    }

    pub(super) fn postgres(&self) -> PathBuf {
        self.bin.join("postgres")
    }

    /// Major version.
    pub(super) fn version(&self) -> u32 {
        *self.version.get_or_init(|| {
            let said = succeed(self.command(self.postgres(), Path::new("/")).arg("--version"));
            // "postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)"; "18beta1" exists, too.
            let number = said.split(") ").nth(1).unwrap_or_default();
            let digits: String = number.chars().take_while(char::is_ascii_digit).collect();
            digits.parse().unwrap_or_else(|_| panic!("postgres --version said {said:?}"))
        })
    }

    /// A directory that `initdb` has filled. Making one takes most of a second, so it is kept in the
    /// temporary directory and copied; the name holds the day, because those get swept.
    pub(super) fn template(&self) -> PathBuf {
        self.template.get_or_init(|| self.make_template()).clone()
    }

    fn make_template(&self) -> PathBuf {
        let seconds = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
        let day = seconds / 86_400;
        let owner = self.user.map_or(rustix::process::geteuid().as_raw(), |(uid, _)| uid);
        let room = std::env::temp_dir().join(format!("rowcast-testkit-{owner}"));
        std::fs::create_dir_all(&room).expect("create a directory for templates");
        std::fs::set_permissions(&room, PermissionsExt::from_mode(0o755)).expect("open it");
        self.hand_over(&room);
        sweep(&room, day);

        let which = self.bin.to_string_lossy().replace(|c: char| !c.is_ascii_alphanumeric(), "_");
        let made = room.join(format!("{day}-{}-{which}", self.version()));
        if made.is_dir() {
            return made;
        }
        let fresh = room.join(format!("{day}-new-{:016x}", rand::rng().random::<u64>()));
        let mut initdb = self.command(self.bin.join("initdb"), &room);
        initdb.args(["--username=postgres", "--auth=trust", "--encoding=UTF8", "--no-locale"]);
        succeed(initdb.arg("--no-sync").arg("--pgdata").arg(&fresh));
        // Another process may have been faster: then its template is as good.
        if std::fs::rename(&fresh, &made).is_err() {
            let _ = std::fs::remove_dir_all(&fresh);
        }
        made
    }
}

/// Runs a command to its end and returns what it printed.
///
/// # Panics
/// When it cannot be started or fails, with its error output.
pub(super) fn succeed(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|e| panic!("cannot run {command:?}: {e}"));
    let said = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    let complained = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?} failed:\n{said}\n{complained}");
    said
}

fn is_bin(dir: &Path) -> bool {
    dir.join("postgres").is_file() && dir.join("initdb").is_file()
}

fn given(variable: &str) -> Option<PathBuf> {
    let dir = PathBuf::from(std::env::var_os(variable)?);
    assert!(is_bin(&dir), "{variable}={} holds no postgres and initdb", dir.display());
    Some(dir)
}

fn major_bin_dir(major: u32) -> PathBuf {
    let variable = major_variable(major);
    let packaged = PathBuf::from(format!("/usr/lib/postgresql/{major}/bin"));
    given(&variable).or_else(|| is_bin(&packaged).then_some(packaged)).unwrap_or_else(|| {
        panic!(
            "this test needs PostgreSQL {major}: run it with `cargo xtask test`, which fetches it, \
             or set {variable} to a directory that holds its `postgres` and `initdb`"
        )
    })
}

fn bin_dir() -> PathBuf {
    if let Some(dir) = given(BIN_DIR_VARIABLE) {
        return dir;
    }
    let configured = || {
        let output = Command::new("pg_config").arg("--bindir").output().ok()?;
        Some(PathBuf::from(String::from_utf8(output.stdout).ok()?.trim()))
    };
    packaged()
        .into_iter()
        .chain(std::iter::once_with(configured).flatten())
        .chain(on_path())
        .find(|dir| is_bin(dir))
        .unwrap_or_else(|| {
            panic!(
                "no PostgreSQL server found, and this test needs a real one. Install it \
                 (Debian, Ubuntu: apt-get install postgresql postgresql-contrib; Fedora: dnf \
                 install postgresql-server postgresql-contrib; macOS: brew install \
                 postgresql@17), or set {BIN_DIR_VARIABLE} to a directory that holds `postgres` \
                 and `initdb`. `cargo xtask test --offline` leaves such tests out."
            )
        })
}

/// Where Debian keeps every version's programs, newest first.
fn packaged() -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir("/usr/lib/postgresql") else { return Vec::new() };
    let mut versions: Vec<(u32, PathBuf)> = entries
        .flatten()
        .filter_map(|entry| {
            let version = entry.file_name().to_str()?.parse().ok()?;
            Some((version, entry.path().join("bin")))
        })
        .collect();
    versions.sort_by_key(|(version, _)| std::cmp::Reverse(*version));
    versions.into_iter().map(|(_, dir)| dir).collect()
}

fn on_path() -> Vec<PathBuf> {
    std::env::var_os("PATH").map(|p| std::env::split_paths(&p).collect()).unwrap_or_default()
}

fn unprivileged() -> Option<(u32, u32)> {
    if !rustix::process::geteuid().is_root() {
        return None;
    }
    let users = std::fs::read_to_string("/etc/passwd").expect("read /etc/passwd");
    let ids = |name: &str| {
        let line = users.lines().find(|line| line.split(':').next() == Some(name))?;
        let mut fields = line.split(':').skip(2);
        Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
    };
    let user = ids("postgres").or_else(|| ids("nobody"));
    Some(user.expect("root needs a user `postgres` or `nobody` to run PostgreSQL as"))
}

/// Removes the templates of other days.
fn sweep(room: &Path, today: u64) {
    for entry in std::fs::read_dir(room).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let day = name.to_str().and_then(|n| n.split('-').next()).and_then(|d| d.parse().ok());
        if day.is_some_and(|day: u64| day + 1 < today) {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}
