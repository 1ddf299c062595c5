//! What is remembered of subscriptions, and the rules by which it changes: a pure function that
//! every registry applies.

use crate::{Code, Diagnose, EntityRef, Remedy, RouteId, ServiceName, Subscription, plain_path};
use std::collections::BTreeMap;
use std::fmt;

/// Who asked for a subscription, and so who may take it back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Origin {
    /// The configuration file. It changes with the file only.
    File,
    /// The command line or the API, while an instance ran.
    RunTime,
}

impl Origin {
    /// The word for it: `file` or `run-time`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::RunTime => "run-time",
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One subscription, with its subscriber and its publisher.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The subscriber.
    pub to: ServiceName,
    /// The publisher.
    pub from: ServiceName,
    /// What it takes.
    pub subscription: Subscription,
    /// Who asked for it.
    pub origin: Origin,
}

impl Entry {
    /// The route it belongs to.
    pub fn route(&self) -> RouteId {
        RouteId { from: self.from.clone(), to: self.to.clone() }
    }

    /// The entity, with its publisher.
    pub fn of(&self) -> EntityRef {
        EntityRef { service: self.from.clone(), entity: self.subscription.entity.clone() }
    }

    /// Whether it is `to`'s subscription of `of` into `into`, which is what tells subscriptions
    /// apart. A table means the same with and without the default schema's name.
    pub fn is(&self, to: &ServiceName, of: &EntityRef, into: &str) -> bool {
        self.writes_into(to, into)
            && self.from == of.service
            && self.subscription.entity == of.entity
    }

    /// Whether both ask for the same: where `now` was is no part of it.
    fn wishes(&self, other: &Self) -> bool {
        let wish = |s: &Subscription| Subscription { from: s.from.wish(), ..s.clone() };
        wish(&self.subscription) == wish(&other.subscription)
    }

    fn writes_into(&self, to: &ServiceName, into: &str) -> bool {
        self.to == *to && plain_path(&self.subscription.into) == plain_path(into)
    }
}

/// Why a route does not move although it could.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pause {
    /// Who paused it.
    pub by: String,
    /// Why, in that person's words.
    pub why: Option<String>,
}

impl fmt::Display for Pause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "paused by {}", self.by)?;
        self.why.as_ref().map_or(Ok(()), |why| write!(f, ": {why}"))
    }
}

/// All subscriptions, and which routes are paused.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Catalog {
    /// The subscriptions: the file's first, in its order, then those of run time, oldest first.
    pub entries: Vec<Entry>,
    /// The paused routes.
    pub pauses: BTreeMap<RouteId, Pause>,
}

/// One change to the catalog.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Edit {
    /// These are the subscriptions of the file now; those it no longer names are gone. One that was
    /// made at run time and stands in the file from now on becomes the file's.
    File(Vec<Entry>),
    /// A subscription made at run time. Making the same one again changes nothing.
    Subscribe(Entry),
    /// A subscription made at run time is no longer wanted.
    Unsubscribe {
        /// The subscriber.
        to: ServiceName,
        /// Of what.
        of: EntityRef,
        /// Its table.
        into: String,
    },
    /// A route stands still until it is resumed. The last word counts.
    Pause {
        /// Which route.
        route: RouteId,
        /// By whom, and why.
        pause: Pause,
    },
    /// A route goes on. One that is not paused stays as it is.
    Resume {
        /// Which route.
        route: RouteId,
    },
}

/// Why the rules do not allow an edit. Nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EditError {
    /// The file owns the subscription.
    #[error("{to}'s subscription to {of} into {into} stands in the configuration file")]
    FileOwns {
        /// The subscriber.
        to: ServiceName,
        /// Of what.
        of: EntityRef,
        /// Its table.
        into: String,
    },
    /// It is there already, with another definition.
    #[error("{to} has subscribed to {of} into {into} already, and otherwise")]
    Differs {
        /// The subscriber.
        to: ServiceName,
        /// Of what.
        of: EntityRef,
        /// Its table.
        into: String,
    },
    /// Two subscriptions would write one table.
    #[error("{to}'s table {into} already holds the copy of {other}; {of} cannot go into it too")]
    Taken {
        /// The subscriber.
        to: ServiceName,
        /// Of what.
        of: EntityRef,
        /// The table.
        into: String,
        /// Whose copy it is.
        other: EntityRef,
    },
    /// There is no such subscription.
    #[error("{to} has no subscription to {of} into {into}")]
    NoSubscription {
        /// The subscriber.
        to: ServiceName,
        /// Of what.
        of: EntityRef,
        /// The table.
        into: String,
    },
    /// There is no such route.
    #[error("there is no route {0}")]
    NoRoute(RouteId),
}

impl Diagnose for EditError {
    fn remedy(&self) -> Remedy {
        match self {
            Self::FileOwns { .. }
            | Self::Differs { .. }
            | Self::Taken { .. }
            | Self::NoSubscription { .. }
            | Self::NoRoute(_) => Remedy::Operator(Code::Subscription),
        }
    }

