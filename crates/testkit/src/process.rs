//! Real processes: started in a private directory, watched, killed, and never left behind.

use crate::leftovers::remove_at_end;
use crate::wait::{LONG, eventually, eventually_some, settles};
use rustix::process::{Pid, Signal, kill_process, kill_process_group, test_kill_process_group};
use std::fs::File;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// A `rowcast` binary and the private directory it runs in, which holds `rowcast.toml` and all that
/// the runs leave behind. The directory goes with it.
#[derive(Debug)]
pub struct Rowcast {
    program: PathBuf,
    dir: tempfile::TempDir,
    variables: Vec<(String, String)>,
    runs: AtomicUsize,
}

impl Rowcast {
    /// A directory whose `rowcast.toml` reads `config`. The caller knows where its binary is:
    /// `env!("CARGO_BIN_EXE_rowcast")`.
    pub fn new(program: impl Into<PathBuf>, config: &str) -> Self {
        let dir = tempfile::Builder::new().prefix("rowcast-run-").tempdir();
        let dir = dir.expect("a temporary directory");
        remove_at_end(dir.path());
        let program = program.into();
        let this = Self { program, dir, variables: Vec::new(), runs: AtomicUsize::new(0) };
        this.configure(config);
        this
    }

    /// Sets an environment variable for every later run.
    pub fn variable(mut self, name: &str, value: &str) -> Self {
        self.variables.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Writes `rowcast.toml` anew.
    pub fn configure(&self, config: &str) {
        std::fs::write(self.path("rowcast.toml"), config).expect("write rowcast.toml");
    }

    /// The directory.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// A path in the directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Starts `rowcast ARGS`, with no input and its output captured.
    ///
    /// # Panics
    /// When the binary cannot be started.
    pub fn start(&self, args: &[&str]) -> Running {
        let run = self.runs.fetch_add(1, Ordering::Relaxed);
        let (stdout, stderr) =
            (self.path(&format!("stdout.{run}")), self.path(&format!("stderr.{run}")));
        let mut command = Command::new(&self.program);
        command.args(args).current_dir(self.dir.path()).stdin(Stdio::null());
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        command.stdout(File::create(&stdout).expect("a file for the output"));
        command.stderr(File::create(&stderr).expect("a file for the complaints"));
        // Its own group, so that whatever it starts can be found.
        let child = command.process_group(0).spawn();
        let child = child.unwrap_or_else(|e| panic!("cannot run {}: {e}", self.program.display()));
        let watchdog = watchdog(child.id());
        let what = format!("rowcast {}", args.join(" "));
        Running { what, child, watchdog, stdout, stderr }
    }

    /// Runs `rowcast ARGS` to its end.
    ///
    /// # Panics
    /// When it takes longer than `within`, with its output.
    pub async fn run(&self, within: Duration, args: &[&str]) -> Finished {
        self.start(args).wait(within).await
    }
}

/// A running process. Dropping it kills it and all it started.
#[derive(Debug)]
pub struct Running {
    what: String,
    child: Child,
    /// Kills the process should the test itself be killed.
    watchdog: Child,
    stdout: PathBuf,
    stderr: PathBuf,
}

/// A process that has ended.
#[derive(Debug)]
pub struct Finished {
    /// How.
    pub status: ExitStatus,
    /// All it printed.
    pub stdout: String,
    /// All it printed to standard error.
    pub stderr: String,
}

impl Finished {
    /// Exit code; `None` when a signal ended it.
    pub fn code(&self) -> Option<i32> {
        self.status.code()
    }

    /// Everything it printed, for the message of a failed assertion.
    pub fn said(&self) -> String {
        format!("{}\n--- stdout\n{}\n--- stderr\n{}", self.status, self.stdout, self.stderr)
    }

    /// Asserts that it exited with 0.
    ///
    /// # Panics
    /// Otherwise, with all it printed.
    #[track_caller]
    pub fn good(self) -> Self {
        assert!(self.status.success(), "expected success: {}", self.said());
        self
    }
}

impl Running {
    /// Process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it printed so far.
    pub fn stdout(&self) -> String {
        read(&self.stdout)
    }

