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
