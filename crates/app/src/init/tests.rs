use super::*;
use crate::config::{Loaded, SourceFile, read};
use rowcast_core::TableColumn;

fn table(name: &str, columns: &[(&str, bool)]) -> Table {
    let columns = columns
        .iter()
        .map(|(name, key)| TableColumn { name: name.to_string(), native: "text".into(), key: *key })
        .collect();
    Table { name: name.into(), columns, rows_estimate: Some(1234), left_out: None }
}

fn loads(text: &str) -> Loaded {
    let file = SourceFile { name: "rowcast.toml".into(), text: text.into() };
    read(file, Path::new("/srv"), &|_| Some("geheim".into())).expect(text)
}

#[test]
fn the_blank_file_is_a_good_file() {
    let plan = loads(BLANK).plan;
    assert_eq!(plan.routes.len(), 1);
}

#[test]
fn a_file_from_databases_is_a_good_file_whatever_the_names_are() {
    let from = Found {
        service: "shop".into(),
        address: address("postgres://me:geheim@h/shop", "shop"),
        tables: vec![
            table("public.customers", &[("id", true), ("na\"me", false)]),
            table("sales.orders", &[("id", true)]),
            table("archive.orders", &[("id", true)]),
            table("\"Odd.Schema\".\"Grüße 🎉\"", &[("a b", true)]),
            table("public.no_key", &[("line\nbreak", false)]),
        ],
        left_out: Vec::new(),
    };
    let to = Found {
        service: "crm".into(),
        address: address("sqlite:crm.db", "crm"),
        tables: vec![table("customers_copy", &[("id", true)])],
        left_out: Vec::new(),
    };
    let text = text(&from, Some(&to));
    assert!(!text.contains("geheim"), "{text}");
    assert!(text.contains("postgres://me:${SHOP_PASSWORD}@h/shop"), "{text}");
    assert!(text.contains("# [service.shop.publish.no_key]"), "{text}");
    assert!(text.contains("there already"), "{text}");
    let plan = loads(&text).plan;
    let published = &plan.services[0].source.as_ref().unwrap().entities;
    let names: Vec<&str> = published.iter().map(|p| p.entity.as_str()).collect();
    assert_eq!(names, ["customers", "sales.orders", "archive.orders", "Grüße 🎉"]);
    assert_eq!(plan.routes[0].sink.subscriptions.len(), 4);
    assert_eq!(plan.routes[0].sink.subscriptions[0].into, "customers_copy");
}

#[test]
fn without_a_subscriber_the_file_shows_how_one_is_written() {
    let tables = vec![table("t", &[("id", true)])];
    let address = address("sqlite:a.db", "a");
    let text = text(&Found { service: "a".into(), address, tables, left_out: Vec::new() }, None);
    assert_eq!(loads(&text).plan.routes.len(), 0);
    assert!(text.contains("# [service.subscriber.subscribe.\"a.t\"]"), "{text}");
}

#[test]
fn services_are_named_after_their_databases() {
    for (url, name) in [
        ("postgres://u:p@h:5432/Customers?sslmode=require", Some("customers")),
        ("sqlite:/var/lib/my shop.db", Some("my_shop")),
        ("sqlite:1.db", None),
    ] {
        assert_eq!(service_name(url).as_deref(), name);
    }
}
