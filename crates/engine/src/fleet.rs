//! A fleet: tasks of one kind, brought in line with what is wanted. A task that is to go, or to
//! change, ends in its own time, with what it has in hand; only then its successor starts.

use crate::tasks::Tasks;
use crate::trouble::Trouble;
use std::collections::HashMap;
use std::future::Future;
use std::hash::Hash;
use tokio::task::JoinError;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// What one task is to do.
pub(crate) trait Job: Clone {
    /// Tells jobs apart; there is at most one task for each.
    type Id: Clone + Eq + Hash + Send + 'static;

    fn id(&self) -> &Self::Id;

    /// For messages: `route shop:order`.
    fn name(&self) -> String;

    /// Whether a task that does this job does `other` as well.
    fn is(&self, other: &Self) -> bool;

    /// Does it until told to stop.
    fn run(
        &self,
        stop: CancellationToken,
    ) -> impl Future<Output = Result<(), Trouble>> + Send + 'static;
}

/// How a task ended.
pub(crate) type Ended = (String, Result<Result<(), Trouble>, JoinError>);

pub(crate) struct Fleet<J: Job> {
    tasks: Tasks<(J::Id, Result<(), Trouble>)>,
    wanted: Vec<J>,
    running: HashMap<J::Id, (J, CancellationToken)>,
}

impl<J: Job> Fleet<J> {
    pub(crate) fn new() -> Self {
        Self { tasks: Tasks::new(), wanted: Vec::new(), running: HashMap::new() }
    }

    /// From now on these, and no others.
    pub(crate) fn want(&mut self, jobs: Vec<J>) {
        self.wanted = jobs;
        self.align();
    }

    /// Ends a task and starts it again at once.
    pub(crate) fn restart(&mut self, id: &J::Id) {
        if let Some((_, stop)) = self.running.get(id) {
            stop.cancel();
        }
    }

    /// Waits for a task to end. One that is still wanted is started again. Cancel safe.
    pub(crate) async fn ended(&mut self) -> Ended {
        match self.join().await {
            Some(ended) => {
                self.align();
                ended
            }
            None => std::future::pending().await,
        }
    }

    /// Ends all of them and waits until they have; their ends. One that has not by `until` is dropped
    /// where it stands, as a crash would, which loses nothing.
    pub(crate) async fn stop(&mut self, until: Instant) -> Vec<Ended> {
        self.wanted.clear();
        self.align();
        let mut all = Vec::new();
        let in_order = async {
            while let Some(ended) = self.join().await {
                all.push(ended);
            }
        };
        if tokio::time::timeout_at(until, in_order).await.is_ok() {
            return all;
        }
        for name in self.tasks.abort() {
            tracing::warn!(
                "{name}: what it had in hand did not end in time and is left; nothing is lost: the \
                 next `rowcast run` does it again"
            );
        }
        while let Some(ended) = self.join().await {
            let left = matches!(&ended.1, Err(e) if e.is_cancelled());
            if !left {
                all.push(ended);
            }
        }
        all
    }

    async fn join(&mut self) -> Option<Ended> {
        let (name, ended) = self.tasks.join_next().await?;
        let ended = ended.map(|(id, result)| {
            self.running.remove(&id);
            result
        });
        Some((name, ended))
    }

    fn align(&mut self) {
        for (id, (job, stop)) in &self.running {
            let same = self.wanted.iter().any(|wanted| wanted.id() == id && wanted.is(job));
            if !same {
                stop.cancel();
            }
        }
        for job in &self.wanted {
            if self.running.contains_key(job.id()) {
                continue;
            }
            let (id, stop) = (job.id().clone(), CancellationToken::new());
            let work = job.run(stop.clone());
            self.running.insert(id.clone(), (job.clone(), stop));
            self.tasks.spawn(job.name(), async move { (id, work.await) });
        }
    }
}
