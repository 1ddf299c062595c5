//! A publisher, its subscribers, and a node between them.

use rowcast_core::{
    Begin, ByteSize, EventLog, Fields, Offset, Publish, RouteId, SinkSpec, SourceSpec, Subscription,
};
use rowcast_engine::{Board, Node, NodeError, NodeSpec, Publisher, Retain, RouteSpec, Status};
use rowcast_store::MemoryLog;
use rowcast_testkit::memory::MemoryDatabase;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub(crate) struct World {
    pub(crate) publisher: MemoryDatabase,
    pub(crate) subscribers: Vec<MemoryDatabase>,
    pub(crate) log: Arc<dyn EventLog>,
    pub(crate) batch_bytes_max: ByteSize,
    pub(crate) read_bytes_max: ByteSize,
    /// What each subscriber takes; everything when nothing is said.
    pub(crate) takes: Vec<&'static [&'static str]>,
    pub(crate) retain: Retain,
    /// Where each subscriber's copies begin; at the beginning when nothing is said.
    pub(crate) begins: Vec<Begin>,
    /// Of every route.
    pub(crate) lanes: u16,
}

pub(crate) struct Running {
    pub(crate) board: Arc<Board>,
    stop: CancellationToken,
    task: JoinHandle<Result<(), NodeError>>,
}

pub(crate) fn world(subscribers: usize) -> World {
    World {
        publisher: MemoryDatabase::new(),
        subscribers: (0..subscribers).map(|_| MemoryDatabase::new()).collect(),
        log: Arc::new(MemoryLog::new()),
        batch_bytes_max: ByteSize::mib(1),
        read_bytes_max: ByteSize::mib(1),
        takes: vec![&ENTITIES; subscribers],
        retain: Retain::default(),
        begins: Vec::new(),
        lanes: 1,
    }
}

pub(crate) fn route(subscriber: usize) -> RouteId {
    format!("shop:s{subscriber}").parse().unwrap()
}

const ENTITIES: [&str; 2] = ["customer", "order"];

impl World {
    fn spec(&self, afresh: bool) -> NodeSpec {
        let publish = |e: &str| Publish {
            entity: e.parse().unwrap(),
            table: e.into(),
            fields: None,
            masks: Default::default(),
        };
        let subscription = |i: usize, e: &str| Subscription {
            entity: e.parse().unwrap(),
            into: format!("{e}_copy"),
            fields: Fields::All,
            create: true,
            filter: None,
            from: self.begins.get(i).copied().unwrap_or_default(),
        };
        let publisher = Publisher {
            database: Arc::new(self.publisher.clone()),
            spec: SourceSpec {
                service: "shop".parse().unwrap(),
                entities: ENTITIES.map(publish).into(),
                batch_bytes_max: self.batch_bytes_max,
            },
            afresh,
            retain: self.retain,
        };
        let routes = self.subscribers.iter().enumerate().map(|(i, database)| RouteSpec {
            database: Arc::new(database.clone()),
            sink: SinkSpec {
                route: route(i),
                subscriptions: self.takes[i].iter().map(|e| subscription(i, e)).collect(),
                track: Default::default(),
            },
            lanes: self.lanes,
        });
        NodeSpec {
            publishers: vec![publisher],
            routes: routes.collect(),
            log: self.log.clone(),
            read_bytes_max: self.read_bytes_max,
        }
    }

    pub(crate) fn run(&self) -> Running {
        self.run_as(false)
    }

    pub(crate) fn run_as(&self, afresh: bool) -> Running {
        Running::start(Node::new(self.spec(afresh)))
    }

    /// Compacts all of the log that can be; up to where.
    pub(crate) async fn compact(&self) -> Offset {
        self.log.compact(&"shop".parse().unwrap(), Offset(u64::MAX)).await.unwrap()
    }

    /// Whether a subscriber's copies hold what the publisher's tables hold.
    pub(crate) fn is_copied(&self, subscriber: usize) -> bool {
        self.takes[subscriber].iter().all(|e| {
            self.subscribers[subscriber].table(&format!("{e}_copy")) == self.publisher.table(e)
        })
    }
}

impl Running {
    pub(crate) fn start(node: Node) -> Self {
        let (board, stop) = (node.board(), CancellationToken::new());
        #[expect(clippy::disallowed_methods, reason = "the test joins it in `stop`")]
        let task = tokio::spawn(node.run(stop.clone()));
        Self { board, stop, task }
    }

    pub(crate) async fn caught_up(&self) {
        let done = tokio::time::timeout(Duration::from_secs(600), self.board.caught_up());
        done.await.expect("routes catch up").expect("nothing waits for a person");
    }

    pub(crate) async fn stop(self) {
        self.stop.cancel();
        self.task.await.expect("the node does not panic").expect("the node meets no defect");
    }

    /// Ends the node as a crash would, at whatever it is doing.
    pub(crate) async fn crash(self) {
        self.task.abort();
        let _ = self.task.await;
    }

    /// Polls the status until it is as wanted.
    pub(crate) async fn until(&self, what: &str, good: impl Fn(&Status) -> bool) -> Status {
        let poll = async {
            loop {
                let status = self.board.status().await;
                if good(&status) {
                    return status;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let found = tokio::time::timeout(Duration::from_secs(600), poll).await;
        found.unwrap_or_else(|_| panic!("waited in vain for {what}"))
    }
}
