//! Which room may know what.

use super::SourceFile;
use super::lex::{code, without_tests};

/// Rooms that see only the seams.
const NAMELESS: &[&str] = &["crates/core/", "crates/engine/"];
const PRODUCTS: &[&str] = &[
    "postgres",
    "sqlite",
    "mysql",
    "mariadb",
    "kafka",
    "rabbitmq",
    "jetstream",
    "redis",
    "zookeeper",
    "etcd",
    "debezium",
];

/// What of ours a package may link, besides in tests.
const MAY_USE: &[(&str, &[&str])] = &[
    ("crates/core/", &[]),
    ("crates/store/", &["rowcast-core"]),
    ("crates/connect/postgres/", &["rowcast-core"]),
    ("crates/connect/sqlite/", &["rowcast-core"]),
    ("crates/engine/", &["rowcast-core"]),
    ("crates/server/", &["rowcast-core", "rowcast-engine"]),
    ("crates/torture/", &[]),
    ("crates/testkit/", &["rowcast-core"]),
    ("xtask/", &["rowcast-testkit"]),
];

pub(super) fn look(files: &[SourceFile], findings: &mut Vec<String>) {
    for file in files {
        let within = |room: &&str| file.path.starts_with(*room);
        if file.has_extension("rs") && NAMELESS.iter().any(within) {
            names(file, findings);
        }
        if file.path.ends_with("Cargo.toml") {
            let room = MAY_USE.iter().find(|(room, _)| file.path.starts_with(room));
            links(file, room.map(|(_, may)| *may), findings);
        }
        if file.has_extension("rs") && !file.is_test() {
            unwraps(file, findings);
        }
    }
}

fn names(file: &SourceFile, findings: &mut Vec<String>) {
    for (number, line) in numbered(&file.text) {
        let lower = line.to_lowercase();
        if let Some(product) = PRODUCTS.iter().find(|product| lower.contains(**product)) {
            findings.push(format!("{}:{number}: this room names no product: {product}", file.path));
        }
    }
}

fn links(file: &SourceFile, may: Option<&[&str]>, findings: &mut Vec<String>) {
    let Some(may) = may else { return };
    let mut section = "";
    for (number, line) in numbered(&file.text) {
        if line.starts_with('[') {
            section = line;
        }
        let Some((name, _)) = line.split_once(" =") else { continue };
        if section == "[dependencies]" && name.starts_with("rowcast-") && !may.contains(&name) {
            findings.push(format!("{}:{number}: this room may not link {name}", file.path));
        }
    }
}

fn unwraps(file: &SourceFile, findings: &mut Vec<String>) {
    let unwrap = concat!(".unwr", "ap()");
    for (number, line) in numbered(&without_tests(&code(&file.text))) {
        if line.contains(unwrap) {
            let say = "say with expect why it cannot fail";
            findings.push(format!("{}:{number}: {unwrap} outside tests; {say}", file.path));
        }
    }
}

fn numbered(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines().enumerate().map(|(index, line)| (index + 1, line))
}
