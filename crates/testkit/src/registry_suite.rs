//! Conformance of registries: one check for each law of the seam.
//! [`registry_suite!`](crate::registry_suite!) makes a test of each for one implementation.
#![expect(clippy::unwrap_used, reason = "a check is a test, wherever it stands")]

use async_trait::async_trait;
use rowcast_core::{
    Begin, Edit, EditError, EntityRef, Entry, Fields, Offset, Origin, Pause, Point, Registry,
    RegistryError, Subscription, Version,
};
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

/// Makes the registries that the checks are run on.
#[async_trait]
pub trait Registries: Send + Sync {
    /// An empty registry.
    async fn open(&self) -> Box<dyn Registry>;

    /// Ends `registry` and opens what it left; `None` when it leaves nothing.
    async fn reopen(&self, registry: Box<dyn Registry>) -> Option<Box<dyn Registry>>;
}

/// A test for each law, on registries made by an expression of a type that is [`Registries`].
#[macro_export]
macro_rules! registry_suite {
    ($registries:expr) => {
        $crate::registry_suite! { @each $registries;
            a_registry_begins_empty
            an_edit_is_seen_with_a_greater_version
            what_was_edited_stays_across_a_restart
            of_two_edits_after_one_version_one_is_stale
            concurrent_editors_that_look_again_lose_nothing
            a_refused_edit_changes_nothing
            an_edit_that_changes_nothing_keeps_the_version
            a_change_wakes_those_who_wait_for_it
        }
    };
    (@each $registries:expr; $($check:ident)*) => {
        $(
            #[tokio::test]
            async fn $check() {
                $crate::registry_suite::$check(&$registries).await;
            }
        )*
    };
}

/// A run-time subscription for tests, to all fields.
pub fn entry(to: &str, of: &str, into: &str) -> Entry {
    let of: EntityRef = of.parse().expect("a test's entity is good");
    let (entity, into, fields) = (of.entity, into.to_string(), Fields::All);
    let subscription =
        Subscription { entity, into, fields, create: true, filter: None, from: Default::default() };
    let to = to.parse().expect("a test's name is good");
    Entry { to, from: of.service, subscription, origin: Origin::RunTime }
}

/// The edit that makes such a subscription.
pub fn subscribe(to: &str, of: &str, into: &str) -> Edit {
    Edit::Subscribe(entry(to, of, into))
}

/// An edit that pauses a route.
pub fn pause_of(route: &str) -> Edit {
    let pause = Pause { by: "ada".into(), why: Some("a migration".into()) };
    Edit::Pause { route: route.parse().expect("a test's route is good"), pause }
}

async fn version(registry: &dyn Registry) -> Version {
    registry.load().await.unwrap().0
}

/// Nobody subscribes to anything yet.
pub async fn a_registry_begins_empty(registries: &dyn Registries) {
    let (_, catalog) = registries.open().await.load().await.unwrap();
    assert!(catalog.entries.is_empty() && catalog.pauses.is_empty());
}

/// What was edited is what is loaded.
pub async fn an_edit_is_seen_with_a_greater_version(registries: &dyn Registries) {
    let registry = registries.open().await;
    let before = version(&*registry).await;
    let after = registry.edit(before, subscribe("order", "shop.a", "a")).await.unwrap();
    assert!(after > before);
    let (loaded, catalog) = registry.load().await.unwrap();
    assert_eq!(loaded, after);
    assert_eq!(catalog.entries, [entry("order", "shop.a", "a")]);
}

/// Subscriptions of either origin and pauses outlive the process, and so does the version.
pub async fn what_was_edited_stays_across_a_restart(registries: &dyn Registries) {
    let registry = registries.open().await;
    let file = Edit::File(vec![Entry { origin: Origin::File, ..entry("bill", "shop.a", "a") }]);
    let mut seen = version(&*registry).await;
    let begins = [
        Begin::Now(Some(Offset(7))),
        Begin::Offset(Offset(8)),
        Begin::Position(Point::Lsn(0x16_b374_d848)),
        Begin::Position(Point::Sequence(9)),
    ];
    let begins = begins.into_iter().enumerate().map(|(i, from)| {
        let mut entry = entry("order", "shop.b", &format!("b{i}"));
        entry.subscription.from = from;
        Edit::Subscribe(entry)
    });
    let first = [file, subscribe("order", "shop.a", "a"), pause_of("shop:order")];
    for edit in first.into_iter().chain(begins) {
        seen = registry.edit(seen, edit).await.unwrap();
    }
    let before = registry.load().await.unwrap();
    assert_eq!(before.0, seen);
    let Some(registry) = registries.reopen(registry).await else { return };
    assert_eq!(registry.load().await.unwrap(), before);
}

