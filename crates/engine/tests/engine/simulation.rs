//! Random histories with random faults and crashes; one seed is one history. Set
//! `ROWCAST_SIM_SEED` to replay one.

use super::setup::{World, world};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use rowcast_core::ByteSize;
use rowcast_testkit::memory::{Content, Fault, Write};
use std::collections::BTreeMap;
use std::time::Duration;

type State = BTreeMap<String, Content>;

fn fault(random: &mut StdRng) -> Fault {
    match random.random_range(0..11) {
        0 => Fault::Refuse,
        1 => Fault::LoseAnswer,
        2 => Fault::NeedOperator,
        _ => Fault::None,
    }
}

fn transaction(random: &mut StdRng) -> Vec<Write> {
    let keys = random.random_range(1..12);
    (0..keys)
        .flat_map(|_| {
            let key = random.random_range(0..40);
            let value = random.random_bool(0.8).then(|| format!("{}", random.random::<u32>()));
            let tables: &[_] = if random.random() { &["customer", "order"] } else { &["order"] };
            tables.iter().map(move |t| Write { table: t.to_string(), key, value: value.clone() })
        })
        .collect()
}

async fn history(seed: u64) {
    let mut random = StdRng::seed_from_u64(seed);
    let mut world = world(2);
    world.batch_bytes_max = ByteSize(random.random_range(1..400));
    world.read_bytes_max = ByteSize(random.random_range(1..800));
    world.takes[1] = &["customer"];
    // While a snapshot arrives its table is incomplete, so only histories that begin with empty
    // tables say something about every state.
    let from_empty = random.random_bool(0.7);
    if !from_empty {
        (0..5).for_each(|_| world.publisher.commit(&transaction(&mut random)));
    }
    let mut node = world.run();
    if from_empty {
        node.caught_up().await;
    }
    for _ in 0..random.random_range(5..40) {
        match random.random_range(0..10) {
            0 => {
                node.crash().await;
                node = world.run();
            }
            1 => {
                node.stop().await;
                node = world.run();
            }
            2 => world.publisher.source_faults(&[fault(&mut random), fault(&mut random)]),
            3 => world.subscribers[0].sink_faults(&[fault(&mut random), fault(&mut random)]),
            4 => _ = world.compact().await,
            _ => world.publisher.commit(&transaction(&mut random)),
        }
        tokio::time::sleep(Duration::from_millis(random.random_range(0..200))).await;
    }
    node.until("identical copies", |_| world.is_copied(0) && world.is_copied(1)).await;
    node.stop().await;
    if from_empty {
        only_whole_transactions_were_seen(&world);
    }
}

/// Every state that a reader of a copy could see is one that the publisher once committed.
fn only_whole_transactions_were_seen(world: &World) {
    let mut committed = world.publisher.seen();
    committed.push(BTreeMap::new());
    for (subscriber, takes) in world.subscribers.iter().zip(&world.takes) {
        let table = |state: &State, name: &str| state.get(name).cloned().unwrap_or_default();
        let same = |seen: &State, state: &State| {
            takes.iter().all(|e| table(seen, &format!("{e}_copy")) == table(state, e))
        };
        for seen in subscriber.seen() {
            assert!(committed.iter().any(|c| same(&seen, c)), "half a transaction was seen");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn every_history_ends_in_identical_copies() {
    if let Ok(seed) = std::env::var("ROWCAST_SIM_SEED") {
        return history(seed.parse().expect("ROWCAST_SIM_SEED is a number")).await;
    }
    for seed in 0..200 {
        println!("ROWCAST_SIM_SEED={seed}");
        history(seed).await;
    }
}
