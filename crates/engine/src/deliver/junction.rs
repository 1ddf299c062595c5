//! Where a side track joins the main one: the side track asks, the main track stops at a whole
//! transaction and waits, the side track comes as far.

use rowcast_core::Offset;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

#[derive(Debug, Clone, Copy)]
struct State {
    /// The end of the last whole transaction that the main track has applied.
    place: Offset,
    /// The main track stands there, has stored it, and waits.
    held: bool,
    /// The side track wants it to.
    asked: bool,
}

/// What the two tracks of a route know of each other.
#[derive(Debug)]
pub(super) struct Junction {
    state: watch::Sender<State>,
    /// The main track has nothing to move: the side track goes where it likes.
    pub(super) free: bool,
}

impl Junction {
    pub(super) fn new(place: Offset, free: bool) -> Self {
        let state = State { place, held: false, asked: false };
        Self { state: watch::Sender::new(state), free }
    }

    /// The end of the last whole transaction that the main track has applied.
    pub(super) fn place(&self) -> Offset {
        self.state.borrow().place
    }

    /// The main track came this far.
    pub(super) fn moved(&self, place: Offset) {
        self.state.send_if_modified(|s| std::mem::replace(&mut s.place, place) != place);
    }

    /// Waits until the main track is no longer at `place`. Cancel safe.
    pub(super) async fn moved_from(&self, place: Offset) {
        self.wait(|s| s.place != place).await;
    }

    /// Whether the side track wants the main one to wait.
    pub(super) fn is_asked(&self) -> bool {
        self.state.borrow().asked
    }

    /// Waits for the side track's wish. Cancel safe.
    pub(super) async fn asked(&self) {
        self.wait(|s| s.asked).await;
    }

    /// The main track waits at `place`, which its target has stored. `false` when the route is looked
    /// at anew, `true` when the wish was taken back.
    pub(super) async fn hold(&self, place: Offset, here: &CancellationToken) -> bool {
        self.state.send_modify(|s| (s.place, s.held) = (place, true));
        let released = here.run_until_cancelled(self.wait(|s| !s.asked)).await.is_some();
        self.state.send_modify(|s| s.held = false);
        released && !here.is_cancelled()
    }

    /// Asks the main track to wait; its place once it does. Cancel safe, but then
    /// [`release`](Self::release) it.
    pub(super) async fn ask(&self) -> Offset {
        self.state.send_modify(|s| s.asked = true);
        self.wait(|s| s.held).await;
        self.place()
    }

    /// The main track may go on.
    pub(super) fn release(&self) {
        self.state.send_if_modified(|s| std::mem::take(&mut s.asked));
    }

    async fn wait(&self, until: impl FnMut(&State) -> bool) {
        let mut state = self.state.subscribe();
        let waited = state.wait_for(until).await;
        drop(waited.expect("the junction itself keeps the sender alive"));
    }
}
