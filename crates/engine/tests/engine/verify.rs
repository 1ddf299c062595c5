//! Comparing and mending, over databases in memory.

use super::setup::{route, world};
use async_trait::async_trait;
use rowcast_core::{
    ByteSize, Database, EntityName, EventLog, Fields, LogError, LogId, Offset, Position, Publish,
    SinkSpec, SourceSpec, Stored, Subscription,
};
use rowcast_engine::{History, Kind, Progress, Verified, Verify, VerifyError};
use rowcast_testkit::memory::{MemoryDatabase, Write};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// A log that is open in this process.
struct Open {
    log: Arc<dyn EventLog>,
    id: LogId,
    position: Option<Position>,
}

impl Open {
    async fn new(log: Arc<dyn EventLog>) -> Self {
        let id = log.tail(&"shop".parse().unwrap()).await.unwrap().log;
        Self { log, id, position: None }
    }
}

#[async_trait]
impl History for Open {
    fn log(&self) -> LogId {
        self.id
    }

    async fn complete_from(&mut self, entity: &EntityName) -> Result<Option<Offset>, LogError> {
        Ok(self.log.tail(&"shop".parse().unwrap()).await?.complete_from(entity))
    }

    async fn read(&mut self, from: Offset) -> Result<Vec<Stored>, LogError> {
        let shop = "shop".parse().unwrap();
        let tail = self.log.tail(&shop).await?;
        self.position = tail.position;
        if from >= tail.next {
            return Ok(Vec::new());
        }
        Ok(self.log.read(&shop, from, ByteSize::kib(1)).await?.batches)
    }

    fn position(&self) -> Option<Position> {
        self.position
    }
}

fn verify(publisher: &MemoryDatabase, subscriber: &MemoryDatabase, repair: bool) -> Verify {
    let entity: EntityName = "customer".parse().unwrap();
    let publish = Publish {
        entity: entity.clone(),
        table: "customer".into(),
        fields: None,
        masks: Default::default(),
    };
    let subscription = Subscription {
        entity,
        into: "customer_copy".into(),
        fields: Fields::All,
        create: true,
        filter: None,
        from: Default::default(),
    };
    Verify {
        publisher: Arc::new(publisher.clone()) as Arc<dyn Database>,
        source: SourceSpec {
            service: "shop".parse().unwrap(),
            entities: vec![publish],
            batch_bytes_max: ByteSize::mib(1),
        },
        subscriber: Arc::new(subscriber.clone()),
        sink: SinkSpec {
            track: Default::default(),
            route: route(0),
            subscriptions: vec![subscription],
        },
        running: true,
        patience: Duration::from_secs(5),
        repair,
        progress: Arc::new(watch::channel(Progress::default()).0),
    }
}

async fn run(verify: Verify, log: &Arc<dyn EventLog>) -> Result<Verified, VerifyError> {
    verify.run(&mut Open::new(log.clone()).await).await
}

#[tokio::test]
async fn what_differs_is_named_mended_and_then_identical() {
    let world = world(1);
    let (shop, copy) = (&world.publisher, &world.subscribers[0]);
    let rows: Vec<_> = (0..500).map(|k| Write::put("customer", k, "Ada")).collect();
    shop.commit(&rows);
    let running = world.run();
    running.caught_up().await;
    let verified = run(verify(shop, copy, false), &world.log).await.unwrap();
    assert_eq!((verified.copies[0].rows, verified.left()), (500, 0));
    copy.commit(&[
        Write::put("customer_copy", 7, "tampered"),
        Write::delete("customer_copy", 8),
        Write::put("customer_copy", 1000, "extra"),
    ]);
    let verified = run(verify(shop, copy, true), &world.log).await.unwrap();
    let copied = &verified.copies[0];
    let named: Vec<_> =
        copied.listed.iter().map(|d| (d.kind, d.key[0].1.clone().unwrap(), d.mended)).collect();
    let wanted = [
        (Kind::Different, "7".to_string(), true),
        (Kind::Missing, "8".to_string(), true),
        (Kind::Extra, "1000".to_string(), true),
    ];
    assert_eq!((copied.differences, copied.left, named), (3, 0, wanted.to_vec()));
    assert!(world.is_copied(0));
    running.stop().await;
}

#[tokio::test]
async fn the_log_explains_what_changed_between_the_two_looks() {
    let world = world(1);
    let (shop, copy) = (&world.publisher, &world.subscribers[0]);
    shop.commit(&(0..50).map(|k| Write::put("customer", k, "old")).collect::<Vec<_>>());
    let running = world.run();
    running.caught_up().await;
    for round in 0..30 {
        let looks = run(verify(shop, copy, false), &world.log);
        let writes = async {
            for k in 0..20 {
                shop.commit(&[
                    Write::put("customer", k, &format!("new {round}")),
                    Write::delete("customer", k + 20),
                    Write::put("customer", 100 + round * 20 + k, "more"),
                ]);
                tokio::task::yield_now().await;
            }
        };
        let (verified, ()) = tokio::join!(looks, writes);
        let verified = verified.unwrap();
        assert_eq!(verified.left(), 0, "round {round}: {:?}", verified.copies[0].listed);
    }
    running.stop().await;
}

#[tokio::test]
async fn a_route_that_never_wrote_and_a_foreign_checkpoint_are_refused() {
    let world = world(1);
    let (shop, copy) = (&world.publisher, &world.subscribers[0]);
    shop.commit(&[Write::put("customer", 1, "Ada")]);
    let nothing = run(verify(shop, copy, false), &world.log).await;
    assert!(matches!(nothing, Err(VerifyError::NotYet { .. })), "{nothing:?}");
    let running = world.run();
    running.caught_up().await;
    let mut other = Open::new(world.log.clone()).await;
    other.id = LogId(other.id.0 ^ 1);
    let refused = verify(shop, copy, true).run(&mut other).await;
    assert!(matches!(refused, Err(VerifyError::Sink(_))), "{refused:?}");
    running.stop().await;
}