    /// What it printed to standard error so far.
    pub fn stderr(&self) -> String {
        read(&self.stderr)
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Waits until it has printed `text`, on either output.
    ///
    /// # Panics
    /// When it has not `within` the time, or ends before, with its output.
    pub async fn says(&mut self, within: Duration, text: &str) {
        let what = format!("{} says {text:?}", self.what);
        eventually_some(within, &what, async || {
            let running = self.is_running();
            if self.stdout().contains(text) || self.stderr().contains(text) {
                return Some(());
            }
            assert!(running, "{what}, but it ended:\n{}\n{}", self.stdout(), self.stderr());
            None
        })
        .await;
    }

    /// Kills it with SIGKILL, in the middle of whatever it does, and waits until it is gone.
    pub async fn kill_9(self) -> Finished {
        self.signal(Signal::KILL);
        self.wait(LONG).await
    }

    /// Asks it to end with SIGTERM, once it listens for that, and waits until it has. One that has only
    /// just been started would not know yet what to do about it.
    ///
    /// # Panics
    /// When either takes longer than `within`.
    pub async fn terminate(mut self, within: Duration) -> Finished {
        let what = format!("{} listens for SIGTERM", self.what);
        eventually(within, &what, async || !self.is_running() || self.listens_for_sigterm()).await;
        self.signal(Signal::TERM);
        self.wait(within).await
    }

    /// Presses Ctrl-C, once.
    pub fn interrupt(&self) {
        self.signal(Signal::INT);
    }

    /// Freezes it, as a long pause of its machine would.
    pub fn freeze(&self) {
        self.signal(Signal::STOP);
    }

    /// Lets a frozen one go on.
    pub fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    /// What the system says of the process; true where it does not say.
    fn listens_for_sigterm(&self) -> bool {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()));
        let caught = status.unwrap_or_default();
        let caught = caught.lines().find_map(|line| line.strip_prefix("SigCgt:"));
        let caught = caught.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
        caught.is_none_or(|mask| mask >> (Signal::TERM.as_raw() - 1) & 1 == 1)
    }

    fn signal(&self, signal: Signal) {
        // One that has just ended needs no signal.
        let _ = kill_process(self.pid(), signal);
    }

    fn pid(&self) -> Pid {
        let id = i32::try_from(self.child.id()).expect("process ids are positive numbers");
        Pid::from_raw(id).expect("a child's process id is never 0")
    }

    /// Waits until it ends by itself, and asserts that nothing it started outlives it.
    ///
    /// # Panics
    /// When it takes longer than `within`, with its output; or when it leaves an orphan.
    pub async fn wait(mut self, within: Duration) -> Finished {
        let began = std::time::Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("it is our child") {
                break status;
            }
            assert!(
                began.elapsed() < within,
                "{} did not end within {within:?}\n{}\n{}",
                self.what,
                self.stdout(),
                self.stderr()
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        };
        let group = self.pid();
        let alone = settles(LONG, || test_kill_process_group(group).is_err());
        assert!(alone, "{} ended and left a process behind", self.what);
        Finished { status, stdout: self.stdout(), stderr: self.stderr() }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.is_running() {
            let _ = kill_process_group(self.pid(), Signal::KILL);
            let _ = self.child.wait();
        }
        if let Some(mut pipe) = self.watchdog.stdin.take() {
            let _ = pipe.write_all(b"done\n");
        }
        let _ = self.watchdog.wait();
    }
}

/// A shell that kills a process group when our end of its pipe closes without a word.
fn watchdog(group: u32) -> Child {
    let mut command = Command::new("sh");
    command.args(["-c", "read -r word || kill -9 -- \"-$1\"", "rowcast-testkit"]);
    command.arg(group.to_string()).process_group(0);
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().expect("start sh")
}

fn read(path: &Path) -> String {
    String::from_utf8_lossy(&std::fs::read(path).unwrap_or_default()).into_owned()
}
