//! `[server]`: what a running instance answers on, and to whom.

use crate::config::problem::{Located, Place, Problems, Weight};
use crate::config::secret::Secret;
use crate::config::suggest::advice;
use crate::config::tree::{Reader, Section, wrong_type};
use rowcast_core::ServiceName;
use rowcast_server::{Grant, Lasting, Role, Tls, TlsPart, TokenDigest};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use toml::de::DeValue;

/// Characters of a token in clear. Ours have 72.
const TOKEN_MIN: usize = 24;
const TOKEN_HELP: &str = "`rowcast token` makes a token and the line for this file";
const ROLES: [&str; 3] = ["admin", "subscriber", "reader"];

/// `[server]`: what a running instance answers on.
#[derive(Debug)]
pub(crate) struct Server {
    /// Address and port; port 0 takes any. `127.0.0.1:7117` if unset.
    pub(crate) listen: Located<SocketAddr>,
    /// Who may ask. Everybody on this machine if unset, and then only loopback is possible.
    tokens: Vec<Token>,
    /// Some of what stands there is none; that there are none was not meant.
    tokens_wrong: bool,
    /// Certificate and key; plain HTTP if unset.
    pub(crate) tls: Option<TlsFiles>,
}

/// One of `tokens`.
#[derive(Debug)]
struct Token {
    at: Place,
    /// Whose it is.
    name: Located<String>,
    /// What it allows.
    role: Role,
    /// The service of a subscriber.
    service: Option<Located<ServiceName>>,
    digest: TokenDigest,
}

/// `tls = { cert = "file.pem", key = "file.pem" }`.
#[derive(Debug, Clone)]
pub(crate) struct TlsFiles {
    /// The certificate and the chain to its root, PEM. Required.
    pub(crate) cert: Located<PathBuf>,
    /// Its key, PEM. Required.
    pub(crate) key: Located<PathBuf>,
}

impl TlsFiles {
    /// The files, relative to the configuration's directory.
    pub(crate) fn files(&self, base: &Path) -> Self {
        let file = |named: &Located<PathBuf>| Located {
            value: base.join(&named.value),
            at: named.at.clone(),
        };
        Self { cert: file(&self.cert), key: file(&self.key) }
    }

    /// Opens both. What is wrong with them is wrong with the file that names them; `untimely` is how
    /// bad it is that clients do not take the certificate at this time.
    pub(crate) fn open(&self, untimely: Weight, problems: &mut Problems) -> Option<Tls> {
        let tls = match Tls::load(&self.cert.value, &self.key.value) {
            Ok(tls) => tls,
            Err(e) => {
                let named = match e.part() {
                    TlsPart::Certificate => &self.cert,
                    TlsPart::Key => &self.key,
                };
                let causes = std::iter::successors(std::error::Error::source(&e), |c| c.source());
                let message = causes.fold(e.to_string(), |told, cause| format!("{told}: {cause}"));
                problems.error(&named.at, message, e.help());
                return None;
            }
        };
        let (weight, what) = match tls.lasting() {
            Lasting::Good => return Some(tls),
            Lasting::Soon => (Weight::Warning, "ends within two weeks"),
            Lasting::NotYet => (untimely, "is not valid yet"),
            Lasting::Over => (untimely, "has expired: clients refuse it"),
        };
        let message = format!("the certificate in {} {what}", self.cert.value.display());
        let help = "renew it, then `rowcast reload`: nobody who is connected notices";
        match weight {
            Weight::Error => problems.error(&self.cert.at, message, help),
            Weight::Warning => problems.warning(&self.cert.at, message, help),
        }
        Some(tls)
    }

    fn read(mut section: Section<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        let help = "write `tls = { cert = \"cert.pem\", key = \"key.pem\" }`";
        let cert = section.required_text("cert", help, reader);
        let key = section.required_text("key", help, reader);
        section.finish(reader);
        let path = |text: Located<String>| Located { value: text.value.into(), at: text.at };
        Some(Self { cert: path(cert?), key: path(key?) })
    }
}

impl Server {
    pub(crate) fn read(section: Option<Section<'_>>, reader: &mut Reader<'_>) -> Self {
        let default = SocketAddr::from(([127, 0, 0, 1], 7117));
        let mut listen = Located { value: default, at: Place::default() };
        let Some(mut section) = section else {
            return Self { listen, tokens: Vec::new(), tokens_wrong: false, tls: None };
        };
        if let Some(text) = section.text("listen", reader) {
            match text.value.replace("localhost:", "127.0.0.1:").parse() {
                Ok(value) => listen = Located { value, at: text.at },
                Err(_) => reader.problems.error(
                    &text.at,
                    "must be an address and a port",
                    "such as `127.0.0.1:7117`; port 0 takes any free one",
                ),
            }
        }
        let before = reader.problems.errors();
        let tokens = match section.take("tokens") {
            Some((at, value)) => tokens(value, &at, reader),
            None => Vec::new(),
        };
        let tokens_wrong = reader.problems.errors() > before;
        let tls = section.section("tls", reader).and_then(|tls| TlsFiles::read(tls, reader));
        section.finish(reader);
        Self { listen, tokens, tokens_wrong, tls }
    }

