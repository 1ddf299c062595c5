//! Who subscribes to what, asked for and changed while the node runs. A change is looked at before
//! it is accepted, from the log and at the subscriber: the publisher's database is not asked.

mod fits;

use crate::refusal::Refusal;
use crate::wanted::{Services, problem};
use rowcast_core::{
    Catalog, Edit, EntityRef, Entry, EventLog, Fields, Pause, Registry, RegistryError, RouteId,
    ServiceName, Version, plain_path,
};
use serde::Serialize;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};

/// Longest to wait until the node has begun with a change that is durable already.
const TAKEN_WITHIN: Duration = Duration::from_secs(5);

/// The subscriptions of a running node.
pub struct Subscriptions {
    pub(crate) registry: Arc<dyn Registry>,
    pub(crate) services: watch::Receiver<Services>,
    pub(crate) log: Arc<dyn EventLog>,
    /// The version that the node has begun with.
    pub(crate) taken: watch::Receiver<Version>,
    pub(crate) nudge: mpsc::Sender<RouteId>,
}

/// A subscription as others see it. The JSON is a contract: extend it, do not rename.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Subscribed {
    /// The subscriber.
    pub to: String,
    /// The entity: `customer.customer`.
    pub of: String,
    /// The copy's table.
    pub into: String,
    /// (name in the copy, published name); `null` for all fields, also those that come later.
    pub fields: Option<Vec<(String, String)>>,
    /// Which rows, as an SQL condition; `null` for all.
    #[serde(rename = "where")]
    pub filter: Option<String>,
    /// The table may be made when it is missing.
    pub create: bool,
    /// Where it begins: `beginning`, `now`, an offset or a position.
    pub from: String,
    /// `file` or `run-time`.
    pub origin: &'static str,
    /// Why its route stands still on a person's word: `paused by ada`.
    pub paused: Option<String>,
    /// Why it cannot be served: the configuration changed under it.
    pub problem: Option<String>,
}

impl Subscribed {
    fn of(entry: &Entry, catalog: &Catalog, services: &Services) -> Self {
        let subscription = &entry.subscription;
        Self {
            to: entry.to.to_string(),
            of: entry.of().to_string(),
            into: subscription.into.clone(),
            fields: match &subscription.fields {
                Fields::All => None,
                Fields::Named(named) => Some(named.clone()),
            },
            filter: subscription.filter.as_ref().map(|f| f.as_str().to_string()),
            create: subscription.create,
            from: subscription.from.to_string(),
            origin: entry.origin.as_str(),
            paused: catalog.pauses.get(&entry.route()).map(Pause::to_string),
            problem: problem(entry, services),
        }
    }
}

impl Subscriptions {
    /// All of them: the file's first.
    ///
    /// # Errors
    /// When the registry cannot be read.
    pub async fn list(&self) -> Result<Vec<Subscribed>, Refusal> {
        let (_, catalog) = self.registry.load().await?;
        let services = self.services.borrow().clone();
        let entries = catalog.entries.iter();
        Ok(entries.map(|e| Subscribed::of(e, &catalog, &services)).collect())
    }

    /// Adds a subscription, durably, once everything fits. The copy is built while everything else
    /// goes on. Asking again for the same changes nothing.
    ///
    /// # Errors
    /// What does not fit, with what to do.
    pub async fn subscribe(&self, mut entry: Entry) -> Result<Subscribed, Refusal> {
        let services = self.services.borrow().clone();
        let (_, catalog) = self.registry.load().await?;
        // What the rules refuse needs no look at a database.
        catalog.clone().edit(Edit::Subscribe(entry.clone())).map_err(RegistryError::from)?;
        fits::look(&entry, &catalog, &services, &*self.log).await?;
        fits::begins(&mut entry, &catalog, &*self.log).await?;
        let (catalog, entry) = self
            .edit(|catalog| {
                fits::alone(&entry, catalog, &services)
                    .map(|()| (Edit::Subscribe(entry.clone()), entry.clone()))
            })
            .await?;
        let here = |e: &&Entry| e.is(&entry.to, &entry.of(), &entry.subscription.into);
        let made = catalog.entries.iter().find(here).unwrap_or(&entry);
        Ok(Subscribed::of(made, &catalog, &services))
    }

