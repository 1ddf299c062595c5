//! Certificates for servers under test.

use super::install::succeed;
use super::options::ServerTls;
use std::path::PathBuf;
use std::process::Command;

/// A certificate authority of its own, and a server certificate for `localhost` and 127.0.0.1.
/// Its files go when it is dropped. Made with the `openssl` program.
#[derive(Debug)]
pub struct Authority {
    dir: tempfile::TempDir,
}

impl Authority {
    /// Makes both.
    ///
    /// # Panics
    /// Without the `openssl` program.
    pub fn new() -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let extensions = "subjectAltName=DNS:localhost,IP:127.0.0.1";
        std::fs::write(dir.path().join("extensions"), extensions).expect("write");
        let key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
        let run = |args: &[&str], more: &[&str]| {
            succeed(Command::new("openssl").current_dir(dir.path()).args(args).args(more))
        };
        let ca = ["req", "-x509", "-days", "30", "-subj", "/CN=Test CA", "-keyout", "ca.key"];
        run(&ca, &[&key[..], &["-out", "ca.pem"]].concat());
        let request = ["req", "-subj", "/CN=localhost", "-keyout", "server.key"];
        run(&request, &[&key[..], &["-out", "server.csr"]].concat());
        run(
            &["x509", "-req", "-days", "30", "-in", "server.csr", "-out", "server.pem"],
            &["-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-extfile", "extensions"],
        );
        Self { dir }
    }

    /// The file with the authority's certificate, for `sslrootcert`.
    pub fn root(&self) -> PathBuf {
        self.dir.path().join("ca.pem")
    }

    /// The server's half. With `required`, TCP connections without TLS are refused.
    pub fn server(&self, required: bool) -> ServerTls {
        let read = |name: &str| {
            std::fs::read_to_string(self.dir.path().join(name)).expect("openssl wrote it")
        };
        ServerTls { certificate: read("server.pem"), key: read("server.key"), required }
    }
}

impl Default for Authority {
    fn default() -> Self {
        Self::new()
    }
}
