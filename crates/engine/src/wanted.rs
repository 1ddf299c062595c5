//! What a node is to do: services and subscriptions in, captures and routes out. Pure.

use crate::node::{Publisher, RouteSpec};
use crate::retain::Retain;
use rowcast_core::{
    ByteSize, Catalog, Database, Entry, Origin, Pause, RouteId, ServiceName, SinkSpec, SourceSpec,
    Track,
};
use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::Arc;

/// The least and the most row bytes that one route takes from the log at once.
const READ_BYTES: RangeInclusive<u64> = 1 << 20..=16 << 20;

/// A service, as the configuration names it.
#[derive(Clone)]
pub struct Service {
    /// Its name.
    pub name: ServiceName,
    /// Its database. The same one as before is the same `Arc`.
    pub database: Arc<dyn Database>,
    /// What it publishes, when it publishes anything.
    pub source: Option<SourceSpec>,
    /// What its database may keep for us.
    pub retain: Retain,
    /// Lanes of its routes, by publisher; 1 where nothing is said.
    pub lanes: BTreeMap<ServiceName, u16>,
    /// Give up the history the log follows and begin a new one, with new snapshots; once.
    pub afresh: bool,
}

/// All services, in the configuration's order.
pub type Services = Arc<Vec<Service>>;

/// A route, and what people said about it.
pub(crate) struct WantedRoute {
    pub(crate) spec: RouteSpec,
    /// Who asked for each of its subscriptions.
    pub(crate) origins: Vec<Origin>,
    pub(crate) pause: Option<Pause>,
}

/// Everything a node is to do.
pub(crate) struct Wanted {
    pub(crate) publishers: Vec<Publisher>,
    pub(crate) routes: Vec<WantedRoute>,
    /// Row bytes that each route takes from the log at once.
    pub(crate) read_bytes_max: ByteSize,
}

impl Wanted {
    /// What services and subscriptions ask for. All routes together take about `read_bytes_all`
    /// row bytes from the log at once. What [`problem`] tells of is left out.
    pub(crate) fn of(services: &[Service], catalog: &Catalog, read_bytes_all: ByteSize) -> Self {
        let publishers = services.iter().filter_map(|s| {
            let (database, spec) = (s.database.clone(), s.source.clone()?);
            Some(Publisher { database, spec, afresh: s.afresh, retain: s.retain })
        });
        let mut routes = Vec::new();
        for to in services {
            for from in services.iter().filter(|s| s.source.is_some()) {
                routes.extend(route(from, to, catalog));
            }
        }
        let share = read_bytes_all.0 / routes.len().max(1) as u64;
        let read_bytes_max = ByteSize(share.clamp(*READ_BYTES.start(), *READ_BYTES.end()));
        Self { publishers: publishers.collect(), routes, read_bytes_max }
    }
}

fn route(from: &Service, to: &Service, catalog: &Catalog) -> Option<WantedRoute> {
    let route = RouteId { from: from.name.clone(), to: to.name.clone() };
    let entries: Vec<&Entry> = catalog.entries.iter().filter(|e| e.route() == route).collect();
    if entries.is_empty() {
        return None;
    }
    let pause = catalog.pauses.get(&route).cloned();
    let subscriptions = entries.iter().map(|e| e.subscription.clone()).collect();
    let sink = SinkSpec { route, subscriptions, track: Track::Main };
    let lanes = to.lanes.get(&from.name).copied().unwrap_or(1);
    let spec = RouteSpec { database: to.database.clone(), sink, lanes };
    Some(WantedRoute { spec, origins: entries.iter().map(|e| e.origin).collect(), pause })
}

/// Why a subscription cannot be served: the services changed under it.
pub(crate) fn problem(entry: &Entry, services: &[Service]) -> Option<String> {
    let find = |name: &ServiceName| services.iter().find(|s| s.name == *name);
    let (to, of) = (&entry.to, entry.of());
    if find(to).is_none() {
        return Some(format!("the configuration names no service `{to}` any more"));
    }
    let Some(from) = find(&entry.from) else {
        return Some(format!("the configuration names no service `{}` any more", entry.from));
    };
    let published = from.source.iter().flat_map(|s| &s.entities);
    let there = published.into_iter().any(|p| p.entity == of.entity);
    (!there).then(|| format!("{of} is no longer published: the copy stands still"))
}
