use super::*;
use crate::config::{ConfigError, Loaded, SourceFile, read};
use crate::paint::Paint;

const DIGEST: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

fn load(server: &str) -> Result<Loaded, ConfigError> {
    let text = format!("[service.order]\ndatabase = \"sqlite:o.db\"\n[server]\n{server}\n");
    let env = |name: &str| (name == "TOKEN").then(|| "from-the-environment-0123456789".to_string());
    read(SourceFile { name: "rowcast.toml".into(), text }, Path::new("/srv"), &env)
}

/// What a person sees.
fn seen(server: &str) -> String {
    match load(server) {
        Ok(loaded) => loaded.file.render(&loaded.warnings, Paint::PLAIN),
        Err(ConfigError::Wrong { file, problems }) => file.render(&problems, Paint::PLAIN),
        Err(e) => panic!("{e}"),
    }
}

#[test]
fn tokens_and_a_certificate_become_part_of_the_plan() {
    let text = format!(
        "listen = \"0.0.0.0:7117\"\ntls = {{ cert = \"c.pem\", key = \"/etc/k.pem\" }}\ntokens = [\n\
         {{ name = \"ops\", role = \"admin\", sha256 = \"{DIGEST}\" }},\n\
         {{ name = \"order\", role = \"subscriber\", service = \"order\", token = \"${{TOKEN}}\" }}]"
    );
    let plan = load(&text).unwrap().plan;
    let tls = plan.tls.unwrap();
    assert_eq!((tls.cert.value, tls.key.value), ("/srv/c.pem".into(), "/etc/k.pem".into()));
    let [ops, order] = &plan.grants[..] else { panic!("{:?}", plan.grants) };
    assert_eq!((&ops.role, ops.token), (&Role::Admin, TokenDigest::of("abc")));
    assert_eq!(order.role, Role::Subscriber("order".parse().unwrap()));
    assert_eq!(order.token, TokenDigest::of("from-the-environment-0123456789"));
}

#[test]
fn an_address_that_others_reach_needs_tokens_and_is_told_about_tls() {
    let open = seen("listen = \"0.0.0.0:7117\"");
    assert!(open.contains("error: everybody who reaches this address"), "{open}");
    assert!(open.contains("`rowcast token`"), "{open}");
    let token = format!("tokens = [{{ name = \"a\", role = \"reader\", sha256 = \"{DIGEST}\" }}]");
    let clear = seen(&format!("listen = \"[::]:7117\"\n{token}"));
    assert!(clear.contains("warning: tokens and events cross the network in clear"), "{clear}");
    assert!(!seen(&token).contains("in clear"), "loopback is no network");
    let none = seen("listen = \"0.0.0.0:7117\"\ntokens = []");
    assert!(none.contains("error: everybody"), "{none}");
    let wrong = seen("listen = \"0.0.0.0:7117\"\ntokens = [{ name = \"a\", role = \"king\" }]");
    assert!(wrong.contains("no role `king`") && !wrong.contains("error: everybody"), "{wrong}");
}

#[test]
fn a_token_that_is_none_says_why() {
    let digest = format!("sha256 = \"{DIGEST}\"");
    for (token, said) in [
        (format!("role = \"admin\", {digest}"), "`name` is missing"),
        (format!("name = \"a\", {digest}"), "`role` is missing"),
        ("name = \"a\", role = \"admin\"".into(), "`sha256` is missing"),
        (format!("name = \"a\", role = \"amin\", {digest}"), "did you mean `admin`?"),
        (format!("name = \"a\", role = \"subscriber\", {digest}"), "needs a `service`"),
        (
            format!("name = \"a\", role = \"admin\", service = \"order\", {digest}"),
            "is not one service's",
        ),
        (
            format!("name = \"a\", role = \"subscriber\", service = \"ordre\", {digest}"),
            "there is no service `ordre`",
        ),
        (
            format!("name = \"a\", role = \"subscriber\", service = \"A\", {digest}"),
            "service name \"A\"",
        ),
        ("name = \"a\", role = \"admin\", sha256 = \"abc\"".into(), "64 hexadecimal digits"),
        (format!("name = \"a\", role = \"admin\", {digest}, token = \"${{TOKEN}}\""), "both"),
        (format!("name = \"a\", role = \"admin\", {digest}, secret = 1"), "unknown key `secret`"),
    ] {
        let seen = seen(&format!("tokens = [{{ {token} }}]"));
        assert!(seen.contains(said), "{said} in {seen}");
    }
    for (server, said) in [
        ("tokens = \"x\"", "must be a list of tokens"),
        ("tokens = [\"x\"]", "must be a table"),
        ("tls = { cert = \"x\" }", "`key` is missing"),
        ("tls = true", "must be a table"),
    ] {
        assert!(seen(server).contains(said), "{server}: {}", seen(server));
    }
}

#[test]
fn two_tokens_are_two() {
    let one = format!("{{ name = \"a\", role = \"admin\", sha256 = \"{DIGEST}\" }}");
    let seen = seen(&format!("tokens = [{one}, {one}]"));
    assert!(seen.contains("two tokens are named `a`"), "{seen}");
    assert!(seen.contains("`a` and `a` are the same token"), "{seen}");
}

#[test]
fn a_token_in_clear_is_not_shown_with_its_mistake() {
    for token in [
        "name = \"a\", role = \"admin\", token = \"geheim\"",
        "name = \"a\", rolle = \"admin\", token = \"geheim-0123456789-0123456789\"",
        "token = 'geheim-0123456789-0123456789', name = \"a\", role = \"x\"",
        "name = \"a\", role = \"admin\", token = \"geheim${NOPE}\"",
    ] {
        let seen = seen(&format!("tokens = [{{ {token} }}]"));
        assert!(seen.contains("error: "), "{seen}");
        assert!(!seen.contains("geheim"), "{seen}");
        assert!(!seen.contains("`sha256` is missing"), "a token is there: {seen}");
    }
    let short = seen("tokens = [{ name = \"a\", role = \"admin\", token = \"geheim\" }]");
    assert!(short.contains("a token has at least 24 characters"), "{short}");
}
