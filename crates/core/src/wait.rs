//! What a sink waits for at its target, for whoever asks while a call of it is under way.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

/// What the target does for a call that takes long. Nothing here holds a row's values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wait {
    /// What it waits for or works on: `a lock on table public.item`.
    pub what: String,
    /// Since when, in milliseconds since 1970 UTC, by the target's clock.
    pub since_ms: i64,
    /// Who stands in the way.
    pub blockers: Vec<Blocker>,
    /// What a person can do about it; empty when there is nothing to do.
    pub help: String,
}

/// A session of the target, or a process, that another one waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blocker {
    /// How the target calls it: `pid 4711`.
    pub id: String,
    /// The program, as it names itself.
    pub program: String,
    /// The user it is logged in as.
    pub user: String,
    /// What it does: `idle in transaction`. Empty when that is not known.
    pub state: String,
    /// When its transaction began, in milliseconds since 1970 UTC, by the target's clock.
    pub since_ms: Option<i64>,
}

impl fmt::Display for Wait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)?;
        for (i, blocker) in self.blockers.iter().enumerate() {
            f.write_str(if i == 0 { "; it is blocked by " } else { " and " })?;
            blocker.fmt(f)?;
        }
        Ok(())
    }
}

impl fmt::Display for Blocker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { id, program, user, state, .. } = self;
        let user = if user.is_empty() { String::new() } else { format!("user {user}") };
        let parts = [program.as_str(), &user, state].into_iter().filter(|part| !part.is_empty());
        let parts: Vec<_> = parts.collect();
        match parts.is_empty() {
            true => f.write_str(id),
            false => write!(f, "{id} ({})", parts.join(", ")),
        }
    }
}

/// Where a sink shows what it waits for.
#[derive(Debug, Clone, Default)]
pub struct Waiting(Arc<Mutex<Option<Wait>>>);

impl Waiting {
    /// Shows a wait, or that there is none. Says whether this is another one than before.
    pub fn show(&self, wait: Option<Wait>) -> bool {
        let mut shown = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let news = *shown != wait;
        *shown = wait;
        news
    }

    /// What is shown now.
    pub fn now(&self) -> Option<Wait> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_names_who_stands_in_the_way() {
        let blocker = Blocker {
            id: "pid 7".into(),
            program: "psql".into(),
            user: "alice".into(),
            state: "idle in transaction".into(),
            since_ms: None,
        };
        let bare = Blocker {
            id: "pid 8".into(),
            program: String::new(),
            user: String::new(),
            state: String::new(),
            since_ms: None,
        };
        let wait = Wait {
            what: "a lock on table public.item".into(),
            since_ms: 0,
            blockers: vec![blocker, bare],
            help: String::new(),
        };
        assert_eq!(
            wait.to_string(),
            "a lock on table public.item; it is blocked by pid 7 (psql, user alice, idle in \
             transaction) and pid 8"
        );
    }
}
