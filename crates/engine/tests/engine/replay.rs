//! Copies that do not begin at the beginning, and logs that are applied again: both end identical,
//! and no reader of a live copy ever sees a key go back.

use super::following::{entry, town};
use super::setup::{World, route, world};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use rowcast_core::{Begin, ByteSize, Membership, Offset, Point, Tail};
use rowcast_store::MemoryLog;
use rowcast_testkit::memory::{Content, Fault, MemoryDatabase, Write};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

const TABLES: [&str; 2] = ["customer", "order"];

/// What the publisher's tables held at one moment.
type Backup = BTreeMap<&'static str, Content>;

fn backup(world: &World) -> Backup {
    TABLES.map(|t| (t, world.publisher.table(t))).into()
}

fn restored(backup: &Backup) -> MemoryDatabase {
    let database = MemoryDatabase::new();
    for (table, rows) in backup {
        let put = |(key, value): (&i64, &String)| Write::put(&format!("{table}_copy"), *key, value);
        database.commit(&rows.iter().map(put).collect::<Vec<_>>());
    }
    database
}

async fn tail(world: &World) -> Tail {
    world.log.tail(&"shop".parse().unwrap()).await.unwrap()
}

/// A few random changes of both tables, in one transaction.
fn change(world: &World, random: &mut StdRng, count: &mut u64) {
    let writes = (0..random.random_range(1..8)).map(|_| {
        *count += 1;
        let table = TABLES[random.random_range(0..2)].to_string();
        let value = random.random_bool(0.75).then(|| format!("{count:06}"));
        Write { table, key: random.random_range(0..12), value }
    });
    world.publisher.commit(&writes.collect::<Vec<_>>());
}

