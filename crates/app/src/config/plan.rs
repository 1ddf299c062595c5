//! What the file asks for, in the engine's words.

use crate::config::file::{Config, Service};
use crate::config::problem::Problems;
use crate::config::secret::Secret;
use crate::config::server::TlsFiles;
use crate::databases;
use rowcast_core::{
    ByteSize, Database, Entry, Origin, Publish, Registry, RegistryError, RouteId, ServiceName,
    SinkSpec, SourceSpec, Subscription, Track,
};
use rowcast_engine::Retain;
use rowcast_server::Grant;
use rowcast_store::{LogConfig, SqliteRegistry};
use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Row bytes after which a source hands a batch on: large enough to cost little each, small enough
/// that many services fit in memory.
const BATCH_BYTES_MAX: ByteSize = ByteSize::mib(1);

/// A service with its database.
pub(crate) struct PlannedService {
    pub(crate) name: ServiceName,
    pub(crate) database: Arc<dyn Database>,
    /// The database's address as the file has it.
    pub(crate) url: Secret<String>,
    /// What it publishes, when it publishes anything.
    pub(crate) source: Option<SourceSpec>,
    /// What its database may keep for us.
    pub(crate) retain: Retain,
    /// Lanes of its routes, by publisher, where there is more than one.
    pub(crate) lanes: BTreeMap<ServiceName, u16>,
}

/// All subscriptions of one service to another.
pub(crate) struct PlannedRoute {
    pub(crate) database: Arc<dyn Database>,
    pub(crate) sink: SinkSpec,
    /// Transactions of the subscriber's database that may share a piece of the log.
    pub(crate) lanes: u16,
}

/// Everything to be done.
pub(crate) struct Plan {
    pub(crate) data: PathBuf,
    pub(crate) services: Vec<PlannedService>,
    pub(crate) routes: Vec<PlannedRoute>,
    pub(crate) listen: SocketAddr,
    /// Who may ask; nobody needs a token when there are none.
    pub(crate) grants: Vec<Grant>,
    pub(crate) tls: Option<TlsFiles>,
    pub(crate) log: LogConfig,
}

impl fmt::Debug for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let services: Vec<_> =
            self.services.iter().map(|s| (s.name.as_str(), s.database.address())).collect();
        let routes: Vec<_> = self.routes.iter().map(|r| r.sink.route.to_string()).collect();
        f.debug_struct("Plan")
            .field("data", &self.data)
            .field("services", &services)
            .field("routes", &routes)
            .finish_non_exhaustive()
    }
}

impl Plan {
    /// The plan of a checked file. A database address that is none is one more problem.
    pub(super) fn new(config: Config, base: &Path, problems: &mut Problems) -> Self {
        let mut services = Vec::new();
        let mut routes = Vec::new();
        for service in &config.services {
            let Some(address) = &service.database else { continue };
            match databases::open(&service.name.value, &address.value, base) {
                Ok(database) => {
                    routes.extend(routes_to(service, &config, &database));
                    services.push(PlannedService {
                        name: service.name.value.clone(),
                        database,
                        url: address.value.clone(),
                        source: source(service),
                        retain: service.retain,
                        lanes: service.lanes(),
                    });
                }
                Err(wrong) => problems.error(&address.at, wrong.message, wrong.help),
            }
        }
        let data = base.join(&config.data);
        let listen = config.server.listen.value;
        let tls = config.server.tls.as_ref().map(|tls| tls.files(base));
        let grants = config.server.grants();
        Self { data, services, routes, listen, grants, tls, log: config.log }
    }

    /// The subscription map's file.
    pub(crate) fn registry(&self) -> PathBuf {
        self.data.join("registry.db")
    }

    /// Adds what was subscribed to while an instance ran, as far as the file's services go.
    pub(crate) async fn with_run_time(mut self) -> Result<Self, RegistryError> {
        let path = self.registry();
        if !path.exists() {
            return Ok(self);
        }
        let place = path.display().to_string();
        let opening = tokio::task::spawn_blocking(move || SqliteRegistry::open(path)).await;
        let registry =
            opening.map_err(|e| RegistryError::Unusable { place, source: e.into() })??;
        let (_, catalog) = registry.load().await?;
        for entry in catalog.entries.into_iter().filter(|e| e.origin == Origin::RunTime) {
            self.add(entry);
        }
        Ok(self)
    }

    fn add(&mut self, entry: Entry) {
        let Some(service) = self.service(&entry.to) else { return };
        let (route, database) = (entry.route(), service.database.clone());
        let lanes = service.lanes.get(&entry.from).copied().unwrap_or(1);
        let subscription = entry.subscription;
        if let Some(known) = self.routes.iter_mut().find(|r| r.sink.route == route) {
            let all = &mut known.sink.subscriptions;
            let (entity, into) = (&subscription.entity, &subscription.into);
            // What stands in the file too, by now, is the file's.
            if !all.iter().any(|s| s.entity == *entity && s.into == *into) {
                all.push(subscription);
            }
        } else {
            let sink = SinkSpec { route, subscriptions: vec![subscription], track: Track::Main };
            self.routes.push(PlannedRoute { database, sink, lanes });
        }
    }

    /// The service with this name.
    pub(crate) fn service(&self, name: &ServiceName) -> Option<&PlannedService> {
        self.services.iter().find(|s| s.name == *name)
    }
}

fn source(service: &Service) -> Option<SourceSpec> {
    let entities: Vec<Publish> = service
        .publish
        .iter()
        .map(|p| Publish {
            entity: p.entity.value.clone(),
            table: p.table.value.clone(),
            fields: p.fields.as_ref().map(|f| f.iter().map(|f| f.value.clone()).collect()),
            masks: p.masks(service),
        })
        .collect();
    let service = service.name.value.clone();
    (!entities.is_empty()).then_some(SourceSpec {
        service,
        entities,
        batch_bytes_max: BATCH_BYTES_MAX,
    })
}

/// One route for each publisher that the service subscribes to, in the file's order.
fn routes_to(to: &Service, config: &Config, database: &Arc<dyn Database>) -> Vec<PlannedRoute> {
    let mut routes = Vec::new();
    for from in &config.services {
        let from = &from.name.value;
        let subscriptions: Vec<Subscription> = to
            .subscribe
            .iter()
            .filter(|s| s.of.value.service == *from)
            .map(|s| Subscription {
                entity: s.of.value.entity.clone(),
                into: s.into.value.clone(),
                fields: s.fields.clone(),
                create: s.create,
                filter: s.filter.clone(),
                from: s.from,
            })
            .collect();
        if !subscriptions.is_empty() {
            let route = RouteId { from: from.clone(), to: to.name.value.clone() };
            let sink = SinkSpec { route, subscriptions, track: Track::Main };
            let lanes = to.lanes().get(from).copied().unwrap_or(1);
            routes.push(PlannedRoute { database: database.clone(), sink, lanes });
        }
    }
    routes
}
