//! Waiting for something to become true, with a deadline, instead of sleeping and hoping.

use std::fmt::Debug;
use std::time::{Duration, Instant};

/// Long enough for anything that ends by itself, on a slow machine that is busy with other things too.
/// Nobody waits for it unless a test fails.
pub const LONG: Duration = Duration::from_secs(300);

const POLL_EVERY: Duration = Duration::from_millis(10);

/// Asks until the answer is yes.
///
/// # Panics
/// When it still is no after `within`; `what` says what was waited for.
pub async fn eventually(within: Duration, what: &str, mut ask: impl AsyncFnMut() -> bool) {
    eventually_some(within, what, async || ask().await.then_some(())).await;
}

/// Asks until there is an answer, and returns it.
///
/// # Panics
/// When there still is none after `within`; `what` says what was waited for.
pub async fn eventually_some<T>(
    within: Duration,
    what: &str,
    mut ask: impl AsyncFnMut() -> Option<T>,
) -> T {
    let began = Instant::now();
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(began.elapsed() < within, "waited {within:?} in vain: {what}");
        tokio::time::sleep(POLL_EVERY).await;
    }
}

/// Asks until the answer is `wanted`.
///
/// # Panics
/// When it still is another after `within`, with the last one; `what` says what was asked.
pub async fn becomes<T: PartialEq + Debug>(
    within: Duration,
    what: &str,
    wanted: T,
    mut ask: impl AsyncFnMut() -> T,
) {
    let began = Instant::now();
    loop {
        let answer = ask().await;
        if answer == wanted {
            return;
        }
        let late = began.elapsed() >= within;
        assert!(!late, "waited {within:?} in vain: {what}: {wanted:?}, but it is {answer:?}");
        tokio::time::sleep(POLL_EVERY).await;
    }
}

/// [`eventually`] for code without a runtime: it blocks the thread. `false` after the deadline.
pub(crate) fn settles(within: Duration, mut ask: impl FnMut() -> bool) -> bool {
    let began = Instant::now();
    while !ask() {
        if began.elapsed() > within {
            return false;
        }
        std::thread::sleep(POLL_EVERY);
    }
    true
}
