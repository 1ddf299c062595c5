//! Random histories with random faults and crashes; one seed is one history. Set
//! `ROWCAST_SIM_SEED` to replay one.

use super::setup::world;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use rowcast_core::ByteSize;
use rowcast_testkit::memory::{Fault, Write};
use std::time::Duration;

fn fault(random: &mut StdRng) -> Fault {
    match random.random_range(0..10) {
        0 => Fault::Refuse,
        1 => Fault::LoseAnswer,
        2 => Fault::NeedOperator,
        _ => Fault::None,
    }
}

/// Both tables always get the same rows, so every state in which they differ is half a transaction.
fn transaction(random: &mut StdRng) -> Vec<Write> {
    let keys = random.random_range(1..12);
    (0..keys)
        .flat_map(|_| {
            let key = random.random_range(0..40);
            let value = random.random_bool(0.8).then(|| format!("{}", random.random::<u32>()));
            ["customer", "order"].map(|t| Write { table: t.into(), key, value: value.clone() })
        })
        .collect()
}

async fn history(seed: u64) {
    let mut random = StdRng::seed_from_u64(seed);
    let mut world = world(2);
    world.batch_bytes_max = ByteSize(random.random_range(1..400));
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
            _ => world.publisher.commit(&transaction(&mut random)),
        }
        tokio::time::sleep(Duration::from_millis(random.random_range(0..200))).await;
    }
    node.until("identical copies", |_| world.is_copied(0) && world.is_copied(1)).await;
    node.stop().await;
    for state in world.subscribers.iter().flat_map(|s| s.seen()).filter(|_| from_empty) {
        let copy = |name: &str| state.get(name).cloned().unwrap_or_default();
        assert_eq!(copy("customer_copy"), copy("order_copy"), "half a transaction was seen");
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