/// The version is compared and set.
pub async fn of_two_edits_after_one_version_one_is_stale(registries: &dyn Registries) {
    let registry = registries.open().await;
    let seen = version(&*registry).await;
    let now = registry.edit(seen, subscribe("order", "shop.a", "a")).await.unwrap();
    let stale = registry.edit(seen, subscribe("order", "shop.b", "b")).await.unwrap_err();
    assert!(
        matches!(stale, RegistryError::Stale { seen: s, now: n } if (s, n) == (seen, now)),
        "{stale}"
    );
    assert_eq!(registry.load().await.unwrap().1.entries.len(), 1);
}

/// Editors that load again after [`RegistryError::Stale`] all get their edit in, once.
pub async fn concurrent_editors_that_look_again_lose_nothing(registries: &dyn Registries) {
    let registry: Arc<dyn Registry> = registries.open().await.into();
    let mut editors = tokio::task::JoinSet::new();
    for editor in 0..8 {
        let registry = registry.clone();
        editors.spawn(async move {
            for n in 0..5 {
                let into = format!("t{editor}_{n}");
                loop {
                    let seen = version(&*registry).await;
                    match registry.edit(seen, subscribe("order", "shop.a", &into)).await {
                        Ok(_) => break,
                        Err(RegistryError::Stale { .. }) => {}
                        Err(e) => panic!("{e}"),
                    }
                }
            }
        });
    }
    editors.join_all().await;
    let (version, catalog) = registry.load().await.unwrap();
    assert_eq!((version, catalog.entries.len()), (Version(40), 40));
}

/// The rules of the catalog hold, and breaking them leaves everything as it was.
pub async fn a_refused_edit_changes_nothing(registries: &dyn Registries) {
    let registry = registries.open().await;
    let seen = version(&*registry).await;
    let seen = registry.edit(seen, subscribe("order", "shop.a", "t")).await.unwrap();
    let before = registry.load().await.unwrap();
    let refused = registry.edit(seen, subscribe("order", "shop.b", "t")).await.unwrap_err();
    assert!(matches!(refused, RegistryError::Refused(EditError::Taken { .. })), "{refused}");
    let refused = registry.edit(seen, pause_of("shop:nobody")).await.unwrap_err();
    assert!(matches!(refused, RegistryError::Refused(EditError::NoRoute(_))), "{refused}");
    assert_eq!(registry.load().await.unwrap(), before);
}

/// Asking for what is there already is no change.
pub async fn an_edit_that_changes_nothing_keeps_the_version(registries: &dyn Registries) {
    let registry = registries.open().await;
    let seen = version(&*registry).await;
    let made = registry.edit(seen, subscribe("order", "shop.a", "a")).await.unwrap();
    let again = registry.edit(made, subscribe("order", "shop.a", "a")).await.unwrap();
    assert_eq!(made, again);
}

/// Waiting ends with the edit, not before.
pub async fn a_change_wakes_those_who_wait_for_it(registries: &dyn Registries) {
    let registry = registries.open().await;
    let seen = version(&*registry).await;
    let mut waiting = pin!(registry.changed(seen));
    let early = std::future::poll_fn(|cx| Poll::Ready(waiting.as_mut().poll(cx))).await;
    assert!(early.is_pending(), "nothing was edited yet");
    let made = registry.edit(seen, subscribe("order", "shop.a", "a")).await.unwrap();
    assert_eq!(waiting.await.unwrap(), made);
    assert_eq!(registry.changed(seen).await.unwrap(), made, "who comes late waits for nothing");
}
