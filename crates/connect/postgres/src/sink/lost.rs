//! Functions that the server runs when rows are written (of triggers, checks, computed columns and
//! indexes) and that name something without its schema: under our empty search_path they fail.

use crate::connect::Session;
use rowcast_core::{Finding, Severity, quote};
use std::collections::{BTreeSet, HashMap};
use tokio_postgres::Error;

/// What uses which function of SQL or PL/pgSQL that has no search path of its own, for a table.
const USED: &str = "
    WITH RECURSIVE part (oid) AS (
        SELECT a.atttypid FROM pg_attribute a
        WHERE a.attrelid = $1 AND a.attnum > 0 AND NOT a.attisdropped
        UNION SELECT CASE t.typtype WHEN 'd' THEN t.typbasetype ELSE t.typelem END
        FROM part JOIN pg_type t ON t.oid = part.oid WHERE t.typtype = 'd' OR t.typelem <> 0),
    used (what, class, oid) AS (
        SELECT 'constraint ' || quote_ident(conname), 'pg_constraint'::regclass, oid
        FROM pg_constraint WHERE conrelid = $1
        UNION ALL SELECT 'domain ' || contypid::regtype, 'pg_constraint'::regclass, oid
        FROM pg_constraint WHERE contypid IN (SELECT oid FROM part WHERE oid <> 0)
        UNION ALL SELECT 'column ' || quote_ident(a.attname), 'pg_attrdef'::regclass, d.oid
        FROM pg_attrdef d JOIN pg_attribute a ON a.attrelid = d.adrelid AND a.attnum = d.adnum
        WHERE d.adrelid = $1
        UNION ALL SELECT 'index ' || indexrelid::regclass, 'pg_class'::regclass, indexrelid
        FROM pg_index WHERE indrelid = $1
        UNION ALL SELECT 'policy ' || quote_ident(polname), 'pg_policy'::regclass, oid
        FROM pg_policy WHERE polrelid = $1),
    called (what, oid) AS (
        SELECT 'trigger ' || quote_ident(tgname), tgfoid FROM pg_trigger
        WHERE tgrelid = $1 AND NOT tgisinternal AND tgenabled IN ('O', 'A')
        UNION SELECT u.what, d.refobjid FROM used u JOIN pg_depend d
            ON d.classid = u.class AND d.objid = u.oid AND d.refclassid = 'pg_proc'::regclass)
    SELECT string_agg(DISTINCT c.what, ', '), p.oid::regprocedure::text, p.prosrc
    FROM called c JOIN pg_proc p ON p.oid = c.oid JOIN pg_language l ON l.oid = p.prolang
    WHERE l.lanname IN ('sql', 'plpgsql') AND NOT EXISTS (
        SELECT FROM unnest(p.proconfig) s WHERE s LIKE 'search_path=%')
    GROUP BY p.oid, p.prosrc ORDER BY 2";

/// Where tables and the like (`r`), functions (`f`) and types (`t`) of these names are.
const NAMED: &str = "
    SELECT name, kind, schema FROM (
        SELECT c.relname::text, 'r', c.relnamespace FROM pg_class c
        WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S')
        UNION SELECT proname::text, 'f', pronamespace FROM pg_proc
        UNION SELECT typname::text, 't', typnamespace FROM pg_type) AS o (name, kind, oid)
    CROSS JOIN LATERAL (SELECT n.nspname::text FROM pg_namespace n WHERE n.oid = o.oid) s (schema)
    WHERE name = ANY ($1) AND schema NOT LIKE 'pg\\_%' AND schema <> 'information_schema'";

