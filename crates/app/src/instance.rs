//! The running `rowcast run`: how it says where it is, and how to ask it, here or on another machine.

mod line;

use crate::cli;
use crate::config::{self, Secret};
use crate::report::Failure;
use line::Line;
use rustix::process::Pid;
use serde::{Deserialize, Serialize};
use std::io::{self, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// A running instance.
#[derive(Debug)]
pub(crate) struct Instance {
    /// What it is called in messages.
    name: String,
    line: Line,
    token: Option<Secret<String>>,
    /// Its process, on this machine.
    process: Option<Pid>,
}

/// What a running instance leaves in its data directory. Holds a secret, so it does not print.
#[derive(Serialize, Deserialize)]
struct Written {
    /// Its process.
    pid: u32,
    /// Where it answers.
    address: SocketAddr,
    /// What to send to be let in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    token: Option<String>,
    /// SHA-256 of its certificate, when it speaks TLS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    certificate: Option<[u8; 32]>,
}

/// An answer over HTTP.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: String,
}

/// Keeps the instance's note in the data directory for as long as it lives.
pub(crate) struct Note {
    data: PathBuf,
    written: Written,
}

impl Note {
    /// Says that from now on the instance is known by this certificate.
    pub(crate) fn certificate(&mut self, certificate: Option<[u8; 32]>) -> io::Result<()> {
        self.written.certificate = certificate;
        self.write()
    }

    fn write(&self) -> io::Result<()> {
        // A reader sees the old note or the new one, never half of one.
        let half = self.data.join("run.json.new");
        let _ = std::fs::remove_file(&half);
        let mut file =
            std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&half)?;
        file.write_all(serde_json::to_string(&self.written)?.as_bytes())?;
        std::fs::rename(&half, path(&self.data))
    }
}

impl Drop for Note {
    fn drop(&mut self) {
        // A note that stays behind is seen to be old by its process.
        let _ = std::fs::remove_file(path(&self.data));
    }
}

fn path(data: &Path) -> PathBuf {
    data.join("run.json")
}

impl Instance {
    /// Tells others where this process answers, what to send it, and by which certificate to know
    /// it.
    pub(crate) fn announce(
        data: &Path,
        mut address: SocketAddr,
        token: &str,
        certificate: Option<[u8; 32]>,
    ) -> io::Result<Note> {
        // Listening everywhere is no address to ask.
        match address {
            SocketAddr::V4(a) if a.ip().is_unspecified() => {
                address.set_ip(Ipv4Addr::LOCALHOST.into())
            }
            SocketAddr::V6(a) if a.ip().is_unspecified() => {
                address.set_ip(Ipv6Addr::LOCALHOST.into())
            }
            SocketAddr::V4(_) | SocketAddr::V6(_) => {}
        }
        let token = Some(token.to_string());
        let written = Written { pid: std::process::id(), address, token, certificate };
        let note = Note { data: data.to_path_buf(), written };
        note.write()?;
        Ok(note)
    }

    /// The instance that runs on a data directory, if any does.
    pub(crate) fn find(data: &Path) -> Option<Self> {
        let text = std::fs::read_to_string(path(data)).ok()?;
        let written: Written = serde_json::from_str(&text).ok()?;
        let pid = Pid::from_raw(i32::try_from(written.pid).ok()?)?;
        let alive = match rustix::process::test_kill_process(pid) {
            Ok(()) => true,
            // Somebody else's process is alive as well.
            Err(e) => e == rustix::io::Errno::PERM,
        };
        alive.then(|| Self {
            name: format!("`rowcast run` (process {})", written.pid),
            line: Line::local(written.address, written.certificate),
            token: written.token.map(Secret::new),
            process: Some(pid),
        })
    }

    /// Whether a file that names `port` names where it listens: 0 stands for any.
    pub(crate) fn listens_on(&self, port: u16) -> bool {
        port == 0 || self.line.to_string().ends_with(&format!(":{port}"))
    }

    /// As [`find`](Self::find); nobody there is a failure.
    pub(crate) fn expect(data: &Path) -> Result<Self, Failure> {
        if let Err(e) = std::fs::File::open(path(data))
            && e.kind() == io::ErrorKind::PermissionDenied
        {
            let help = "only the user who runs it may; others name it with `--url` and `--token`";
            let message = format!("{} may not be read", path(data).display());
            return Err(Failure::new(message, help).because(&e));
        }
        Self::find(data).ok_or_else(|| {
            let message = format!("no `rowcast run` is running on {}", data.display());
            Failure::new(message, "start it with `rowcast run`, or name its file with `--config`")
        })
    }

