//! The `rowcast` program as a person runs it: started, killed, frozen, stopped, asked.

use rustix::process::{Pid, Signal, kill_process};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tokio::process::{Child, Command};

/// Longest for `rowcast status`.
const STATUS_WITHIN: Duration = Duration::from_secs(30);

/// How a command ended.
#[derive(Debug)]
pub(crate) struct Finished {
    /// `None` when it took too long, or was killed.
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// One data directory and what runs on it.
#[derive(Debug)]
pub(crate) struct Instance {
    program: PathBuf,
    dir: PathBuf,
    child: Option<Child>,
    starts: u32,
}

impl Instance {
    pub(crate) fn new(program: &Path, dir: &Path) -> Self {
        Self { program: program.into(), dir: dir.into(), child: None, starts: 0 }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.args(arguments).current_dir(&self.dir).stdin(Stdio::null()).kill_on_drop(true);
        command
    }

    /// Starts `rowcast run`; what it says goes to a file of its own.
    pub(crate) fn start(&mut self) -> io::Result<()> {
        self.starts += 1;
        let said = File::create(self.dir.join(format!("run-{:03}.log", self.starts)))?;
        let child = self.command(&["run"]).stdout(said.try_clone()?).stderr(said).spawn()?;
        self.child = Some(child);
        Ok(())
    }

    /// The exit code when it ended by itself, `-1` when a signal that was not ours ended it.
    pub(crate) fn ended(&mut self) -> io::Result<Option<i32>> {
        let Some(child) = &mut self.child else { return Ok(None) };
        Ok(child.try_wait()?.map(|status| status.code().unwrap_or(-1)))
    }

    fn signal(&self, signal: Signal) {
        let id = self.child.as_ref().and_then(Child::id);
        if let Some(pid) = id.and_then(|id| Pid::from_raw(id as i32)) {
            // It may just have ended: then there is nothing to tell it.
            let _ = kill_process(pid, signal);
        }
    }

    /// Kills it without a warning.
    pub(crate) async fn kill(&mut self) {
        self.signal(Signal::KILL);
        if let Some(mut child) = self.child.take() {
            let _ = child.wait().await;
        }
    }

    /// Lets it stand still for a while, as a machine does that runs out of memory.
    pub(crate) async fn freeze(&self, time: Duration) {
        self.signal(Signal::STOP);
        tokio::time::sleep(time).await;
        self.signal(Signal::CONT);
    }

    /// Asks it to stop. Whether it did in time; it is gone in either case.
    pub(crate) async fn stop(&mut self, within: Duration) -> bool {
        self.signal(Signal::TERM);
        let Some(mut child) = self.child.take() else { return true };
        let ended = tokio::time::timeout(within, child.wait()).await.is_ok();
        if !ended {
            let _ = child.kill().await;
        }
        ended
    }

    /// Runs a command of its own to its end. When it takes too long, what `rowcast status` says
    /// then stands behind its own words.
    pub(crate) async fn run(&self, arguments: &[&str], within: Duration) -> io::Result<Finished> {
        let said = |name: &str| self.dir.join(format!("command.{name}"));
        let (out, err) = (File::create(said("out"))?, File::create(said("err"))?);
        let mut child = self.command(arguments).stdout(out).stderr(err).spawn()?;
        let ended = tokio::time::timeout(within, child.wait()).await;
        let mut late = String::new();
        let code = match ended {
            Ok(status) => status?.code(),
            Err(_) => {
                let status = self.command(&["status"]).output();
                if let Ok(Ok(status)) = tokio::time::timeout(STATUS_WITHIN, status).await {
                    late = String::from_utf8_lossy(&status.stdout).into_owned();
                }
                child.kill().await?;
                None
            }
        };
        let text = |name: &str| -> io::Result<String> {
            Ok(String::from_utf8_lossy(&std::fs::read(said(name))?).into_owned())
        };
        Ok(Finished { code, stdout: text("out")?, stderr: text("err")? + &late })
    }
}
