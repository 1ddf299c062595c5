//! A publisher, subscribers by name, and a node that follows a registry.

use super::setup::Running;
use rowcast_core::{
    ByteSize, EntityRef, Entry, EventLog, Fields, Origin, Pause, Publish, SourceSpec, Subscription,
};
use rowcast_engine::{Desired, Node, Refusal, Service, Services, Subscribed, Subscriptions};
use rowcast_store::{MemoryLog, MemoryRegistry};
use rowcast_testkit::memory::MemoryDatabase;
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::watch;

pub(crate) struct Town {
    pub(crate) publisher: MemoryDatabase,
    pub(crate) subscribers: BTreeMap<&'static str, MemoryDatabase>,
    pub(crate) registry: Arc<MemoryRegistry>,
    log: Arc<dyn EventLog>,
    all: Vec<Service>,
    services: watch::Sender<Services>,
}

pub(crate) fn town() -> Town {
    let publisher = MemoryDatabase::new();
    let publish = |e: &str| Publish {
        entity: e.parse().unwrap(),
        table: e.into(),
        fields: None,
        masks: Default::default(),
    };
    let mut all = vec![Service {
        retain: Default::default(),
        lanes: Default::default(),
        name: "shop".parse().unwrap(),
        database: Arc::new(publisher.clone()),
        source: Some(SourceSpec {
            service: "shop".parse().unwrap(),
            entities: ["customer", "order"].map(publish).into(),
            batch_bytes_max: ByteSize(300),
        }),
        afresh: false,
    }];
    let names = ["s0", "s1", "s2"];
    let subscribers: BTreeMap<_, _> = names.map(|n| (n, MemoryDatabase::new())).into();
    all.extend(subscribers.iter().map(|(name, database)| Service {
        retain: Default::default(),
        lanes: Default::default(),
        name: name.parse().unwrap(),
        database: Arc::new(database.clone()),
        source: None,
        afresh: false,
    }));
    let services = watch::Sender::new(Arc::new(all.clone()));
    let (registry, log) = (Arc::new(MemoryRegistry::new()), Arc::new(MemoryLog::new()));
    Town { publisher, subscribers, registry, log, all, services }
}

/// A wish for some fields; for all when none are named.
pub(crate) fn entry(to: &str, of: &str, into: &str, fields: &[&str]) -> Entry {
    let of: EntityRef = of.parse().unwrap();
    let named = fields.iter().map(|f| (f.to_string(), f.to_string())).collect();
    let fields = if fields.is_empty() { Fields::All } else { Fields::Named(named) };
    let subscription = Subscription {
        entity: of.entity,
        into: into.into(),
        fields,
        create: true,
        filter: None,
        from: Default::default(),
    };
    let to = to.parse().unwrap();
    Entry { to, from: of.service, subscription, origin: Origin::RunTime }
}

impl Town {
    pub(crate) async fn run(&self) -> Running {
        let services = self.services.subscribe();
        let desired = Desired::new(self.registry.clone(), services, ByteSize::mib(4));
        Running::start(Node::following(desired, self.log.clone()).await.unwrap())
    }

    /// The configuration names these services from now on.
    pub(crate) fn name_services(&self, names: &[&str]) {
        let named = self.all.iter().filter(|s| names.contains(&s.name.as_str())).cloned();
        self.services.send_replace(Arc::new(named.collect()));
    }

    pub(crate) fn is_copied(&self, subscriber: &str, entity: &str) -> bool {
        let copy = self.subscribers[subscriber].table(&format!("{entity}_copy"));
        copy == self.publisher.table(entity)
    }

    pub(crate) fn pause() -> Pause {
        Pause { by: "ada".into(), why: Some("a migration".into()) }
    }
}

impl Running {
    pub(crate) fn subscriptions(&self) -> &Subscriptions {
        self.board.subscriptions().expect("a node that follows a registry")
    }

    pub(crate) async fn wish(&self, entry: Entry) -> Result<Subscribed, Refusal> {
        self.subscriptions().subscribe(entry).await
    }

    pub(crate) async fn subscribe(&self, to: &str, of: &str) -> Result<Subscribed, Refusal> {
        let into = format!("{}_copy", of.split('.').next_back().unwrap());
        self.wish(entry(to, of, &into, &[])).await
    }

    pub(crate) async fn unsubscribe(&self, to: &str, of: &str) -> Result<Subscribed, Refusal> {
        let (to, of) = (to.parse().unwrap(), of.parse().unwrap());
        self.subscriptions().unsubscribe(&to, &of, None).await
    }

    pub(crate) async fn pause(&self, route: &str) {
        self.subscriptions().pause(&route.parse().unwrap(), Town::pause()).await.unwrap();
    }

    pub(crate) async fn resume(&self, route: &str) {
        self.subscriptions().resume(&route.parse().unwrap()).await.unwrap();
    }
}