    fn help(&self) -> &str {
        match self {
            Self::FileOwns { .. } => {
                "change it in the file, then `rowcast reload`; nothing was changed"
            }
            Self::Differs { .. } => {
                "`rowcast unsubscribe` it first, which keeps the table, or name another table with \
                 `--into`; nothing was changed"
            }
            Self::Taken { .. } => {
                "give each copy a table of its own with `into`; nothing was changed"
            }
            Self::NoSubscription { .. } => {
                "`rowcast subscriptions` lists what there is; nothing was changed"
            }
            Self::NoRoute(_) => "`rowcast status` lists the routes; nothing was changed",
        }
    }
}

impl Catalog {
    /// Applies an edit, whole or not at all; tells whether it changed anything.
    ///
    /// # Errors
    /// When the rules do not allow it.
    pub fn edit(&mut self, edit: Edit) -> Result<bool, EditError> {
        let mut next = self.clone();
        match edit {
            Edit::File(entries) => next.replace_file(entries)?,
            Edit::Subscribe(entry) => next.subscribe(entry)?,
            Edit::Unsubscribe { to, of, into } => next.unsubscribe(&to, &of, into)?,
            Edit::Pause { route, pause } => {
                next.expect_route(&route)?;
                next.pauses.insert(route, pause);
            }
            Edit::Resume { route } => {
                next.expect_route(&route)?;
                next.pauses.remove(&route);
            }
        }
        // A pause goes with its route: one that comes back is not still by surprise.
        let routes: Vec<_> = next.entries.iter().map(Entry::route).collect();
        next.pauses.retain(|route, _| routes.contains(route));
        let changed = next != *self;
        *self = next;
        Ok(changed)
    }

    fn replace_file(&mut self, entries: Vec<Entry>) -> Result<(), EditError> {
        let known: Vec<_> = self.entries.drain(..).collect();
        for mut entry in entries {
            self.expect_free(&entry)?;
            // What was `now` once stays where it was.
            let (to, of, into) = (&entry.to, entry.of(), &entry.subscription.into);
            let before = known.iter().find(|e| e.is(to, &of, into) && e.wishes(&entry));
            if let Some(before) = before {
                entry.subscription.from = before.subscription.from;
            }
            self.entries.push(Entry { origin: Origin::File, ..entry });
        }
        let at_run_time: Vec<_> =
            known.into_iter().filter(|e| e.origin == Origin::RunTime).collect();
        for entry in at_run_time {
            if self.find(&entry.to, &entry.of(), &entry.subscription.into).is_none() {
                self.expect_free(&entry)?;
                self.entries.push(entry);
            }
        }
        Ok(())
    }

    fn subscribe(&mut self, entry: Entry) -> Result<(), EditError> {
        let (to, of, into) = (entry.to.clone(), entry.of(), entry.subscription.into.clone());
        match self.find(&to, &of, &into) {
            Some(known) if known.origin == Origin::File => {
                Err(EditError::FileOwns { to, of, into })
            }
            Some(known) if known.wishes(&entry) => Ok(()),
            Some(_) => Err(EditError::Differs { to, of, into }),
            None => {
                self.expect_free(&entry)?;
                self.entries.push(Entry { origin: Origin::RunTime, ..entry });
                Ok(())
            }
        }
    }

    fn unsubscribe(
        &mut self,
        to: &ServiceName,
        of: &EntityRef,
        into: String,
    ) -> Result<(), EditError> {
        let (to, of) = (to.clone(), of.clone());
        match self.find(&to, &of, &into).map(|e| e.origin) {
            None => return Err(EditError::NoSubscription { to, of, into }),
            Some(Origin::File) => return Err(EditError::FileOwns { to, of, into }),
            Some(Origin::RunTime) => self.entries.retain(|e| !e.is(&to, &of, &into)),
        }
        Ok(())
    }

    fn find(&self, to: &ServiceName, of: &EntityRef, into: &str) -> Option<&Entry> {
        self.entries.iter().find(|e| e.is(to, of, into))
    }

    fn expect_free(&self, entry: &Entry) -> Result<(), EditError> {
        let into = &entry.subscription.into;
        let Some(other) = self.entries.iter().find(|e| e.writes_into(&entry.to, into)) else {
            return Ok(());
        };
        let (to, of, into) = (entry.to.clone(), entry.of(), into.clone());
        Err(EditError::Taken { to, of, into, other: other.of() })
    }

    fn expect_route(&self, route: &RouteId) -> Result<(), EditError> {
        let there = self.entries.iter().any(|e| e.route() == *route);
        there.then_some(()).ok_or_else(|| EditError::NoRoute(route.clone()))
    }
}

#[cfg(test)]
mod tests;