    /// The instance that a command is to ask.
    pub(crate) fn reach(reach: &cli::Reach, file: &Path) -> Result<Self, Failure> {
        let mut instance = match &reach.url {
            Some(url) => {
                Self { name: url.clone(), line: Line::to(url)?, token: None, process: None }
            }
            None => Self::expect(&config::load(file)?.plan.data)?,
        };
        if let Some(token) = &reach.token {
            instance.token = Some(token.clone());
        }
        Ok(instance)
    }

    /// What it is called in messages.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Asks it to read its file again.
    pub(crate) fn hang_up(&self) -> Result<(), Failure> {
        let told = self
            .process
            .ok_or(rustix::io::Errno::SRCH)
            .and_then(|pid| rustix::process::kill_process(pid, rustix::process::Signal::HUP));
        told.map_err(|e| {
            let message = format!("{} cannot be told", self.name);
            Failure::new(message, "run this as the user it runs as").because(&e)
        })
    }

    /// Asks for a path and waits for the answer.
    pub(crate) async fn get(&self, path: &str, within: Duration) -> Result<Answer, Failure> {
        self.send("GET", path, None, within).await
    }

    /// Sends a request, with a JSON body if there is one, and waits for the answer.
    pub(crate) async fn send(
        &self,
        method: &str,
        path: &str,
        body: Option<&serde_json::Value>,
        within: Duration,
    ) -> Result<Answer, Failure> {
        let failed = |e: &io::Error| {
            if let Some(why) = line::distrusted(e) {
                let message = format!("the certificate of {} is not trusted here", self.name);
                let help = "let this machine trust the root that signed it: SSL_CERT_FILE names a file of \
                            roots; on the machine of `rowcast run` itself, leave `--url` out";
                return Failure::new(message, help).because(why);
            }
            let message = format!("{} does not answer", self.name);
            let help = match e.kind() {
                io::ErrorKind::InvalidData => {
                    format!("is something else listening on {}?", self.line)
                }
                _ => format!(
                    "is `rowcast run` up, and does its `[server] listen` take connections to {}?",
                    self.line
                ),
            };
            Failure::new(message, help).because(e)
        };
        let asked = tokio::time::timeout(within, self.ask(method, path, body));
        let late = |_| io::Error::new(io::ErrorKind::TimedOut, "no answer in time");
        asked.await.map_err(late).and_then(|answer| answer).map_err(|e| failed(&e))
    }

    /// HTTP/1.0: the answer ends where the connection ends.
    async fn ask(
        &self,
        method: &str,
        path: &str,
        body: Option<&serde_json::Value>,
    ) -> io::Result<Answer> {
        let mut request = format!("{method} {path} HTTP/1.0\r\nHost: {}\r\n", self.line);
        if let Some(token) = &self.token {
            if token.reveal().contains(|c: char| !c.is_ascii_graphic()) {
                let wrong = "the token holds what no token holds";
                return Err(io::Error::new(io::ErrorKind::InvalidInput, wrong));
            }
            request.push_str(&format!("Authorization: Bearer {}\r\n", token.reveal()));
        }
        let body = body.map(|b| b.to_string());
        if let Some(body) = &body {
            let length = body.len();
            request.push_str(&format!(
                "Content-Type: application/json\r\nContent-Length: {length}\r\n"
            ));
        }
        request.push_str("\r\n");
        request.push_str(body.as_deref().unwrap_or_default());
        let mut stream = self.line.connect().await?;
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

/// A text as one part of a path or a query.
pub(crate) fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                out.push(char::from(byte));
            }
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

impl Answer {
    /// What a refusal says.
    pub(crate) fn detail(&self) -> String {
        self.said("detail").unwrap_or_else(|| format!("it answered {}", self.status))
    }

    /// The refusal as a failure; `help` is what to do when the answer itself does not say.
    pub(crate) fn failure(&self, help: &str) -> Failure {
        let help = match self.status {
            401 | 403 => "give a token that may, with `--token` or ROWCAST_TOKEN".into(),
            _ => self.said("help").unwrap_or_else(|| help.to_string()),
        };
        Failure::new(self.detail(), help)
    }

    fn said(&self, member: &str) -> Option<String> {
        let problem: serde_json::Value = serde_json::from_str(&self.body).ok()?;
        Some(problem.get(member)?.as_str()?.to_string())
    }
}
