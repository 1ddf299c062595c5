//! Whatever is asked of a path in the OpenAPI document, plausible or not: the answer is one that the
//! document knows, and a refusal is a problem. Never an error of the server's own.

use crate::Answers;
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use proptest::sample::select;
use proptest::string::string_regex;
use proptest::test_runner::{Config, TestCaseError, TestRunner};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// What an honest client, a careless one and a hostile one may write.
const TEXTS: &[&str] = &[
    "shop",
    "order",
    "nobody",
    "customer",
    "copy",
    "key",
    "value",
    "shop.customer",
    "shop:order",
    "shop:nobody",
    "order:shop",
    "beginning",
    "end",
    "0",
    "1",
    "7",
    "-1",
    "+1",
    "999999",
    "0/1",
    "18446744073709551615",
    "18446744073709551616",
    "true",
    "false",
    "null",
    "key > 1",
    "key = ",
    "NOT (value IS NULL)",
    "'",
    "\"",
    "\"a\".\"b\"",
    "a..b",
    "",
    " ",
    ".",
    "..",
    "../..",
    "/",
    "//",
    "%",
    "%zz",
    "%ff",
    "%00",
    "\u{0}",
    "\r\n",
    "\u{feff}",
    "😀",
    "é",
    "a\u{300}",
    "ǆ",
    "x=1&y=2",
    "#",
    "?",
    "{}",
    "[]",
    "${HOME}",
    "<script>",
];
/// Members of bodies: those that are known, and others.
const MEMBERS: &[&str] =
    &["to", "of", "into", "fields", "where", "create", "by", "why", "from", "", "x"];

#[derive(Debug, Clone)]
struct Operation {
    method: String,
    path: String,
    /// Name, and whether it stands in the path.
    parameters: Vec<(String, bool)>,
    takes_body: bool,
    /// `404`, or `4XX`.
    statuses: Vec<String>,
}

#[derive(Debug, Clone)]
struct Asking {
    operation: Operation,
    /// One for each parameter; absent ones are left out of the query.
    texts: Vec<Option<String>>,
    /// Leaves `%` and `/` as they are.
    raw: bool,
    body: Vec<u8>,
    content_type: &'static str,
}

fn operations(document: &Value) -> Vec<Operation> {
    let mut operations = Vec::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, described) in methods.as_object().unwrap() {
            let parameters = described["parameters"].as_array().into_iter().flatten();
            let named = |p: &Value| (p["name"].as_str().unwrap().to_string(), p["in"] == "path");
            let parameters = parameters.filter(|p| p["in"] != "header").map(named).collect();
            operations.push(Operation {
                method: method.to_uppercase(),
                path: path.clone(),
                parameters,
                takes_body: described["requestBody"].is_object(),
                statuses: described["responses"].as_object().unwrap().keys().cloned().collect(),
            });
        }
    }
    operations
}

/// Every pattern that the document gives for a text.
fn patterns(document: &Value, found: &mut Vec<String>) {
    match document {
        Value::Object(members) => {
            if let Some(pattern) = members.get("pattern").and_then(Value::as_str) {
                found.push(pattern.trim_start_matches('^').trim_end_matches('$').to_string());
            }
            members.values().for_each(|v| patterns(v, found));
        }
        Value::Array(items) => items.iter().for_each(|v| patterns(v, found)),
        _ => {}
    }
}

fn texts(document: &Value) -> impl Strategy<Value = String> + Clone + use<> {
    let mut described = Vec::new();
    patterns(document, &mut described);
    assert!(!described.is_empty(), "the document says what texts look like");
    let described = select(described).prop_flat_map(|p| string_regex(&p).unwrap());
    prop_oneof![
        6 => select(TEXTS).prop_map(str::to_string),
        2 => described,
        1 => any::<String>(),
    ]
    .boxed()
}

fn bodies(text: impl Strategy<Value = String> + Clone + 'static) -> impl Strategy<Value = Vec<u8>> {
    let plain = prop_oneof![
        4 => text.clone().prop_map(|t| json!(t)),
        1 => any::<i64>().prop_map(|n| json!(n)),
        1 => any::<bool>().prop_map(|b| json!(b)),
        1 => Just(Value::Null),
    ];
    let value = plain.prop_recursive(3, 8, 3, |inner| vec(inner, 0..3).prop_map(Value::Array));
    let object = btree_map(select(MEMBERS), value, 0..6).prop_map(|o| json!(o).to_string());
    let likely = (text.clone(), text).prop_map(|(into, filter)| {
        json!({"to": "order", "of": "shop.customer", "into": into, "where": filter}).to_string()
    });
    prop_oneof![
        3 => object.prop_map(String::into_bytes),
        2 => likely.prop_map(String::into_bytes),
        1 => vec(any::<u8>(), 0..40),
    ]
}

