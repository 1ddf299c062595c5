use super::*;
use crate::{Begin, Fields, Offset};

fn entry(to: &str, of: &str, into: &str) -> Entry {
    let of: EntityRef = of.parse().unwrap();
    let (entity, into, fields) = (of.entity, into.to_string(), Fields::All);
    let subscription =
        Subscription { entity, into, fields, create: true, filter: None, from: Default::default() };
    Entry { to: to.parse().unwrap(), from: of.service, subscription, origin: Origin::RunTime }
}

fn unsubscribe(to: &str, of: &str, into: &str) -> Edit {
    Edit::Unsubscribe { to: to.parse().unwrap(), of: of.parse().unwrap(), into: into.into() }
}

fn pause() -> Pause {
    Pause { by: "ada".into(), why: Some("a migration".into()) }
}

/// The subscriptions as `TO OF INTO ORIGIN`.
fn lines(catalog: &Catalog) -> Vec<String> {
    let line = |e: &Entry| format!("{} {} {} {}", e.to, e.of(), e.subscription.into, e.origin);
    catalog.entries.iter().map(line).collect()
}

#[test]
fn what_the_file_no_longer_names_is_gone_and_what_run_time_made_stays() {
    let mut catalog = Catalog::default();
    let both = vec![entry("order", "shop.a", "a"), entry("order", "shop.b", "b")];
    assert_eq!(catalog.edit(Edit::File(both)), Ok(true));
    assert_eq!(catalog.edit(Edit::Subscribe(entry("bill", "shop.a", "a"))), Ok(true));
    assert_eq!(catalog.edit(Edit::File(vec![entry("order", "shop.b", "b")])), Ok(true));
    assert_eq!(lines(&catalog), ["order shop.b b file", "bill shop.a a run-time"]);
}

#[test]
fn a_subscription_that_moves_into_the_file_becomes_the_files() {
    let mut catalog = Catalog::default();
    catalog.edit(Edit::Subscribe(entry("order", "shop.a", "a"))).unwrap();
    assert_eq!(catalog.edit(Edit::File(vec![entry("order", "shop.a", "public.a")])), Ok(true));
    assert_eq!(lines(&catalog), ["order shop.a public.a file"]);
    let refused = catalog.edit(unsubscribe("order", "shop.a", "a")).unwrap_err();
    assert!(matches!(refused, EditError::FileOwns { .. }));
    let refused = catalog.edit(Edit::Subscribe(entry("order", "shop.a", "a"))).unwrap_err();
    assert!(matches!(refused, EditError::FileOwns { .. }), "{refused}");
}

#[test]
fn what_was_now_once_stays_where_it_was_until_something_else_is_asked_for() {
    let now = |at: u64| {
        let mut entry = entry("order", "shop.a", "a");
        entry.subscription.from = Begin::Now(Some(Offset(at)));
        entry
    };
    let mut catalog = Catalog::default();
    assert_eq!(catalog.edit(Edit::Subscribe(now(5))), Ok(true));
    assert_eq!(catalog.edit(Edit::Subscribe(now(6))), Ok(false), "the same again");
    catalog.edit(Edit::File(vec![now(7)])).unwrap();
    assert_eq!(catalog.edit(Edit::File(vec![now(8)])), Ok(false));
    assert_eq!(catalog.entries[0].subscription.from, Begin::Now(Some(Offset(5))));
    let mut other = now(9);
    other.subscription.fields = Fields::Named(vec![("id".into(), "id".into())]);
    catalog.edit(Edit::File(vec![other])).unwrap();
    assert_eq!(catalog.entries[0].subscription.from, Begin::Now(Some(Offset(9))));
    let refused = catalog.edit(Edit::File(vec![])).and_then(|_| {
        catalog.edit(Edit::Subscribe(entry("order", "shop.a", "a")))?;
        catalog.edit(Edit::Subscribe(now(9)))
    });
    assert!(matches!(refused, Err(EditError::Differs { .. })), "another place to begin at");
}

#[test]
fn two_subscriptions_never_share_a_table() {
    let mut catalog = Catalog::default();
    catalog.edit(Edit::Subscribe(entry("order", "shop.a", "t"))).unwrap();
    let refused = catalog.edit(Edit::Subscribe(entry("order", "crm.x", "public.t"))).unwrap_err();
    assert!(matches!(refused, EditError::Taken { .. }));
    let refused = catalog.edit(Edit::File(vec![entry("order", "crm.x", "t")])).unwrap_err();
    assert!(matches!(refused, EditError::Taken { .. }), "the file cannot take it over either");
    assert_eq!(lines(&catalog), ["order shop.a t run-time"], "a refused edit changes nothing");
    assert_eq!(catalog.edit(Edit::Subscribe(entry("bill", "crm.x", "t"))), Ok(true));
}

#[test]
fn subscribing_again_changes_nothing_and_otherwise_is_refused() {
    let mut catalog = Catalog::default();
    let first = entry("order", "shop.a", "a");
    assert_eq!(catalog.edit(Edit::Subscribe(first.clone())), Ok(true));
    assert_eq!(catalog.edit(Edit::Subscribe(first.clone())), Ok(false));
    let mut other = first;
    other.subscription.create = false;
    let refused = catalog.edit(Edit::Subscribe(other)).unwrap_err();
    assert!(matches!(refused, EditError::Differs { .. }));
}

#[test]
fn one_entity_may_have_several_copies_and_each_is_unsubscribed_by_its_table() {
    let mut catalog = Catalog::default();
    catalog.edit(Edit::Subscribe(entry("order", "shop.a", "one"))).unwrap();
    catalog.edit(Edit::Subscribe(entry("order", "shop.a", "two"))).unwrap();
    let refused = catalog.edit(unsubscribe("order", "shop.a", "three")).unwrap_err();
    assert!(matches!(refused, EditError::NoSubscription { .. }));
    assert_eq!(catalog.edit(unsubscribe("order", "shop.a", "one")), Ok(true));
    assert_eq!(lines(&catalog), ["order shop.a two run-time"]);
}

#[test]
fn a_pause_outlives_other_edits_and_goes_with_its_route() {
    let mut catalog = Catalog::default();
    let route: RouteId = "shop:order".parse().unwrap();
    let refused = catalog.edit(Edit::Pause { route: route.clone(), pause: pause() });
    assert_eq!(refused, Err(EditError::NoRoute(route.clone())));
    catalog.edit(Edit::Subscribe(entry("order", "shop.a", "a"))).unwrap();
    assert_eq!(catalog.edit(Edit::Pause { route: route.clone(), pause: pause() }), Ok(true));
    catalog.edit(Edit::Subscribe(entry("order", "shop.b", "b"))).unwrap();
    assert_eq!(catalog.pauses[&route].to_string(), "paused by ada: a migration");
    assert_eq!(catalog.edit(Edit::Resume { route: route.clone() }), Ok(true));
    assert_eq!(catalog.edit(Edit::Resume { route: route.clone() }), Ok(false));
    catalog.edit(Edit::Pause { route, pause: pause() }).unwrap();
    catalog.edit(unsubscribe("order", "shop.a", "a")).unwrap();
    assert!(!catalog.pauses.is_empty());
    catalog.edit(unsubscribe("order", "shop.b", "b")).unwrap();
    assert!(catalog.pauses.is_empty());
}
