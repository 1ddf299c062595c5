//! The subscription map of an instance: what the file says goes into the registry at the start and
//! whenever the file is read again; what people said while an instance ran stays there.

use super::door::Keys;
use super::tell_left_behind;
use crate::config::{self, Plan, Secret, Weight, count};
use crate::output::Output;
use crate::report::Failure;
use rowcast_core::{
    ByteSize, Code, Edit, EditError, Entry, EventLog, Origin, Registry, RegistryError, ServiceName,
};
use rowcast_engine::{Desired, Service, Services, begin_now};
use rowcast_store::{LogConfig, SqliteRegistry};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::signal::unix::Signal;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Row bytes that all routes together take from the log at once; bounds their memory.
const READ_BYTES_ALL: ByteSize = ByteSize::mib(32);

/// The subscription map of a running instance.
pub(crate) struct Map {
    registry: Arc<SqliteRegistry>,
    log: Arc<dyn EventLog>,
    services: watch::Sender<Services>,
    /// Each service's address as the file wrote it: the same one keeps its database.
    addresses: Vec<(ServiceName, Secret<String>)>,
    /// What only a start takes up.
    fixed: (PathBuf, SocketAddr, LogConfig),
}

impl Map {
    /// Opens the registry in the plan's data directory and brings it in line with the file. Hold the
    /// directory's lock.
    pub(crate) async fn open(
        plan: &Plan,
        resnapshot: &[ServiceName],
        log: Arc<dyn EventLog>,
    ) -> Result<Self, Failure> {
        let path = plan.registry();
        let opening = tokio::task::spawn_blocking(move || SqliteRegistry::open(path)).await;
        let opened =
            opening.map_err(|e| Failure::new("the registry was not opened", "").because(&e))?;
        let registry = Arc::new(opened.map_err(|e| Failure::of(&e))?);
        edit(&*registry, entries(plan, &*log).await?).await.map_err(|e| refused(&e))?;
        let services = plan.services.iter().map(|s| Service {
            name: s.name.clone(),
            database: s.database.clone(),
            source: s.source.clone(),
            retain: s.retain,
            lanes: s.lanes.clone(),
            afresh: resnapshot.contains(&s.name),
        });
        Ok(Self {
            registry,
            log,
            services: watch::Sender::new(Arc::new(services.collect())),
            addresses: addresses(plan),
            fixed: (plan.data.clone(), plan.listen, plan.log.clone()),
        })
    }

    /// What a node follows.
    pub(crate) fn desired(&self) -> Desired {
        Desired::new(self.registry.clone(), self.services.subscribe(), READ_BYTES_ALL)
    }

    /// Reads the file again with every hang-up signal, until `stop`. A file with mistakes changes
    /// nothing.
    pub(crate) async fn obey(
        &mut self,
        keys: &mut Keys,
        hangups: &mut Signal,
        file: &Path,
        output: Output,
        stop: &CancellationToken,
    ) {
        while let Some(Some(())) = stop.run_until_cancelled(hangups.recv()).await {
            match self.reload(keys, file, output).await {
                Ok(said) => tracing::info!("{} read again: {said}", file.display()),
                Err(failure) => {
                    output.failure(&failure);
                    tracing::error!(
                        "{} was not taken over: everything stays as it was",
                        file.display()
                    );
                }
            }
        }
    }

    async fn reload(
        &mut self,
        keys: &mut Keys,
        file: &Path,
        output: Output,
    ) -> Result<String, Failure> {
        let mut loaded = config::load(file)?;
        let tls = loaded.tls(Weight::Warning)?;
        output.warnings(&loaded);
        let plan = loaded.plan;
        keys.fit(&plan)?;
        let (data, listen, log) = &self.fixed;
        let later = [
            ("`data`", plan.data != *data),
            ("`server.listen`", plan.listen != *listen),
            ("`[log]`", plan.log != *log),
        ];
        for (what, _) in later.into_iter().filter(|(_, differs)| *differs) {
            tracing::warn!("{what} differs from what runs, and takes effect at the next start");
        }
        // First what may be refused.
        edit(&*self.registry, entries(&plan, &*self.log).await?).await.map_err(|e| refused(&e))?;
        let old = self.services.borrow().clone();
        let services =
            plan.services.iter().zip(addresses(&plan)).map(|(service, (name, address))| {
                let here = |(n, a): &(ServiceName, Secret<String>)| *n == name && *a == address;
                let known = old.iter().find(|s| s.name == name && self.addresses.iter().any(here));
                let database =
                    known.map_or_else(|| service.database.clone(), |s| s.database.clone());
                let (source, retain) = (service.source.clone(), service.retain);
                let lanes = service.lanes.clone();
                Service { name, database, source, retain, lanes, afresh: false }
            });
        let services: Services = Arc::new(services.collect());
        let routes = plan.routes.len();
        self.addresses = addresses(&plan);
        let said = format!("{} and {}", count(services.len(), "service"), count(routes, "route"));
        let publishes = |all: &Services, name: &ServiceName| {
            all.iter().any(|s| s.name == *name && s.source.is_some())
        };
        let ended: Vec<_> = old
            .iter()
            .filter(|s| publishes(&old, &s.name) && !publishes(&services, &s.name))
            .map(|s| (s.name.clone(), s.database.clone()))
            .collect();
        self.services.send_replace(services);
        for (name, database) in ended {
            tell_left_behind(&name, &*database).await;
        }
        keys.change(&plan, tls);
        Ok(said)
    }
}

fn addresses(plan: &Plan) -> Vec<(ServiceName, Secret<String>)> {
    plan.services.iter().map(|s| (s.name.clone(), s.url.clone())).collect()
}

/// The file's subscriptions, in its order. Those that begin now know where that is; the registry keeps
/// to what it knew before.
async fn entries(plan: &Plan, log: &dyn EventLog) -> Result<Vec<Entry>, Failure> {
    let of_route = plan.routes.iter().flat_map(|r| {
        let route = &r.sink.route;
        r.sink.subscriptions.iter().map(|subscription| Entry {
            to: route.to.clone(),
            from: route.from.clone(),
            subscription: subscription.clone(),
            origin: Origin::File,
        })
    });
    let mut entries: Vec<Entry> = of_route.collect();
    for entry in &mut entries {
        begin_now(entry, log).await.map_err(|e| Failure::of(&e))?;
    }
    Ok(entries)
}

/// Edits as often as somebody else was faster.
async fn edit(registry: &dyn Registry, entries: Vec<Entry>) -> Result<(), RegistryError> {
    loop {
        let (seen, _) = registry.load().await?;
        match registry.edit(seen, Edit::File(entries.clone())).await {
            Ok(_) => return Ok(()),
            Err(RegistryError::Stale { .. }) => {}
            Err(e) => return Err(e),
        }
    }
}

fn refused(error: &RegistryError) -> Failure {
    let RegistryError::Refused(EditError::Taken { to, other, into, .. }) = error else {
        return Failure::of(error);
    };
    let help = format!(
        "the other one was made at run time: give the file's another table with `into`; or start \
         without it, `rowcast unsubscribe {to} {other} --into {into}`, and put it back"
    );
    Failure::new(error.to_string(), help).with_code(Code::Subscription)
}
