use super::*;
use rowcast_core::{Epoch, Fields, Point, Position, Snapshot};

const LOG: LogId = LogId(7);

fn subscription(into: &str, fields: Fields) -> Subscription {
    Subscription {
        entity: "e".parse().unwrap(),
        into: into.into(),
        fields,
        create: true,
        filter: None,
        from: Default::default(),
    }
}

fn member(state: Membership) -> Member {
    let subscription = subscription("copy", Fields::All);
    Member {
        into: subscription.into.clone(),
        entity: subscription.entity.clone(),
        definition: subscription.definition(),
        state,
        start: Offset(0),
        log: LOG,
    }
}

struct Case {
    members: Vec<Member>,
    side: Option<Offset>,
    next: u64,
    first: u64,
    complete: u64,
    /// Where the entity's rows were complete.
    read: u64,
    wanted: Subscription,
    asked: Vec<Rebuild>,
}

impl Default for Case {
    fn default() -> Self {
        Self {
            members: vec![],
            side: Some(Offset(5)),
            next: 9,
            first: 0,
            complete: 0,
            read: 0,
            wanted: subscription("copy", Fields::All),
            asked: vec![],
        }
    }
}

impl Case {
    fn state(self) -> Membership {
        let position = Position::new(Epoch::default(), Point::Sequence(self.next));
        let position = (self.next > 0).then_some(position);
        let checkpoint = Checkpoint { next: Offset(self.next), position };
        let roll = Roll { members: self.members, side: self.side };
        let whole = Snapshot {
            entity: "e".parse().unwrap(),
            cursor: Default::default(),
            rows: 0,
            rows_estimate: None,
            done: true,
        };
        let tail = Tail {
            log: LOG,
            first: Offset(self.first),
            next: Offset(self.next),
            position,
            snapshots: vec![(whole, Offset(self.read))],
            schemas: Vec::new(),
            bytes: 0,
            compacted: Offset(0),
            complete_history: Offset(self.complete),
        };
        let known = Known {
            checkpoint: &checkpoint,
            roll: &roll,
            tail: &tail,
            asked: &self.asked,
            parked: &[],
            outdated: &[],
        };
        known.member(&self.wanted).state
    }
}

fn known(state: Membership) -> Case {
    Case { members: vec![member(state)], ..Case::default() }
}

#[test]
fn a_target_of_an_earlier_version_keeps_its_copies_and_a_new_target_has_none() {
    assert_eq!(Case::default().state(), Membership::Live);
    assert_eq!(Case { next: 0, ..Case::default() }.state(), Membership::New);
    let other = Member { into: "other".into(), ..member(Membership::Gone) };
    assert_eq!(Case { members: vec![other], ..Case::default() }.state(), Membership::New);
}

#[test]
fn what_is_as_it_was_goes_on() {
    use Membership::{Beside, Direct, Gone, Live, New, Stale};
    for state in [Live, New, Stale, Direct, Beside] {
        assert_eq!(known(state).state(), state);
    }
    assert_eq!(known(Gone).state(), New);
}

#[test]
fn another_definition_is_built_beside_what_a_reader_may_rely_on() {
    use Membership::{Beside, Direct, Live, New, Stale};
    let fields = Fields::Named(vec![("id".into(), "id".into())]);
    let becomes = [(Live, Stale), (New, New), (Stale, Stale), (Direct, New), (Beside, Stale)];
    for (state, then) in becomes {
        let wanted = subscription("copy", fields.clone());
        assert_eq!(Case { wanted, ..known(state) }.state(), then, "{state:?}");
    }
}

#[test]
fn who_slept_past_what_the_log_holds_is_built_anew() {
    use Membership::{Beside, Direct, Live, New, Stale};
    assert_eq!(Case { first: 9, ..known(Live) }.state(), Live);
    assert_eq!(Case { first: 10, ..known(Live) }.state(), Stale);
    for (state, then) in [(Direct, New), (Beside, Stale)] {
        assert_eq!(Case { first: 6, ..known(state) }.state(), then);
        assert_eq!(Case { side: None, ..known(state) }.state(), then);
        let elsewhere = Member { log: LogId(8), ..member(state) };
        assert_eq!(Case { members: vec![elsewhere], ..Case::default() }.state(), then);
    }
    // Deletes that it has not seen are forgotten; one that was only just begun needs none.
    assert_eq!(Case { complete: 9, ..known(Live) }.state(), Live);
    assert_eq!(Case { complete: 10, ..known(Live) }.state(), Stale);
    assert_eq!(Case { complete: 6, ..known(Beside) }.state(), Stale);
    let begun = Case { side: Some(Offset(0)), ..known(Beside) };
    assert_eq!(Case { complete: 6, ..begun }.state(), Beside);
    // Somebody removed the route's checkpoint to have its copies built anew.
    assert_eq!(Case { next: 0, ..known(Live) }.state(), Stale);
}

#[test]
fn a_wish_makes_a_live_copy_stale_and_no_other() {
    let wish = |entity: Option<&str>| {
        let entities = entity.iter().map(|e| e.parse().unwrap()).collect();
        vec![Rebuild { entities, from: None, done: oneshot::channel().0 }]
    };
    use Membership::{Beside, Live, Stale};
    assert_eq!(Case { asked: wish(None), ..known(Live) }.state(), Stale);
    assert_eq!(Case { asked: wish(Some("e")), ..known(Live) }.state(), Stale);
    assert_eq!(Case { asked: wish(Some("f")), ..known(Live) }.state(), Live);
    assert_eq!(Case { asked: wish(None), ..known(Beside) }.state(), Beside);
}
