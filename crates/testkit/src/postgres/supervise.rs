//! Keeps a server no longer alive than the process that started it.
//!
//! A shell stands between: it starts the server and reads a pipe that we hold. A word on the pipe
//! stops the server; the end of the pipe, which comes however we die, also removes its directory.

use super::install::Install;
use crate::wait::{LONG, settles};
use rustix::process::{Pid, Signal, kill_process};
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::Duration;

const SCRIPT: &str = r#"
base=$1 postgres=$2
exec 3<&0 </dev/null
rm -f "$base/pid" "$base/ended"
(
    exec 3<&-
    "$postgres" -D "$base/data" >>"$base/log" 2>&1 &
    echo $! >"$base/pid"
    wait $!
    echo $? >"$base/ended"
) &
read -r word <&3 || word=remove
while [ ! -s "$base/pid" ]; do sleep 0.01; done
if [ ! -s "$base/ended" ]; then
    case $word in
        fast) kill -INT "$(cat "$base/pid")" ;;
        *) kill -QUIT "$(cat "$base/pid")" ;;
    esac 2>/dev/null
fi
wait
[ "$word" != remove ] || rm -rf "$base"
"#;

/// Longest a fast shutdown may take: one that waits for a stalled replication client gives up.
const FAST_SHUTDOWN: Duration = Duration::from_secs(20);
const IMMEDIATE_SHUTDOWN: Duration = LONG;

/// One run of a server.
#[derive(Debug)]
pub(super) struct Supervisor {
    shell: Child,
    base: PathBuf,
}

impl Supervisor {
    /// Starts the server whose data is in `base/data`. It is not ready yet.
    pub(super) fn start(install: &Install, base: &Path) -> Self {
        let _ = std::fs::remove_file(base.join("ended"));
        let _ = std::fs::remove_file(base.join("pid"));
        let mut command = install.command("sh", base);
        command.args(["-c", SCRIPT, "rowcast-testkit"]).arg(base).arg(install.postgres());
        // Its own group: Ctrl-C on the tests is for us, and reaches the server through the pipe.
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
        let shell = command.spawn().expect("start sh");
        Self { shell, base: base.to_owned() }
    }

    /// Whether the server has gone by itself.
    pub(super) fn ended(&self) -> bool {
        std::fs::metadata(self.base.join("ended")).is_ok_and(|file| file.len() > 0)
    }

    /// The server's main process.
    fn server(&self) -> Option<Pid> {
        let text = std::fs::read_to_string(self.base.join("pid")).ok()?;
        Pid::from_raw(text.trim().parse().ok()?)
    }

    /// Stops the server in an orderly way: everything is on disk afterwards.
    pub(super) fn stop(&mut self) {
        if let Some(mut pipe) = self.shell.stdin.take() {
            // A shell that has gone needs no word.
            let _ = pipe.write_all(b"fast\n");
        }
        if !self.exits(FAST_SHUTDOWN)
            && let Some(server) = self.server()
        {
            let _ = kill_process(server, Signal::QUIT);
            assert!(self.exits(IMMEDIATE_SHUTDOWN), "the PostgreSQL server does not stop");
        }
    }

    /// Kills every process of the server with SIGKILL, as the loss of its machine would.
    pub(super) fn kill(&mut self) {
        if let Some(server) = self.server()
            && !self.ended()
        {
            // First stopped, so that it cannot start others in between.
            let _ = kill_process(server, Signal::STOP);
            let children = children(server);
            for process in children.iter().chain([&server]) {
                let _ = kill_process(*process, Signal::KILL);
            }
            let gone = settles(IMMEDIATE_SHUTDOWN, || !children.iter().any(|c| runs(*c)));
            assert!(gone, "a killed PostgreSQL process is still there");
        }
        self.stop();
    }

    fn exits(&mut self, within: Duration) -> bool {
        settles(within, || !matches!(self.shell.try_wait(), Ok(None)))
    }
}

impl Drop for Supervisor {
    /// Stops the server at once and removes its directory, unless it was stopped before.
    fn drop(&mut self) {
        drop(self.shell.stdin.take());
        if !self.exits(IMMEDIATE_SHUTDOWN) {
            eprintln!("the PostgreSQL server in {} does not stop", self.base.display());
        }
    }
}

fn children(of: Pid) -> Vec<Pid> {
    let listed = std::process::Command::new("ps").args(["-A", "-o", "pid=,ppid="]).output();
    let text = match listed {
        Ok(output) if output.status.success() => {
            String::from_utf8_lossy(&output.stdout).into_owned()
        }
        // A slim container has no ps, but then it has /proc.
        _ => processes(),
    };
    text.lines()
        .filter_map(|line| {
            let mut ids = line.split_whitespace().map(str::parse::<i32>);
            let (pid, parent) = (ids.next()?.ok()?, ids.next()?.ok()?);
            if parent == of.as_raw_nonzero().get() { Pid::from_raw(pid) } else { None }
        })
        .collect()
}

/// Every process and its parent, a line each, from /proc.
fn processes() -> String {
    let mut lines = String::new();
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Ok(stat) = std::fs::read_to_string(entry.path().join("stat")) else { continue };
        // "4711 (name, which may hold anything) S 4710 …"
        let parent = stat.rsplit_once(") ").and_then(|(_, rest)| rest.split(' ').nth(1));
        if let (Some(pid), Some(parent)) = (entry.file_name().to_str(), parent) {
            lines.push_str(&format!("{pid} {parent}\n"));
        }
    }
    lines
}

/// Whether a process exists and is more than an entry that its parent has not collected.
pub(crate) fn runs(process: Pid) -> bool {
    if rustix::process::test_kill_process(process).is_err() {
        return false;
    }
    match std::fs::read_to_string(format!("/proc/{}/stat", process.as_raw_nonzero())) {
        Ok(stat) => !stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with(['Z', 'X'])),
        Err(_) => !Path::new("/proc/self").exists(),
    }
}
