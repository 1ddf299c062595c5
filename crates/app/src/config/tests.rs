use super::*;
use crate::paint::Paint;
use rowcast_core::Fields;

fn env(name: &str) -> Option<String> {
    (name == "CUSTOMERS").then(|| "sqlite:customers.db".to_string())
}

fn load_text(text: &str) -> Result<Loaded, ConfigError> {
    let file = SourceFile { name: "rowcast.toml".into(), text: text.into() };
    read(file, Path::new("/srv"), &env)
}

/// What a person sees of a file with mistakes.
fn seen(text: &str) -> String {
    match load_text(text) {
        Ok(loaded) => loaded.file.render(&loaded.warnings, Paint::PLAIN),
        Err(ConfigError::Wrong { file, problems }) => file.render(&problems, Paint::PLAIN),
        Err(e) => panic!("{e}"),
    }
}

const GOOD: &str = r#"
[service.customer]
database = "${CUSTOMERS}"

[service.customer.publish.customer]
table = "customers"
fields = ["id", "name", "email"]

[service.order]
database = "sqlite:orders.db"

[service.order.subscribe."customer.customer"]
into = "customer_copy"
fields = { id = "id", customer_name = "name" }
"#;

#[test]
fn a_good_file_becomes_a_plan() {
    let plan = load_text(GOOD).unwrap().plan;
    assert_eq!(plan.data, Path::new("/srv/rowcast-data"));
    assert_eq!(plan.listen.to_string(), "127.0.0.1:7117");
    let source = plan.services[0].source.as_ref().unwrap();
    assert_eq!(source.entities[0].table, "customers");
    assert_eq!(source.batch_bytes_max, rowcast_core::ByteSize::mib(1));
    assert!(plan.services[1].source.is_none());
    let route = &plan.routes[0].sink;
    assert_eq!(route.route.to_string(), "customer:order");
    assert_eq!(route.subscriptions[0].into, "customer_copy");
    let named = [("id", "id"), ("customer_name", "name")].map(|(a, b)| (a.into(), b.into()));
    assert_eq!(route.subscriptions[0].fields, Fields::Named(named.into()));
    assert!(route.subscriptions[0].create);
}

#[test]
fn where_a_copy_begins_is_read_and_what_is_no_place_is_shown() {
    let with =
        |from: &str| GOOD.replace("customer_copy\"", &format!("customer_copy\"\nfrom = {from}"));
    for (written, begin) in [
        ("\"beginning\"", "beginning"),
        ("\"now\"", "now"),
        ("1234", "1234"),
        ("\"1234\"", "1234"),
        ("\"0/16B3748\"", "0/16B3748"),
        ("\"position:7\"", "position:7"),
    ] {
        let plan = load_text(&with(written)).unwrap().plan;
        assert_eq!(plan.routes[0].sink.subscriptions[0].from.to_string(), begin);
    }
    for bad in ["\"yesterday\"", "-1", "true", "\"1/2/3\"", "\"position:\""] {
        let seen = seen(&with(bad));
        assert!(seen.contains("from") && seen.contains("^^") && seen.contains("help"), "{seen}");
    }
}

#[test]
fn five_mistakes_are_five_messages_each_with_line_and_remedy() {
    let text = include_str!("tests/five_mistakes.toml");
    let expected = include_str!("tests/five_mistakes.txt");
    let seen = seen(text);
    assert_eq!(seen, expected, "\n{seen}");
}

#[test]
fn what_does_not_fit_together_is_said_all_at_once() {
    let text = include_str!("tests/unfit.toml");
    let expected = include_str!("tests/unfit.txt");
    let seen = seen(text);
    assert_eq!(seen, expected, "\n{seen}");
}

#[test]
fn a_file_that_is_no_toml_says_where() {
    let seen = seen("data = \"x\n[service.a\n");
    assert!(seen.contains("rowcast.toml:1:"), "{seen}");
    assert!(seen.contains("the rest of the file is checked once this can be read"), "{seen}");
}

#[test]
fn a_password_in_an_offending_line_is_not_shown() {
    let seen = seen("[service.a]\ndatabase = \"mysql://root:geheim@h/d\"\n");
    assert!(!seen.contains("geheim"), "{seen}");
    assert!(seen.contains("mysql://root:***@h/d"), "{seen}");
}

#[test]
fn the_debug_form_of_a_file_holds_no_password() {
    let text = "[service.a]\ndatabase = \"postgres://root:geheim@h/d\"\n[service.a.publish.t]\n";
    let shown = format!("{:?}", load_text(text).unwrap());
    assert!(!shown.contains("geheim"), "{shown}");
}