/// What is found of a table's functions.
pub(super) async fn functions(
    session: &Session,
    subject: &str,
    table: u32,
) -> Result<Vec<Finding>, Error> {
    let used = session.query(USED, &[&table]).await?;
    let mut wanted: Vec<(String, String, BTreeSet<Name>)> = Vec::new();
    for row in &used {
        let names = names(row.get(2));
        if !names.is_empty() {
            wanted.push((row.get(0), row.get(1), names));
        }
    }
    let all: Vec<&str> =
        wanted.iter().flat_map(|(.., names)| names.iter().map(|n| n.name.as_str())).collect();
    if all.is_empty() {
        return Ok(Vec::new());
    }
    let mut places: HashMap<Name, BTreeSet<String>> = HashMap::new();
    for row in session.query(NAMED, &[&all]).await? {
        let kind: &str = row.get(1);
        let name = Name { kind: kind.chars().next().unwrap_or('r'), name: row.get(0) };
        places.entry(name).or_default().insert(row.get(2));
    }
    let findings = wanted.iter().filter_map(|(what, function, names)| {
        let lost: Vec<_> = names.iter().filter(|n| places.contains_key(*n)).collect();
        let schemas: BTreeSet<_> = lost.iter().flat_map(|n| &places[*n]).collect();
        let named: BTreeSet<_> = lost.iter().map(|n| quote(&n.name)).collect();
        if named.is_empty() {
            return None;
        }
        let schemas: Vec<_> = schemas.into_iter().map(|s| quote(s)).collect();
        let named: Vec<_> = named.into_iter().collect();
        let message = format!(
            "its {what} runs {function}, which names {} without a schema: Rowcast's sessions have an \
             empty search_path, so it fails for them",
            named.join(", ")
        );
        let help = "give the function a search_path of its own";
        let fix = format!(
            "ALTER FUNCTION {function} SET search_path = {}, pg_temp",
            schemas.join(", ")
        );
        let finding = Finding::new(Severity::Error, subject, message, help);
        Some(finding.with_fix(false, vec![fix]))
    });
    Ok(findings.collect())
}

/// A name that stands without a schema.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Name {
    /// `r` where a table stands, `f` where a function is called, `t` where a type stands.
    kind: char,
    name: String,
}

/// What a function's body names without a schema, where a word before or after it says what it is.
fn names(body: &str) -> BTreeSet<Name> {
    let tokens = tokens(body);
    let token = |i: usize| tokens.get(i).map_or("", String::as_str);
    let mut found = BTreeSet::new();
    for (i, word) in tokens.iter().enumerate() {
        let before = if i == 0 { "" } else { token(i - 1) };
        let is_name = word.starts_with('"')
            || word.chars().next().is_some_and(|c| c.is_alphabetic() || c == '_');
        if !is_name || before == "." || token(i + 1) == "." {
            continue;
        }
        let before = before.to_ascii_lowercase();
        let table = ["from", "join", "into", "update", "only", "truncate", "table"];
        let kind = match before.as_str() {
            _ if token(i + 1) == "(" && before != "into" => 'f',
            "::" => 't',
            before if table.contains(&before) => 'r',
            _ => continue,
        };
        let name = match word.strip_prefix('"') {
            Some(quoted) => quoted.trim_end_matches('"').replace("\"\"", "\""),
            None => word.to_lowercase(),
        };
        found.insert(Name { kind, name });
    }
    found
}

/// Words, quoted names and signs; comments and spaces are left out.
fn tokens(body: &str) -> Vec<String> {
    let mut tokens = Vec::new();
    let mut rest = body;
    while let Some(c) = rest.chars().next() {
        let word = |rest: &str| {
            rest.find(|c: char| !c.is_alphanumeric() && c != '_' && c != '$').unwrap_or(rest.len())
        };
        let length = match c {
            '-' if rest.starts_with("--") => rest.find('\n').unwrap_or(rest.len()),
            '/' if rest.starts_with("/*") => rest.find("*/").map_or(rest.len(), |at| at + 2),
            '"' => rest[1..].find('"').map_or(rest.len(), |at| at + 2),
            ':' if rest.starts_with("::") => 2,
            c if c.is_alphanumeric() || c == '_' => word(rest),
            c => c.len_utf8(),
        };
        let (token, after) = rest.split_at(length);
        let comment = token.starts_with("--") || token.starts_with("/*");
        if !comment && !c.is_whitespace() {
            tokens.push(token.to_string());
        }
        rest = after;
    }
    tokens
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_tells_what_it_names_without_a_schema() {
        let body = "BEGIN -- FROM remark\n INSERT INTO audit (id) SELECT x FROM shop.item, LATERAL f(1); \
            UPDATE \"Odd Name\" SET a = g.h(NEW.a), b = 'x'::mood; PERFORM lower(NEW.b); \
            /* JOIN no */ RETURN NEW; END";
        let found: Vec<_> =
            names(body).into_iter().map(|n| format!("{} {}", n.kind, n.name)).collect();
        assert_eq!(found, ["f f", "f lower", "r Odd Name", "r audit", "t mood"]);
    }
}
