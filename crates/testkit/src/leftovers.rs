//! Removes directories also when the process that made them is killed.

use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, OnceLock};

/// The second is for servers that are about to notice our end themselves.
const SCRIPT: &str = r#"while read -r dir; do set -- "$@" "$dir"; done; sleep 1; rm -rf "$@""#;

/// Has `dir` removed once this process is gone, in whatever way.
pub(crate) fn remove_at_end(dir: &Path) {
    static SWEEPER: OnceLock<Mutex<Child>> = OnceLock::new();
    let start = || {
        let mut shell = Command::new("sh");
        shell.args(["-c", SCRIPT]).process_group(0).current_dir("/");
        shell.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        Mutex::new(shell.spawn().expect("start sh"))
    };
    let mut sweeper = SWEEPER.get_or_init(start).lock().expect("nothing panics while holding it");
    let line = [dir.as_os_str().as_bytes(), b"\n"].concat();
    let pipe = sweeper.stdin.as_mut().expect("it was started with a pipe");
    // Without a sweeper a directory may stay behind; that fails no test.
    let _ = pipe.write_all(&line);
}
