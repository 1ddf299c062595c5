use crate::client::{Follower, ask};
use crate::shop::Setup;
use rowcast_testkit::memory::{Fault, Write};
use serde_json::Value;

fn document() -> Value {
    serde_json::from_str(rowcast_server::document()).unwrap()
}

/// Everything in which a value differs from a schema, each with its place.
fn differences(document: &Value, schema: &Value, value: &Value, at: &str, found: &mut Vec<String>) {
    if let Some(name) = schema["$ref"].as_str() {
        let path = name.strip_prefix('#').unwrap();
        return differences(document, document.pointer(path).unwrap(), value, at, found);
    }
    let choices = ["oneOf", "anyOf"].into_iter().find_map(|k| schema[k].as_array());
    if let Some(choices) = choices {
        let fits = |choice| {
            let mut found = Vec::new();
            differences(document, choice, value, at, &mut found);
            found.is_empty()
        };
        if !choices.iter().any(fits) {
            found.push(format!("{at}: {value} is none of {schema}"));
        }
        return;
    }
    let kinds: Vec<&str> = match &schema["type"] {
        Value::String(kind) => vec![kind],
        Value::Array(kinds) => kinds.iter().filter_map(Value::as_str).collect(),
        _ => return,
    };
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(n) if n.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    if !kinds.contains(&kind) {
        found.push(format!("{at}: {value} is no {kinds:?}"));
    }
    if let Some(allowed) = schema["enum"].as_array().filter(|a| !a.contains(value)) {
        found.push(format!("{at}: {value} is none of {allowed:?}"));
    }
    for (index, item) in value.as_array().into_iter().flatten().enumerate() {
        differences(document, &schema["items"], item, &format!("{at}[{index}]"), found);
    }
    let Some(object) = value.as_object() else { return };
    for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        if !object.contains_key(name) {
            found.push(format!("{at}: {name} is missing"));
        }
    }
    for (name, value) in object {
        match schema["properties"].get(name) {
            Some(schema) => differences(document, schema, value, &format!("{at}.{name}"), found),
            None if schema.get("additionalProperties").is_some() => {}
            None => found.push(format!("{at}: {name} does not stand in the document")),
        }
    }
}

/// Asserts that a body is what the document says that the path answers with this status.
#[track_caller]
fn fits(path: &str, status: u16, body: &Value) {
    let document = document();
    let response = &document["paths"][path]["get"]["responses"][status.to_string()];
    let content = response["content"].as_object().unwrap_or_else(|| panic!("{path} {status}"));
    let schema = &content.values().next().unwrap()["schema"];
    let mut found = Vec::new();
    differences(&document, schema, body, path, &mut found);
    assert!(found.is_empty(), "{found:#?}");
}

#[tokio::test]
async fn every_path_of_the_document_answers_and_the_document_is_served() {
    let shop = Setup::default().open().await;
    shop.live(None).await;
    let document = document();
    assert_eq!(document["openapi"].as_str().map(|v| &v[..3]), Some("3.1"));
    assert_eq!(document["info"]["version"], env!("CARGO_PKG_VERSION"));
    let paths: Vec<&String> = document["paths"].as_object().unwrap().keys().collect();
    let expected = [
        "/healthz",
        "/metrics",
        "/readyz",
        "/v1/events",
        "/v1/openapi.json",
        "/v1/parked",
        "/v1/parked/drop",
        "/v1/parked/retry",
        "/v1/parked/show",
        "/v1/routes/{route}/pause",
        "/v1/routes/{route}/replay",
        "/v1/routes/{route}/resume",
        "/v1/status",
        "/v1/subscriptions",
        "/v1/subscriptions/{to}/{of}",
        "/v1/wait",
    ];
    assert_eq!(paths, expected);
    let mut names = std::collections::BTreeSet::new();
    for path in paths {
        for method in document["paths"][path].as_object().unwrap().keys() {
            let answer = ask(shop.address, &format!("{} {path}", method.to_uppercase()), "").await;
            let name = document["paths"][path][method]["operationId"].as_str().unwrap();
            assert!(names.insert(name.to_string()), "two operations are named {name}");
            let known = &document["paths"][path][method]["responses"];
            let class = format!("{}XX", answer.status / 100);
            let known = [answer.status.to_string(), class].iter().any(|s| known[s].is_object());
            assert!(known, "{method} {path} answered {}", answer.status);
        }
    }
    assert_eq!(shop.get("/v1/openapi.json", None).await.json(), document);
    shop.close().await;
}

#[tokio::test]
async fn answers_are_what_the_document_says() {
    let setup = Setup::default();
    setup.publisher.commit(&[Write::put("customer", 1, "a")]);
    setup.subscriber.sink_faults(&[Fault::NeedOperator]);
    let shop = setup.open().await;
    let mut states = Vec::new();
    // Whatever the status says on its way from paused to live.
    while !states.contains(&Value::from("live")) || !states.contains(&Value::from("paused")) {
        let status = shop.get("/v1/status", None).await.json();
        fits("/v1/status", 200, &status);
        states.extend(status["routes"].as_array().unwrap().iter().map(|r| r["state"].clone()));
        let ready = shop.get("/readyz", None).await;
        fits("/readyz", ready.status, &ready.json());
    }
    for path in
        ["/v1/wait?route=shop:order&position=1&live=true", "/v1/wait?route=shop:order&live=true"]
    {
        let arrived = shop.get(&format!("{path}&timeout_ms=60000"), None).await;
        fits("/v1/wait", 200, &arrived.json());
    }
    for (path, status) in [("/v1/wait?route=x", 400), ("/v1/wait?route=a:b&position=1", 404)] {
        fits("/v1/wait", status, &shop.get(path, None).await.problem(status));
    }
    shop.publisher.commit(&[Write::put("customer", 1, "b"), Write::delete("customer", 1)]);
    let mut follower =
        Follower::new(shop.address, "/v1/events?stream=shop&from=beginning", "").await;
    let event = &document()["components"]["schemas"]["CloudEvent"];
    for _ in 0..3 {
        let mut found = Vec::new();
        let data = follower.next().await.unwrap().data;
        differences(&document(), event, &data, "event", &mut found);
        assert!(found.is_empty(), "{found:#?}");
    }
    shop.close().await;
}
