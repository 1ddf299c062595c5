//! Types that list their values: what stands behind a column's type, and what a copy's lacks of it.

use rowcast_core::{Finding, Listed, Severity};

/// SQL that gives type, enum and value for each of these types that is an enum, or an array of one, or
/// a domain over one; in the enum's order.
pub(crate) fn sql(types: &[u32]) -> String {
    let oids: Vec<_> = types.iter().map(u32::to_string).collect();
    format!(
        "SELECT format_type(w.oid, -1), format_type(e.enumtypid, -1), e.enumlabel::text \
         FROM (SELECT DISTINCT unnest('{{{}}}'::oid[])) w (oid) CROSS JOIN LATERAL ( \
           WITH RECURSIVE part (oid) AS (SELECT w.oid UNION \
             SELECT CASE t.typtype WHEN 'd' THEN t.typbasetype ELSE t.typelem END \
             FROM part JOIN pg_type t ON t.oid = part.oid \
             WHERE t.typtype = 'd' OR t.typcategory = 'A') \
           SELECT part.oid FROM part) p \
         JOIN pg_enum e ON e.enumtypid = p.oid ORDER BY w.oid, e.enumtypid, e.enumsortorder",
        oids.join(",")
    )
}

/// The answer's rows, each type with all its values.
pub(crate) fn read(rows: impl Iterator<Item = [String; 3]>) -> Vec<Listed> {
    let mut found: Vec<Listed> = Vec::new();
    for [native, name, value] in rows {
        match found.iter_mut().find(|l| l.native == native) {
            Some(listed) => listed.values.push(value),
            None => found.push(Listed { native, name, values: vec![value], create: Vec::new() }),
        }
    }
    found
}

/// What the copy's type lacks of the source's; nothing when it has it all.
pub(crate) fn lacking(subject: &str, source: &Listed, copy: &Listed) -> Option<Finding> {
    let lacks = |v: &&String| !copy.values.contains(*v);
    let lacking: Vec<_> = source.values.iter().filter(lacks).map(|v| literal(v)).collect();
    if lacking.is_empty() {
        return None;
    }
    let mut statements = Vec::new();
    let mut before: Option<&String> = None;
    for value in &source.values {
        if !copy.values.contains(value) {
            // In the source's order, so that both sort alike.
            let place = match (before, copy.values.first()) {
                (Some(before), _) => format!(" AFTER {}", literal(before)),
                (None, Some(first)) => format!(" BEFORE {}", literal(first)),
                (None, None) => String::new(),
            };
            let (name, value) = (&copy.name, literal(value));
            statements.push(format!("ALTER TYPE {name} ADD VALUE {value}{place}"));
        }
        before = Some(value);
    }
    let (name, lacking) = (&copy.name, lacking.join(", "));
    let pairs = || source.values.iter().zip(&copy.values).filter(|(s, c)| s != c);
    let renamed = source.values.len() == copy.values.len()
        && pairs().all(|(s, c)| !source.values.contains(c) && !copy.values.contains(s));
    if renamed {
        let rename = |(s, c): (&String, &String)| {
            format!("ALTER TYPE {name} RENAME VALUE {} TO {}", literal(c), literal(s))
        };
        let message = format!(
            "its type {name} lacks {lacking}, which the source's has in the place of another: rows \
             with it are parked, and a copy that is built again waits"
        );
        let help = "if the source has renamed it, let the type's owner do the same; that renames it \
                    in all rows";
        let found = Finding::new(Severity::Warning, subject, message, help);
        return Some(found.with_fix(false, pairs().map(rename).collect()));
    }
    let message =
        format!("its type {name} lacks {lacking}, which the source's has: rows with it are parked");
    let help = "let the type's owner add what is lacking, before such rows come";
    Some(Finding::new(Severity::Warning, subject, message, help).with_fix(true, statements))
}

fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(values: &[&str]) -> Listed {
        let values = values.iter().map(|v| v.to_string()).collect();
        Listed { native: "mood".into(), name: "mood".into(), values, create: Vec::new() }
    }

    #[test]
    fn what_is_lacking_is_added_at_the_source_s_place() {
        let found = lacking("t", &listed(&["a", "b'", "c"]), &listed(&["c"])).unwrap();
        assert_eq!(
            found.fix.unwrap().statements,
            [
                "ALTER TYPE mood ADD VALUE 'a' BEFORE 'c'",
                "ALTER TYPE mood ADD VALUE 'b''' AFTER 'a'"
            ]
        );
        assert_eq!(lacking("t", &listed(&["a"]), &listed(&["b", "a"])), None);
        let renamed = lacking("t", &listed(&["a", "new"]), &listed(&["a", "old"])).unwrap();
        assert_eq!(
            renamed.fix.unwrap().statements,
            ["ALTER TYPE mood RENAME VALUE 'old' TO 'new'"]
        );
    }
}
