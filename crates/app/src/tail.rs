//! `rowcast tail`: a service's events, read from the log's files beside a running instance or
//! without one.

use crate::cli::{self, TailFrom, TailOf};
use crate::config::{self, Plan};
use crate::events::Told;
use crate::instance::Instance;
use crate::output::Output;
use crate::report::{Exit, Failure};
use crate::run::log_dir;
use rowcast_core::{ByteSize, EntityName, LogError, Offset, ServiceName, Stored, advice};
use rowcast_store::{Follower, inspect};
use std::collections::VecDeque;
use std::io;
use std::path::Path;
use std::time::Duration;

/// How many events are shown when nobody says where to begin.
const LAST: usize = 10;
/// How far back they are looked for.
const BACK: u64 = 1_000;
/// Read at once.
const CHUNK: ByteSize = ByteSize::mib(4);
/// How often the end of the log is looked at.
const LOOK: Duration = Duration::from_millis(200);

pub(crate) async fn tail(args: cli::Tail, file: &Path, output: Output) -> Result<Exit, Failure> {
    let plan = config::load(file)?.plan;
    let (service, entity) = match &args.of {
        TailOf::Service(service) => (service.clone(), None),
        TailOf::Entity(of) => (of.service.clone(), Some(of.entity.clone())),
    };
    check_names(&plan, &service, entity.as_ref())?;
    let (first, next) = ends(&plan, &service).await?;
    let from = match args.from {
        Some(TailFrom::Beginning) => first,
        Some(TailFrom::End) => next,
        Some(TailFrom::Offset(at)) if at > next => {
            let (stream, at, next) = (service, Offset(at), Offset(next));
            let ahead = LogError::Ahead { stream, at, next };
            let help = "`--from end` shows what comes from now on";
            return Err(Failure::new(ahead.to_string(), help));
        }
        Some(TailFrom::Offset(at)) => at,
        None => next.saturating_sub(BACK).max(first),
    };
    let follower = Follower::new(log_dir(&plan), service.clone(), Offset(from));
    let printer = Printer {
        service,
        entity,
        from,
        json: args.json,
        left: args.limit,
        output,
        held: args.from.is_none().then(VecDeque::new),
    };
    follow(follower, printer, &plan, args.no_follow).await
}

fn check_names(
    plan: &Plan,
    service: &ServiceName,
    entity: Option<&EntityName>,
) -> Result<(), Failure> {
    let source = plan.service(service).and_then(|s| s.source.as_ref());
    let Some(source) = source else {
        let publishers = plan.services.iter().filter(|s| s.source.is_some());
        let names = publishers.map(|s| s.name.as_str());
        let help = advice(service.as_str(), "the publishing services", names);
        return Err(Failure::usage(format!("there is no publishing service `{service}`"), help));
    };
    let Some(entity) = entity else { return Ok(()) };
    if source.entities.iter().any(|e| e.entity == *entity) {
        return Ok(());
    }
    let names = source.entities.iter().map(|e| e.entity.as_str());
    let help = advice(entity.as_str(), "its entities", names);
    Err(Failure::usage(format!("`{service}` publishes no entity `{entity}`"), help))
}

/// The oldest and the next offset of a stream; 0 and 0 before it has begun.
async fn ends(plan: &Plan, service: &ServiceName) -> Result<(u64, u64), Failure> {
    let root = log_dir(plan);
    let looked = tokio::task::spawn_blocking(move || inspect::stat(root)).await;
    let streams = match looked.unwrap_or_else(|e| Err(io::Error::other(e))) {
        Ok(streams) => streams,
        Err(e) if e.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(e) => return Err(Failure::new("the event log cannot be read", "").because(&e)),
    };
    let stream = streams.into_iter().find(|s| s.stream == service.as_str());
    Ok(stream.map_or((0, 0), |s| (s.first, s.next)))
}

async fn follow(
    mut follower: Follower,
    mut printer: Printer,
    plan: &Plan,
    no_follow: bool,
) -> Result<Exit, Failure> {
    loop {
        // Whoever runs now may still write; looked at before reading, so that nothing is missed.
        let running = Instance::find(&plan.data).is_some();
        let read;
        (follower, read) = blocking(follower).await?;
        let batches = match read {
            Ok(batches) => batches,
            // No directory yet: the stream has not begun.
            Err(LogError::Unreadable { source, .. })
                if source.kind() == io::ErrorKind::NotFound =>
            {
                Vec::new()
            }
            Err(e) => return Err(Failure::of(&e)),
        };
        let at_end = batches.is_empty();
        for stored in &batches {
            printer.batch(stored)?;
        }
        if at_end {
            printer.release()?;
        }
        if printer.left == Some(0) || (at_end && (no_follow || !running)) {
            return Ok(Exit::Good);
        }
        if at_end {
            tokio::time::sleep(LOOK).await;
        }
    }
}

type Read = Result<Vec<Stored>, LogError>;

async fn blocking(mut follower: Follower) -> Result<(Follower, Read), Failure> {
    let read = tokio::task::spawn_blocking(move || {
        let read = follower.read(CHUNK);
        (follower, read)
    });
    read.await.map_err(|e| Failure::new("reading the event log failed", "").because(&e))
}

struct Printer {
    service: ServiceName,
    entity: Option<EntityName>,
    from: u64,
    json: bool,
    left: Option<u64>,
    output: Output,
    /// The last events before the end, as long as the end has not been seen.
    held: Option<VecDeque<String>>,
}

impl Printer {
    fn batch(&mut self, stored: &Stored) -> Result<(), Failure> {
        let batch = &stored.batch;
        let mut index = 0;
        for at in &batch.transactions {
            for _ in 0..at.events {
                let event = &batch.events[index];
                let offset = stored.offset(index).0;
                index += 1;
                let other = self.entity.as_ref().is_some_and(|e| batch.schema(event).entity != *e);
                if other || offset < self.from {
                    continue;
                }
                let told = Told { service: &self.service, offset, batch, event, at };
                let line = if self.json { told.json() } else { told.line(self.output.paint) };
                self.print(line)?;
            }
        }
        Ok(())
    }

    fn print(&mut self, line: String) -> Result<(), Failure> {
        if let Some(held) = &mut self.held {
            held.push_back(line);
            if held.len() > LAST {
                held.pop_front();
            }
            return Ok(());
        }
        match &mut self.left {
            Some(0) => return Ok(()),
            Some(left) => *left -= 1,
            None => {}
        }
        self.output.line(line)
    }

    /// The end was seen: what comes from now on is shown as it comes.
    fn release(&mut self) -> Result<(), Failure> {
        for line in self.held.take().into_iter().flatten() {
            self.print(line)?;
        }
        Ok(())
    }
}