    /// Takes a subscription back, durably. Its table stays as it is, with its rows.
    ///
    /// # Errors
    /// When there is none, when there are several and `into` does not say which, and when the file
    /// owns it.
    pub async fn unsubscribe(
        &self,
        to: &ServiceName,
        of: &EntityRef,
        into: Option<&str>,
    ) -> Result<Subscribed, Refusal> {
        let services = self.services.borrow().clone();
        let (catalog, entry) = self
            .edit(|catalog| {
                let entry = meant(catalog, to, of, into)?;
                let (to, of, into) = (to.clone(), of.clone(), entry.subscription.into.clone());
                Ok((Edit::Unsubscribe { to, of, into }, entry))
            })
            .await?;
        Ok(Subscribed::of(&entry, &catalog, &services))
    }

    /// Stops a route, durably, after what it has in hand. The log keeps what comes.
    ///
    /// # Errors
    /// When there is no such route.
    pub async fn pause(&self, route: &RouteId, pause: Pause) -> Result<(), Refusal> {
        let edit = || Edit::Pause { route: route.clone(), pause: pause.clone() };
        self.edit(|_| Ok((edit(), ()))).await.map(|_| ())
    }

    /// Lets a paused route go on. A route, or its publisher's capture, that waits for an outage to
    /// end or for a person looks again at once.
    ///
    /// # Errors
    /// When there is no such route.
    pub async fn resume(&self, route: &RouteId) -> Result<(), Refusal> {
        self.edit(|_| Ok((Edit::Resume { route: route.clone() }, ()))).await?;
        // When so many wait already, this one would ask for the same.
        let _ = self.nudge.try_send(route.clone());
        Ok(())
    }

    /// Edits as often as somebody else was faster, and waits until the node has begun with it; the
    /// catalog that `make` decided upon.
    async fn edit<T>(
        &self,
        make: impl Fn(&Catalog) -> Result<(Edit, T), Refusal>,
    ) -> Result<(Catalog, T), Refusal> {
        loop {
            let (seen, mut catalog) = self.registry.load().await?;
            let (edit, made) = make(&catalog)?;
            let version = match self.registry.edit(seen, edit.clone()).await {
                Ok(version) => version,
                Err(RegistryError::Stale { .. }) => continue,
                Err(e) => return Err(e.into()),
            };
            catalog.edit(edit).map_err(RegistryError::from)?;
            let mut taken = self.taken.clone();
            let taken = taken.wait_for(|taken| *taken >= version);
            // It is durable: a node that is busy, or stopping, takes it up later.
            let _ = tokio::time::timeout(TAKEN_WITHIN, taken).await;
            return Ok((catalog, made));
        }
    }
}

/// The one subscription that somebody means.
fn meant(
    catalog: &Catalog,
    to: &ServiceName,
    of: &EntityRef,
    into: Option<&str>,
) -> Result<Entry, Refusal> {
    let of_both = |e: &&Entry| e.to == *to && e.of() == *of;
    let named =
        |e: &&Entry| into.is_none_or(|into| plain_path(&e.subscription.into) == plain_path(into));
    let all: Vec<&Entry> = catalog.entries.iter().filter(of_both).filter(named).collect();
    match all[..] {
        [one] => Ok(one.clone()),
        [] => {
            let table = into.map(|into| format!(" into {into}")).unwrap_or_default();
            let what = format!("{to} has no subscription to {of}{table}");
            let others: Vec<_> = catalog.entries.iter().filter(|e| e.to == *to).collect();
            let names: Vec<_> = others.iter().map(|e| e.of().to_string()).collect();
            let of = of.to_string();
            let help = if names.is_empty() {
                "`rowcast subscriptions` lists who gets what".into()
            } else {
                rowcast_core::advice(&of, "its subscriptions", names.iter().map(String::as_str))
            };
            Err(Refusal::Missing { what, help: format!("{help}; nothing was changed") })
        }
        _ => {
            let tables: Vec<_> = all.iter().map(|e| e.subscription.into.as_str()).collect();
            let what = format!("{to} has {} copies of {of}: {}", tables.len(), tables.join(", "));
            let help = "say which one with `--into TABLE`; nothing was changed".into();
            Err(Refusal::Ambiguous { what, help })
        }
    }
}
