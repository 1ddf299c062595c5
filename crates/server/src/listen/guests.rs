//! Who is connected. When all seats are taken, whoever has sat idle longest makes room.

use axum::body::Body;
use bytes::Bytes;
use http_body::{Frame, SizeHint};
use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use tokio_util::sync::{CancellationToken, WaitForCancellationFuture};

/// All who are connected.
#[derive(Debug, Clone)]
pub(crate) struct Guests {
    seated: Arc<Mutex<Seated>>,
    max: usize,
}

#[derive(Debug, Default)]
struct Seated {
    next: u64,
    guests: BTreeMap<u64, Seat>,
}

#[derive(Debug, Clone)]
struct Seat {
    /// Requests that are not wholly answered.
    busy: Arc<AtomicUsize>,
    leave: CancellationToken,
}

/// One connection; its seat is free when this is dropped.
#[derive(Debug)]
pub(crate) struct Guest {
    number: u64,
    seat: Seat,
    guests: Guests,
}

impl Guests {
    pub(crate) fn new(max: usize) -> Self {
        Self { seated: Arc::default(), max }
    }

    fn seated(&self) -> MutexGuard<'_, Seated> {
        self.seated.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A seat, taken from an idle guest if need be; `None` when everybody is busy.
    pub(crate) fn admit(&self) -> Option<Guest> {
        let mut seated = self.seated();
        if seated.guests.len() >= self.max {
            let idle = |(_, seat): &(&u64, &Seat)| seat.busy.load(Ordering::Relaxed) == 0;
            let (number, seat) = seated.guests.iter().find(idle)?;
            let number = *number;
            seat.leave.cancel();
            seated.guests.remove(&number);
        }
        let number = seated.next;
        seated.next += 1;
        let seat = Seat { busy: Arc::default(), leave: CancellationToken::new() };
        seated.guests.insert(number, seat.clone());
        Some(Guest { number, seat, guests: self.clone() })
    }
}

impl Guest {
    /// Counts as busy from now on until the mark is dropped.
    pub(crate) fn busy(&self) -> Busy {
        self.seat.busy.fetch_add(1, Ordering::Relaxed);
        Busy(self.seat.busy.clone())
    }

    /// Resolves when somebody else needs the seat.
    pub(crate) fn told_to_leave(&self) -> WaitForCancellationFuture<'_> {
        self.seat.leave.cancelled()
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.guests.seated().guests.remove(&self.number);
    }
}

/// A request that is not wholly answered.
#[derive(Debug)]
pub(crate) struct Busy(Arc<AtomicUsize>);

impl Busy {
    /// The body that keeps its connection busy until it is sent.
    pub(crate) fn until_sent(self, body: Body) -> Body {
        Body::new(Sending { body, _busy: self })
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

struct Sending {
    body: Body,
    _busy: Busy,
}

impl http_body::Body for Sending {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_idle_makes_room_and_the_busy_stay() {
        let guests = Guests::new(2);
        let (busy, idle) = (guests.admit().unwrap(), guests.admit().unwrap());
        let request = busy.busy();
        let third = guests.admit().unwrap();
        assert!(idle.seat.leave.is_cancelled() && !busy.seat.leave.is_cancelled());
        let other = third.busy();
        assert!(guests.admit().is_none(), "nobody is idle");
        drop(other);
        assert!(guests.admit().is_some());
        assert!(third.seat.leave.is_cancelled());
        drop((request, idle, busy, third));
        assert_eq!(guests.seated().guests.len(), 0);
    }
}
