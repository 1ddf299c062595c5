//! What a server has to give before anything moves. `check` and every start ask the same list, so that
//! neither lets pass what the other refuses.

use rowcast_core::{Finding, Severity};

/// Something that is lacking.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Need {
    /// What lacks it: a table, a role, the server.
    pub(crate) subject: String,
    /// What is lacking, as a sentence.
    pub(crate) what: String,
    /// What to do, as a sentence.
    pub(crate) help: String,
    /// What to run; not by us.
    pub(crate) fix: Vec<String>,
}

impl Need {
    pub(crate) fn finding(self) -> Finding {
        let finding = Finding::new(Severity::Error, self.subject, self.what, self.help);
        if self.fix.is_empty() { finding } else { finding.with_fix(false, self.fix) }
    }

    /// What is lacking and what to do, as an error says them.
    pub(crate) fn words(self) -> (String, String) {
        let mut help = lower(&self.help);
        if !self.fix.is_empty() {
            help = format!("{help}: {}", self.fix.join("; "));
        }
        (lower(&self.what), help)
    }

    /// What the answers say of a server that has to take writes: a standby, or one that refuses them.
    pub(crate) fn writes(
        address: String,
        (standby, read_only): (bool, bool),
        (user, database): (&str, &str),
    ) -> Option<Self> {
        if standby {
            return Some(Self {
                subject: address,
                what: "The server is a standby, which takes no writes.".into(),
                help: "Let the service's `database` name the primary.".into(),
                fix: Vec::new(),
            });
        }
        read_only.then(|| Self {
            subject: address,
            what: "The server takes no writes from this role: default_transaction_read_only is on."
                .into(),
            help: "Find out who switched it on and why, a full disk for example. Then let a superuser \
                   run what fits: the database, the role, or ALTER SYSTEM"
                .into(),
            fix: vec![
                format!("ALTER DATABASE {database} SET default_transaction_read_only = off"),
                format!("ALTER ROLE {user} SET default_transaction_read_only = off"),
            ],
        })
    }

    /// A schema whose objects the role may not name.
    pub(crate) fn usage(schema: &str, user: &str) -> Self {
        Self {
            subject: schema.to_string(),
            what: format!(
                "The role {user} lacks USAGE on schema {schema}, so it cannot use its tables."
            ),
            help: "Let the schema's owner run the statement".into(),
            fix: vec![format!("GRANT USAGE ON SCHEMA {schema} TO {user}")],
        }
    }
}

/// What a server's words show to be a pooler that gives a session's transactions to other sessions'
/// connections.
pub(crate) fn is_pooler(state: &str, message: &str) -> bool {
    // Nobody but us prepares statements on our sessions.
    matches!(state, "26000" | "42P05") || message.starts_with("unsupported startup parameter")
}

/// What to say of one.
pub(crate) const POOLER: &str = "a connection pooler such as PgBouncer in transaction mode answers there, and Rowcast needs a session \
     of its own";
/// What to do about one.
pub(crate) const POOLER_HELP: &str = "let the service's `database` name the PostgreSQL server itself, on its own port, mostly 5432; \
     docs/configuration.md says more under \"Connection poolers\"";

/// The pooler, as something lacking.
pub(crate) fn pooler(address: String) -> Need {
    Need { subject: address, what: sentence(POOLER), help: sentence(POOLER_HELP), fix: Vec::new() }
}

fn sentence(text: &str) -> String {
    let mut letters = text.chars();
    let first = letters.next().map(|c| c.to_uppercase().to_string()).unwrap_or_default();
    format!("{first}{}.", letters.as_str())
}

fn lower(text: &str) -> String {
    let text = text.trim_end_matches('.');
    let mut letters = text.chars();
    let first = letters.next().map(|c| c.to_lowercase().to_string()).unwrap_or_default();
    format!("{first}{}", letters.as_str())
}