#[test]
fn a_chain_that_is_meant_is_allowed_and_a_circle_never() {
    let chain = |more: &str| {
        format!(
            r#"
[service.a]
database = "sqlite:a.db"
[service.a.publish.x]
table = "t"
chain = true
[service.b]
database = "sqlite:b.db"
[service.b.subscribe."a.x"]
into = "y"
[service.b.publish.y]
chain = true
{more}"#
        )
    };
    assert_eq!(seen(&chain("")), "");
    let circle = seen(&chain("[service.a.subscribe.\"b.y\"]\ninto = \"t\"\n"));
    assert!(circle.contains("`x` is published from a table that is a copy of itself"), "{circle}");
    assert!(circle.contains("`y` is published from a table that is a copy of itself"), "{circle}");
}

#[test]
fn masks_and_budgets_that_do_not_fit_are_told_and_keys_are_not_shown() {
    let seen = seen(include_str!("tests/masks.toml"));
    assert_eq!(seen, include_str!("tests/masks.txt"), "\n{seen}");
    assert!(!seen.contains("too short\"") && !seen.contains("1234567890"), "{seen}");
}

#[test]
fn masks_and_a_budget_reach_the_plan_without_their_key() {
    let text = r#"
[service.a]
database = "sqlite:a.db"
mask_key = "${CUSTOMERS}"
retain = { limit = "512 MiB", action = "release" }
[service.a.publish.x]
mask = { email = "sha256", note = "null" }
[service.b]
database = "sqlite:b.db"
mask_key = "sixteen bytes or more"
"#;
    let loaded = load_text(text).unwrap();
    let service = &loaded.plan.services[0];
    let masks = &service.source.as_ref().unwrap().entities[0].masks;
    assert_eq!(masks.to_string(), "\"email\" by sha256, \"note\" by null");
    let mib = rowcast_core::ByteSize::mib;
    assert_eq!((service.retain.warn, service.retain.limit), (mib(512), Some(mib(512))));
    assert_eq!(service.retain.over, rowcast_engine::OverLimit::Release);
    let shown = format!("{loaded:?} {masks:?}");
    assert!(!shown.contains("customers.db") && !shown.contains("sixteen"), "{shown}");
    assert_eq!(loaded.plan.services[1].retain, rowcast_engine::Retain::default());
}

#[test]
fn a_mask_key_in_an_offending_line_is_not_shown() {
    for line in [
        "a = { mask_key = \"geheimer Schluessel\", bogus = 1, database = \"sqlite:x\" }",
        "a = { database = \"sqlite:x\", mask_key = \"geheimer Schluessel\", publish = 5 }",
        "a.mask_key = \"geheimer ${NOT_SET} Schluessel\"",
        "a.mask_key = \"geheimer Schluessel",
    ] {
        let seen = seen(&format!("[service]\n{line}\n"));
        assert!(seen.contains("error") && !seen.contains("geheimer"), "{seen}");
    }
}

#[test]
fn a_mistake_in_a_filter_is_shown_at_its_place_in_the_file() {
    let file = |filter: &str| GOOD.replace("into = ", &format!("where = {filter}\ninto = "));
    assert_eq!(seen(&file("\"name LIKE 'A%' AND id > 5\"")), "");
    let shown = seen(&file("'id = 1 AND now() > 5'"));
    assert!(shown.contains("`now` is not supported in a filter"), "{shown}");
    assert!(
        shown.contains("where = 'id = 1 AND now() > 5'\n   |                     ^^^"),
        "{shown}"
    );
    // A value that does not stand there as it is, is marked as a whole.
    let shown = seen(&file("\"id = 1 AND \\u0078(1)\""));
    assert!(shown.contains("`x` is not supported in a filter"), "{shown}");
    assert!(shown.contains("where = \"id = 1 AND \\u0078(1)\"\n   |         ^^^^"), "{shown}");
}

#[test]
fn lanes_belong_to_a_route_and_need_a_database_with_several_writers() {
    let with = |lanes: &str| format!("{GOOD}\n[service.order.from.customer]\nlanes = {lanes}\n");
    let postgres = |lanes| with(lanes).replace("sqlite:orders.db", "postgres://localhost/orders");
    let plan = load_text(&postgres("4")).unwrap().plan;
    assert_eq!((plan.routes[0].lanes, plan.services[1].lanes.len()), (4, 1));
    assert_eq!(load_text(&with("1")).unwrap().plan.routes[0].lanes, 1);
    assert_eq!(load_text(GOOD).unwrap().plan.routes[0].lanes, 1);
    for (text, said) in [
        (postgres("17"), "must be from 1 to 16"),
        (postgres("0"), "must be from 1 to 16"),
        (postgres("-1"), "must be from 1 to 16"),
        (postgres("\"4\""), "must be a whole number, not a text"),
        (with("2"), "a SQLite file has one writer at a time"),
        (postgres("2").replace("from.customer", "from.custmer"), "no service `custmer` publishes"),
        (postgres("2").replace("lanes =", "lane ="), "did you mean `lanes`?"),
    ] {
        let seen = seen(&text);
        assert!(seen.contains(said), "{said} in\n{seen}");
        assert!(seen.contains('^'), "{seen}");
    }
}
