//! A node over databases in memory, and a server before it. The shop publishes customers and
//! invoices; order takes the customers, billing both.

use crate::client::{Answer, ask};
use rowcast_core::{ByteSize, EventLog, Fields, Publish, SinkSpec, SourceSpec, Subscription};
use rowcast_engine::{Node, NodeSpec, Publisher, RouteSpec};
use rowcast_server::{Access, Grant, Limits, Role, Serving, Tls, TokenDigest};
use rowcast_store::MemoryLog;
use rowcast_testkit::memory::MemoryDatabase;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub(crate) use rowcast_testkit::wait::LONG;

pub(crate) struct Setup {
    pub(crate) publisher: MemoryDatabase,
    pub(crate) subscriber: MemoryDatabase,
    pub(crate) log: Arc<MemoryLog>,
    pub(crate) access: Access,
    pub(crate) limits: Limits,
    pub(crate) tls: Option<Tls>,
    pub(crate) entities: [&'static str; 2],
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            publisher: MemoryDatabase::new(),
            subscriber: MemoryDatabase::new(),
            log: Arc::new(MemoryLog::new()),
            access: Access::open(),
            limits: Limits::default(),
            tls: None,
            entities: ["customer", "invoice"],
        }
    }
}

pub(crate) struct Shop {
    pub(crate) address: SocketAddr,
    pub(crate) publisher: MemoryDatabase,
    pub(crate) subscriber: MemoryDatabase,
    pub(crate) log: Arc<MemoryLog>,
    stop_node: CancellationToken,
    stop: CancellationToken,
    server: JoinHandle<()>,
}

/// Three tokens, each named as its role.
pub(crate) fn tokens() -> Access {
    let order = "order".parse().unwrap();
    let roles =
        [("admin", Role::Admin), ("subscriber", Role::Subscriber(order)), ("reader", Role::Reader)];
    let grant = |(name, role): (&str, Role)| Grant {
        name: name.into(),
        role,
        token: TokenDigest::of(name),
    };
    Access::tokens(roles.map(grant).into())
}

impl Setup {
    fn node(&self) -> Node {
        let publish = |e: &str| Publish {
            entity: e.parse().unwrap(),
            table: e.into(),
            fields: None,
            masks: Default::default(),
        };
        let subscription = |e: &&str| Subscription {
            entity: e.parse().unwrap(),
            into: format!("{e}_copy"),
            fields: Fields::All,
            create: true,
            filter: None,
            from: Default::default(),
        };
        let route = |to: &str, entities: &[&str]| RouteSpec {
            database: Arc::new(self.subscriber.clone()),
            sink: SinkSpec {
                track: Default::default(),
                route: format!("shop:{to}").parse().unwrap(),
                subscriptions: entities.iter().map(subscription).collect(),
            },
            lanes: 1,
        };
        Node::new(NodeSpec {
            publishers: vec![Publisher {
                database: Arc::new(self.publisher.clone()),
                spec: SourceSpec {
                    service: "shop".parse().unwrap(),
                    entities: self.entities.map(publish).into(),
                    batch_bytes_max: ByteSize::mib(1),
                },
                afresh: false,
                retain: Default::default(),
            }],
            routes: vec![route("order", &self.entities[..1]), route("billing", &self.entities)],
            log: self.log.clone(),
            read_bytes_max: ByteSize::mib(1),
        })
    }

    pub(crate) async fn open(self) -> Shop {
        let node = self.node();
        let (stop_node, stop) = (CancellationToken::new(), CancellationToken::new());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let serving = Serving {
            board: node.board(),
            access: self.access,
            tls: self.tls,
            limits: self.limits,
        };
        let (stopping_node, stopping) = (stop_node.clone(), stop.clone());
        #[expect(clippy::disallowed_methods, reason = "ends with the test's runtime")]
        tokio::spawn(async move { node.run(stopping_node).await.unwrap() });
        #[expect(clippy::disallowed_methods, reason = "ends with the test's runtime")]
        let server = tokio::spawn(rowcast_server::serve(listener, serving, stopping));
        let (publisher, subscriber, log) = (self.publisher, self.subscriber, self.log);
        Shop { address, publisher, subscriber, log, stop_node, stop, server }
    }
}

impl Shop {
    /// Asks with a token, or without one.
    pub(crate) async fn get(&self, path: &str, token: Option<&str>) -> Answer {
        let header = token.map(|t| format!("authorization: Bearer {t}\r\n")).unwrap_or_default();
        ask(self.address, &format!("GET {path}"), &header).await
    }

    /// Waits until both copies are complete.
    pub(crate) async fn live(&self, token: Option<&str>) {
        for to in ["order", "billing"] {
            let path = format!("/v1/wait?route=shop:{to}&live=true&timeout_ms=300000");
            let answer = self.get(&path, token).await;
            assert_eq!(answer.status, 200, "{}", answer.body);
        }
    }

    /// How many events the shop's stream has.
    pub(crate) async fn events(&self) -> u64 {
        self.log.tail(&"shop".parse().unwrap()).await.unwrap().next.0
    }

    /// Stops the server, not the node, and waits until it has ended.
    pub(crate) async fn close(self) {
        self.stop.cancel();
        tokio::time::timeout(LONG, self.server).await.unwrap().unwrap();
        self.stop_node.cancel();
    }
}
