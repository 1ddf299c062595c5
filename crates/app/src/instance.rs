//! The running `rowcast run` of a data directory: how it says where it is, and how to ask it.

use crate::report::Failure;
use serde::{Deserialize, Serialize};
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// What a running instance leaves in its data directory.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Instance {
    /// Its process.
    pub(crate) pid: u32,
    /// Where it answers.
    pub(crate) address: SocketAddr,
}

/// An answer over HTTP.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: String,
}

/// Keeps the instance's note in the data directory for as long as it lives.
#[derive(Debug)]
pub(crate) struct Note(PathBuf);

impl Drop for Note {
    fn drop(&mut self) {
        // A note that stays behind is seen to be old by its process.
        let _ = std::fs::remove_file(&self.0);
    }
}

fn path(data: &Path) -> PathBuf {
    data.join("run.json")
}

impl Instance {
    /// Tells others where this process answers.
    pub(crate) fn announce(data: &Path, address: SocketAddr) -> io::Result<Note> {
        let note = Self { pid: std::process::id(), address };
        let text = serde_json::to_string(&note)?;
        // A reader sees the old note or the new one, never half of one.
        let half = data.join("run.json.new");
        std::fs::write(&half, text)?;
        std::fs::rename(&half, path(data))?;
        Ok(Note(path(data)))
    }

    /// The instance that runs on a data directory, if any does.
    pub(crate) fn find(data: &Path) -> Option<Self> {
        let text = std::fs::read_to_string(path(data)).ok()?;
        let instance: Self = serde_json::from_str(&text).ok()?;
        let pid = rustix::process::Pid::from_raw(i32::try_from(instance.pid).ok()?)?;
        let alive = match rustix::process::test_kill_process(pid) {
            Ok(()) => true,
            // Somebody else's process is alive as well.
            Err(e) => e == rustix::io::Errno::PERM,
        };
        alive.then_some(instance)
    }

    /// As [`find`](Self::find); nobody there is a failure.
    pub(crate) fn expect(data: &Path) -> Result<Self, Failure> {
        Self::find(data).ok_or_else(|| {
            let message = format!("no `rowcast run` is running on {}", data.display());
            Failure::new(message, "start it with `rowcast run`, or name its file with `--config`")
        })
    }

    /// Asks for a path and waits for the answer.
    pub(crate) async fn get(&self, path: &str, within: Duration) -> Result<Answer, Failure> {
        let failed = |e: &io::Error| {
            let message = format!("`rowcast run` (process {}) does not answer", self.pid);
            let help = format!("is something else listening on {}?", self.address);
            Failure::new(message, help).because(e)
        };
        let asked = tokio::time::timeout(within, self.ask(path));
        let late = |_| io::Error::new(io::ErrorKind::TimedOut, "no answer in time");
        asked.await.map_err(late).and_then(|answer| answer).map_err(|e| failed(&e))
    }

    /// HTTP/1.0: the answer ends where the connection ends.
    async fn ask(&self, path: &str) -> io::Result<Answer> {
        let mut stream = TcpStream::connect(self.address).await?;
        let request = format!("GET {path} HTTP/1.0\r\nHost: {}\r\n\r\n", self.address);
        stream.write_all(request.as_bytes()).await?;
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).await?;
        let text = String::from_utf8_lossy(&bytes);
        let strange = || io::Error::new(io::ErrorKind::InvalidData, "the answer is no HTTP");
        let (head, body) = text.split_once("\r\n\r\n").ok_or_else(strange)?;
        let status = head.split(' ').nth(1).and_then(|s| s.parse().ok()).ok_or_else(strange)?;
        Ok(Answer { status, body: body.to_string() })
    }
}

impl Answer {
    /// What a refusal says.
    pub(crate) fn detail(&self) -> String {
        let problem: Option<serde_json::Value> = serde_json::from_str(&self.body).ok();
        let detail = problem.as_ref().and_then(|p| p.get("detail")?.as_str());
        detail.map_or_else(|| format!("it answered {}", self.status), str::to_string)
    }
}