    /// Adds what does not fit together; `services` are the file's.
    pub(crate) fn check<'a>(
        &self,
        services: impl Iterator<Item = &'a str> + Clone,
        problems: &mut Problems,
    ) {
        let local = self.listen.value.ip().is_loopback();
        if !local && self.tokens.is_empty() && !self.tokens_wrong {
            problems.error(
                &self.listen.at,
                "everybody who reaches this address could read everything: there are no tokens",
                format!("listen on 127.0.0.1, or add `tokens`: {TOKEN_HELP}"),
            );
        } else if !local && self.tls.is_none() {
            problems.warning(
                &self.listen.at,
                "tokens and events cross the network in clear",
                "add `tls = { cert = \"cert.pem\", key = \"key.pem\" }`, or put a proxy that \
                 speaks TLS before it",
            );
        }
        for (index, token) in self.tokens.iter().enumerate() {
            let earlier = &self.tokens[..index];
            if earlier.iter().any(|t| t.name.value == token.name.value) {
                let message = format!("two tokens are named `{}`", token.name.value);
                problems.error(&token.name.at, message, "a name says whose token it is");
            }
            if let Some(same) = earlier.iter().find(|t| t.digest == token.digest) {
                let message =
                    format!("`{}` and `{}` are the same token", same.name.value, token.name.value);
                problems.error(&token.at, message, TOKEN_HELP);
            }
            let Some(service) = &token.service else { continue };
            if !services.clone().any(|s| s == service.value.as_str()) {
                let help = advice(service.value.as_str(), "the services", services.clone());
                let message = format!("there is no service `{}`", service.value);
                problems.error(&service.at, message, help);
            }
        }
    }

    /// The tokens as the server knows them.
    pub(crate) fn grants(&self) -> Vec<Grant> {
        let grant =
            |t: &Token| Grant { name: t.name.value.clone(), role: t.role.clone(), token: t.digest };
        self.tokens.iter().map(grant).collect()
    }
}

fn tokens(value: DeValue<'_>, at: &Place, reader: &mut Reader<'_>) -> Vec<Token> {
    let help = "write `tokens = [{ name = \"ops\", role = \"admin\", sha256 = \"…\" }]`";
    let DeValue::Array(items) = value else {
        let _: Option<()> = wrong_type(&value, "a list of tokens", help, at, reader);
        return Vec::new();
    };
    let mut tokens = Vec::new();
    for (index, item) in items.into_iter().enumerate() {
        let at = Place { span: item.span(), path: format!("{}[{index}]", at.path) };
        match item.into_inner() {
            DeValue::Table(table) => tokens.extend(Token::read(Section::new(table, at), reader)),
            other => {
                let _: Option<()> = wrong_type(&other, "a table", help, &at, reader);
            }
        }
    }
    tokens
}

impl Token {
    fn read(mut section: Section<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        let at = section.at.clone();
        let name = section.required_text("name", "say whose token it is: `name = \"ops\"`", reader);
        let help = "say what it allows: `role = \"admin\"`, \"subscriber\" or \"reader\"";
        let role = section.required_text("role", help, reader);
        let service = section.text("service", reader);
        let digest = Self::digest(&mut section, reader);
        section.finish(reader);
        let service = service.and_then(|s| match s.value.parse() {
            Ok(value) => Some(Located { value, at: s.at }),
            Err(e) => {
                reader.problems.error(&s.at, format!("{e}"), "name one of this file's services");
                None
            }
        });
        let role = role.and_then(|role| Self::role(&role, service.as_ref(), &at, reader));
        Some(Self { at, name: name?, role: role?, service, digest: digest? })
    }

    fn role(
        role: &Located<String>,
        service: Option<&Located<ServiceName>>,
        at: &Place,
        reader: &mut Reader<'_>,
    ) -> Option<Role> {
        match (role.value.as_str(), service) {
            ("subscriber", Some(service)) => return Some(Role::Subscriber(service.value.clone())),
            ("subscriber", None) => {
                let help = "say whose subscriptions it is about: `service = \"…\"`";
                reader.problems.error(at, "a subscriber's token needs a `service`", help);
            }
            ("admin", None) => return Some(Role::Admin),
            ("reader", None) => return Some(Role::Reader),
            ("admin" | "reader", Some(service)) => {
                let message =
                    format!("a token with the role `{}` is not one service's", role.value);
                let help = "take `service` out, or make it a `subscriber`";
                reader.problems.error(&service.at, message, help);
            }
            (other, _) => {
                let help = advice(other, "the roles", ROLES);
                reader.problems.error(&role.at, format!("there is no role `{other}`"), help);
            }
        }
        None
    }

    fn digest(section: &mut Section<'_>, reader: &mut Reader<'_>) -> Option<TokenDigest> {
        let given = section.has("sha256") || section.has("token");
        let sha256 = section.text("sha256", reader);
        let clear = section.text("token", reader);
        let clear = clear.map(|c| Located { value: Secret::new(c.value), at: c.at });
        match (sha256, clear) {
            (Some(sha256), None) => match sha256.value.parse() {
                Ok(digest) => Some(digest),
                Err(e) => {
                    reader.problems.error(&sha256.at, e.to_string(), TOKEN_HELP);
                    None
                }
            },
            (None, Some(clear)) if clear.value.reveal().chars().count() >= TOKEN_MIN => {
                Some(TokenDigest::of(clear.value.reveal()))
            }
            (None, Some(clear)) => {
                let message = format!("a token has at least {TOKEN_MIN} characters");
                reader.problems.error(&clear.at, message, TOKEN_HELP);
                None
            }
            (None, None) => {
                // What is wrong with one that is there has been said.
                if !given {
                    let message = "`sha256` is missing";
                    reader.problems.error(&section.at, message, TOKEN_HELP);
                }
                None
            }
            (Some(sha256), Some(_)) => {
                let help = "`sha256` is enough";
                reader.problems.error(&sha256.at, "both `sha256` and `token` are given", help);
                None
            }
        }
    }
}

#[cfg(test)]
mod tests;