async fn following_backups(seed: u64) {
    let mut random = StdRng::seed_from_u64(seed);
    let mut world = world(1);
    world.batch_bytes_max = ByteSize(random.random_range(1..400));
    world.read_bytes_max = ByteSize(random.random_range(1..800));
    let (mut count, mut places) = (0, Vec::new());
    change(&world, &mut random, &mut count);
    let mut node = world.run();
    node.caught_up().await;
    for _ in 0..random.random_range(1..20) {
        let before = tail(&world).await;
        let begins = match random.random() {
            true => Begin::Offset(before.next),
            false => Begin::Position(before.position.unwrap().point),
        };
        // The backup may hold some of what comes after its position already.
        for _ in 0..random.random_range(0..4) {
            change(&world, &mut random, &mut count);
        }
        places.push((begins, backup(&world)));
        change(&world, &mut random, &mut count);
        if random.random() {
            node.caught_up().await;
        }
    }
    node.caught_up().await;
    if random.random_bool(0.3) {
        world.compact().await;
    }
    let (begins, held) = &places[random.random_range(0..places.len())];
    node.stop().await;
    world.subscribers.push(restored(held));
    world.takes.push(world.takes[0]);
    world.begins = vec![Begin::Beginning, *begins];
    world.subscribers[1].sink_faults(&[Fault::None, Fault::LoseAnswer, Fault::Refuse]);
    node = world.run();
    for _ in 0..random.random_range(0..6) {
        change(&world, &mut random, &mut count);
        tokio::time::sleep(Duration::from_millis(random.random_range(0..60))).await;
        if random.random_bool(0.4) {
            node.crash().await;
            node = world.run();
        }
    }
    node.caught_up().await;
    assert!(world.is_copied(0) && world.is_copied(1), "from {begins}");
    // A restart does not begin once more.
    node.stop().await;
    let looks = world.subscribers[1].seen().len();
    node = world.run();
    node.caught_up().await;
    assert_eq!(world.subscribers[1].seen().len(), looks);
    node.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_restored_backup_follows_from_its_place_and_ends_identical_whatever_crashes() {
    if let Ok(seed) = std::env::var("ROWCAST_SIM_SEED") {
        return following_backups(seed.parse().expect("ROWCAST_SIM_SEED is a number")).await;
    }
    for seed in 0..150 {
        println!("ROWCAST_SIM_SEED={seed}");
        following_backups(seed).await;
    }
}

#[tokio::test(start_paused = true)]
async fn from_now_on_takes_what_is_committed_from_now_on_and_leaves_the_rest() {
    let mut world = world(1);
    world.publisher.commit(&[Write::put("customer", 1, "old"), Write::put("customer", 2, "old")]);
    let mine = Write::put("customer_copy", 77, "mine");
    world.subscribers[0].commit(&[mine]);
    world.begins = vec![Begin::Now(None)];
    let node = world.run();
    node.caught_up().await;
    world.publisher.commit(&[Write::put("customer", 1, "new"), Write::put("customer", 3, "new")]);
    node.caught_up().await;
    let held = || world.subscribers[0].table("customer_copy");
    let row = |key: i64, value: &str| (key, value.to_string());
    assert_eq!(held(), [row(1, "new"), row(3, "new"), row(77, "mine")].into());
    node.stop().await;
    // Every row is read again: none of them is this copy's business.
    world.publisher.replace_history();
    world.publisher.commit(&[Write::delete("customer", 3)]);
    let node = world.run_as(true);
    node.caught_up().await;
    world.publisher.commit(&[Write::put("customer", 4, "later")]);
    node.caught_up().await;
    let now = [row(1, "new"), row(3, "new"), row(4, "later"), row(77, "mine")];
    assert!(now.iter().all(|(key, value)| *key == 3 || held().get(key) == Some(value)));
    assert!(!held().contains_key(&2), "{:?}", held());
    node.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_part_of_the_log_is_applied_again_and_no_reader_sees_a_key_go_back() {
    let mut world = world(1);
    (world.batch_bytes_max, world.read_bytes_max) = (ByteSize(64), ByteSize(200));
    let node = world.run();
    node.caught_up().await;
    let put = |round: u32| {
        let value = format!("{round:04}");
        let puts = (0..10).map(|key| Write::put("customer", key, &value));
        puts.chain([Write::put("order", 1, &value)]).collect::<Vec<_>>()
    };
    (0..10).for_each(|round| world.publisher.commit(&put(round)));
    node.caught_up().await;
    let from = tail(&world).await.next;
    (10..30).for_each(|round| world.publisher.commit(&put(round)));
    world.publisher.commit(&[Write::delete("customer", 9)]);
    node.caught_up().await;
    // Somebody wrote to the copy.
    let copy = |w: Write| Write { table: format!("{}_copy", w.table), ..w };
    world.subscribers[0].commit(&[copy(Write::delete("customer", 3))]);
    world.subscribers[0].commit(&[copy(Write::put("customer", 9, "back"))]);
    let before = world.subscribers[0].seen().len();
    let one = vec!["customer".parse().unwrap()];
    let replayed = node.board.replay(&route(0), one, Begin::Offset(from)).await.unwrap();
    assert_eq!((replayed.copies, replayed.from), (1, Some(from)));
    (30..50).for_each(|round| world.publisher.commit(&put(round)));
    world.publisher.commit(&[Write::delete("customer", 9)]);
    node.until("the mended copy", |_| world.is_copied(0)).await;
    node.caught_up().await;
    let mut newest = Content::new();
    for state in world.subscribers[0].seen().iter().skip(before) {
        for (key, value) in state.get("customer_copy").into_iter().flatten() {
            let known = newest.entry(*key).or_default();
            assert!(*key == 9 || value >= known, "{key} went back from {known} to {value}");
            known.clone_from(value);
        }
    }
    assert!(world.subscribers[0].members().iter().all(|m| m.state == Membership::Live));
    node.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_is_parked_comes_again_with_a_replay_of_what_lies_after_it() {
    let world = world(1);
    let node = world.run();
    node.caught_up().await;
    world.subscribers[0].refuse_values(Some("bad"));
    world.publisher.commit(&[Write::put("customer", 1, "bad"), Write::put("customer", 2, "good")]);
    node.until("a parked key", |s| s.routes[0].parked == Some(1)).await;
    let from = tail(&world).await.next;
    world.publisher.commit(&[Write::put("customer", 3, "good")]);
    node.caught_up().await;
    let replayed = node.board.replay(&route(0), vec![], Begin::Offset(from)).await.unwrap();
    assert_eq!(replayed.copies, 1, "the other one is empty");
    node.until("a live route", |s| s.routes[0].state == "live").await;
    assert_eq!(world.subscribers[0].parked_keys().len(), 1);
    world.subscribers[0].refuse_values(None);
    node.until("identical copies", |_| world.is_copied(0)).await;
    node.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_replay_that_cannot_be_is_refused_with_what_can() {
    let mut world = world(1);
    world.log = Arc::new(MemoryLog::forgetful());
    let node = world.run();
    for round in 0..20 {
        world.publisher.commit(&[Write::put("customer", round, "x")]);
        world.publisher.commit(&[Write::delete("customer", round / 2)]);
    }
    node.caught_up().await;
    node.stop().await;
    let compacted = world.compact().await;
    let node = world.run();
    node.caught_up().await;
    let refused = async |begin: Begin| {
        let refused = node.board.replay(&route(0), vec![], begin).await.unwrap_err();
        assert!(rowcast_core::Diagnose::help(&refused).contains("nothing was changed"));
        refused.to_string()
    };
    let older = refused(Begin::Offset(Offset(3))).await;
    assert!(older.contains("does not hold all of"), "{older}");
    assert!(older.contains("from offset"), "{older}");
    let older = refused(Begin::Position(Point::Sequence(1))).await;
    assert!(older.contains("position"), "{older}");
    assert!(refused(Begin::Now(None)).await.contains("leave out"));
    let asked = tokio::time::Instant::now();
    let later = refused(Begin::Offset(Offset(1_000_000))).await;
    assert!(later.contains("not come to 1000000"), "{later}");
    assert!(asked.elapsed() < Duration::from_secs(1), "nobody waits for an offset");
    let foreign = refused(Begin::Position(Point::Lsn(5))).await;
    assert!(foreign.contains("positions look like"), "{foreign}");
    assert!(compacted > Offset(3));
    world.publisher.commit(&[Write::put("customer", 50, "y")]);
    node.caught_up().await;
    assert!(world.is_copied(0));
    node.stop().await;
}

#[tokio::test(start_paused = true)]
async fn where_now_was_is_remembered_and_asked_for_once() {
    let town = town();
    town.publisher.commit(&[Write::put("customer", 1, "old")]);
    let node = town.run().await;
    node.subscribe("s1", "shop.customer").await.unwrap();
    node.caught_up().await;
    let mut wish = entry("s0", "shop.customer", "customer_copy", &[]);
    wish.subscription.from = Begin::Now(None);
    // Nobody is there to take it up before the next start.
    town.subscribers["s0"].sink_faults(&[Fault::Refuse; 1000]);
    let made = node.wish(wish.clone()).await.unwrap();
    assert_eq!(made.from, "now");
    town.publisher.commit(&[Write::put("customer", 2, "new")]);
    node.crash().await;
    town.subscribers["s0"].forget_faults();
    let node = town.run().await;
    node.caught_up().await;
    let held = || town.subscribers["s0"].table("customer_copy");
    assert_eq!(held(), [(2, "new".to_string())].into());
    assert_eq!(node.wish(wish).await.unwrap().from, "now", "the same again");
    let mut older = entry("s2", "shop.customer", "customer_copy", &[]);
    older.subscription.from = Begin::Offset(Offset(0));
    let refused = node.wish(older).await.unwrap_err();
    assert!(refused.to_string().contains("does not hold all of customer"), "{refused}");
    node.stop().await;
}
