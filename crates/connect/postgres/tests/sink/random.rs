//! Random histories: whether they arrive a few changes at a time or many, the copy ends the same.

use crate::support::{Bench, Ev, all_fields, schema};
use rowcast_core::{Op, Schema};
use std::collections::BTreeSet;
use std::sync::Arc;

/// A repeatable source of numbers.
struct Dice(u64);

impl Dice {
    fn throw(&mut self, sides: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }
}

/// Changes of `t(id, a, b)` that could be a source's: no update or delete of a row that is not there.
fn history<'a>(seed: u64, t: &'a Arc<Schema>, texts: &'a [String]) -> Vec<Ev<'a>> {
    let mut dice = Dice(seed);
    let mut there: BTreeSet<usize> = BTreeSet::new();
    let mut events = Vec::new();
    for _ in 0..1_500 {
        let [id, other, a, b] = [(); 4].map(|()| dice.throw(texts.len() as u64) as usize);
        let [key, new, a, b] = [&texts[id], &texts[other], &texts[a], &texts[b]];
        events.push(match (there.contains(&id), dice.throw(60)) {
            (_, 0) if there.len() > 70 => {
                there.clear();
                Ev::bare(t, Op::Truncate)
            }
            (false, _) => {
                there.insert(id);
                Ev::create(t, &[key, a, b])
            }
            (true, 1..15) => {
                there.remove(&id);
                Ev::delete(t, &[key, "~", "~"])
            }
            (true, 15..25) => Ev::update(t, &[key, a, "~"]),
            (true, 25..35) => Ev::update(t, &[key, "~", b]),
            (true, 35) if !there.contains(&other) => {
                there.remove(&id);
                there.insert(other);
                Ev::rekey(t, &[key, "~", "~"], &[new, a, "~"])
            }
            (true, 36..40) if !there.contains(&other) => {
                there.remove(&id);
                there.insert(other);
                Ev::rekey(t, &[key, "~", "~"], &[new, a, b])
            }
            (true, _) => Ev::update(t, &[key, a, b]),
        });
    }
    events
}

#[tokio::test]
async fn the_size_of_batches_does_not_show_in_the_copy() {
    let t = schema("t", 1, &[("id", "bigint"), ("a", "text"), ("b", "text")]);
    let texts: Vec<_> = (0..90).map(|n| n.to_string()).collect();
    const ROWS: &str = "SELECT id, a, b FROM t ORDER BY id";
    for seed in [1, 2, 3, 4, 5] {
        let mut ends = Vec::new();
        for size in [5, 200, 1_500] {
            let mut bench = Bench::new("", vec![all_fields("t", "t")]).await;
            for (i, chunk) in history(seed, &t, &texts).chunks(size).enumerate() {
                // Some transactions span several applies.
                let commit = i % 3 != 1 || chunk.len() < size || size == 1_500;
                bench.try_apply(chunk, commit).await.unwrap();
            }
            bench.apply(&[]).await;
            ends.push(bench.sql(ROWS).await);
        }
        assert!(!ends[0].is_empty());
        assert_eq!(ends[0], ends[1], "seed {seed}");
        assert_eq!(ends[0], ends[2], "seed {seed}");
    }
}