fn askings(document: &Value) -> impl Strategy<Value = Asking> + use<> {
    let text = texts(document);
    let kinds = select(&["application/json", "application/json; charset=utf-8", "text/plain", "x"]);
    let parts = (
        select(operations(document)),
        vec(proptest::option::weighted(0.8, text.clone()), 8),
        any::<bool>(),
        bodies(text),
        prop_oneof![3 => Just("application/json"), 1 => kinds],
    );
    parts.prop_map(|(operation, texts, raw, body, content_type)| Asking {
        operation,
        texts,
        raw,
        body,
        content_type,
    })
}

fn escaped(text: &str, raw: bool) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._~".contains(&b);
    let byte = |b: u8| match b {
        b if plain(b) || (raw && b"%/".contains(&b)) => (b as char).to_string(),
        b => format!("%{b:02X}"),
    };
    text.bytes().map(byte).collect()
}

impl Asking {
    fn target(&self) -> String {
        let mut path = self.operation.path.clone();
        let mut query = Vec::new();
        for ((name, in_path), text) in self.operation.parameters.iter().zip(&self.texts) {
            let mut text = text.clone();
            // What does not end by itself, or may wait for an hour.
            match name.as_str() {
                "follow" => text = Some("false".into()),
                "timeout_ms" if text.as_ref().is_none_or(|t| t.parse::<u64>().is_ok()) => {
                    text = Some("3".into());
                }
                _ => {}
            }
            if *in_path {
                let text = escaped(&text.unwrap_or_default(), self.raw);
                path = path.replace(&format!("{{{name}}}"), &text);
            } else if let Some(text) = text {
                query.push(format!("{name}={}", escaped(&text, self.raw)));
            }
        }
        if query.is_empty() { path } else { format!("{path}?{}", query.join("&")) }
    }

    async fn judge(&self, answers: &Answers) -> Result<(), TestCaseError> {
        let (method, target) = (&self.operation.method, self.target());
        let mut request = format!(
            "{method} {target} HTTP/1.0\r\nhost: localhost\r\ncontent-type: {}\r\n",
            self.content_type
        );
        if self.operation.takes_body {
            request += &format!("content-length: {}\r\n", self.body.len());
        }
        let mut bytes = (request + "\r\n").into_bytes();
        if self.operation.takes_body {
            bytes.extend_from_slice(&self.body);
        }
        let mut stream = TcpStream::connect(answers.address).await.unwrap();
        stream.write_all(&bytes).await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        let answer = String::from_utf8(answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let status: u16 = head[9..12].parse().unwrap();
        let shown = format!("{method} {target}: {answer}");
        // Not ready is what a probe asks about.
        prop_assert!(status < 500 || (status == 503 && target == "/readyz"), "{shown}");
        // A name that splits or ends a path leads elsewhere.
        let class = format!("{}XX", status / 100);
        let known = &self.operation.statuses;
        let known = known.contains(&status.to_string()) || known.contains(&class);
        prop_assert!(known || matches!(status, 404 | 405), "{shown}");
        if (400..500).contains(&status) {
            prop_assert!(head.contains("content-type: application/problem+json"), "{shown}");
            let problem: Value = serde_json::from_str(body).unwrap();
            prop_assert_eq!(&problem["status"], &json!(status), "{}", shown);
            for member in ["type", "title", "detail"] {
                prop_assert!(problem[member].as_str().is_some_and(|t| !t.is_empty()), "{shown}");
            }
        }
        Ok(())
    }
}

#[test]
fn whatever_is_asked_the_answer_is_one_that_the_document_knows() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let answers = runtime.block_on(Answers::new());
    let document: Value = serde_json::from_str(rowcast_server::document()).unwrap();
    let config = Config { cases: 1500, failure_persistence: None, ..Config::default() };
    let judged = TestRunner::new(config)
        .run(&askings(&document), |asking| runtime.block_on(asking.judge(&answers)));
    if let Err(wrong) = judged {
        panic!("{wrong}");
    }
    let (status, shown) = runtime.block_on(answers.ask("GET /v1/status", ""));
    assert_eq!((status, shown["services"][0]["name"].as_str()), (200, Some("shop")));
}
