//! How a source's types are made elsewhere: enums, domains, composites and what extensions bring, with
//! everything that they are made of.

use rowcast_core::Listed;

/// SQL that gives, for each of these types that is not built in, its name and then name and statement
/// of each type behind it, those first that others need.
pub(crate) fn sql(types: &[u32]) -> String {
    let oids: Vec<_> = types.iter().map(u32::to_string).collect();
    format!(
        "WITH RECURSIVE part (root, oid, depth) AS ( \
           SELECT w.oid, w.oid, 0 FROM (SELECT DISTINCT unnest('{{{}}}'::oid[])) w (oid) \
           UNION SELECT part.root, n.oid, depth + 1 FROM part JOIN pg_type t ON t.oid = part.oid \
             CROSS JOIN LATERAL (SELECT t.typbasetype WHERE t.typtype = 'd' \
               UNION ALL SELECT t.typelem WHERE t.typcategory = 'A' AND t.typelem <> 0 \
               UNION ALL SELECT a.atttypid FROM pg_attribute a WHERE t.typtype = 'c' \
                 AND a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped) n (oid)), \
         deep AS (SELECT root, oid, max(depth) AS depth FROM part GROUP BY root, oid), \
         made AS (SELECT d.root, d.depth, t.oid, format_type(t.oid, -1) AS name, CASE \
           WHEN x.oid IS NOT NULL THEN 'CREATE EXTENSION IF NOT EXISTS ' || quote_ident(x.extname) \
           WHEN t.typtype = 'e' THEN 'CREATE TYPE ' || format_type(t.oid, -1) || ' AS ENUM (' || \
             (SELECT string_agg(quote_literal(enumlabel), ', ' ORDER BY enumsortorder) \
              FROM pg_enum WHERE enumtypid = t.oid) || ')' \
           WHEN t.typtype = 'd' THEN 'CREATE DOMAIN ' || format_type(t.oid, -1) || ' AS ' || \
             format_type(t.typbasetype, t.typtypmod) || \
             CASE WHEN t.typnotnull THEN ' NOT NULL' ELSE '' END || coalesce( \
               (SELECT string_agg(' CONSTRAINT ' || quote_ident(conname) || ' ' || \
                  pg_get_constraintdef(oid), '' ORDER BY conname) \
                FROM pg_constraint WHERE contypid = t.oid AND contype = 'c'), '') \
           WHEN t.typtype = 'c' AND c.relkind = 'c' THEN 'CREATE TYPE ' || format_type(t.oid, -1) \
             || ' AS (' || (SELECT string_agg(quote_ident(attname) || ' ' || \
                  format_type(atttypid, atttypmod), ', ' ORDER BY attnum) FROM pg_attribute \
                WHERE attrelid = c.oid AND attnum > 0 AND NOT attisdropped) || ')' \
           END AS statement \
         FROM deep d JOIN pg_type t ON t.oid = d.oid LEFT JOIN pg_class c ON c.oid = t.typrelid \
         LEFT JOIN pg_depend e ON e.classid = 'pg_type'::regclass AND e.objid = t.oid \
           AND e.deptype = 'e' LEFT JOIN pg_extension x ON x.oid = e.refobjid \
         WHERE t.typnamespace <> 'pg_catalog'::regnamespace \
           AND NOT (t.typcategory = 'A' AND t.typelem <> 0)) \
         SELECT format_type(m.root, -1), s.name, s.statement FROM made m \
         JOIN pg_type t ON t.oid = m.oid JOIN pg_namespace n ON n.oid = t.typnamespace \
         CROSS JOIN LATERAL (VALUES (0, quote_ident(n.nspname), \
             'CREATE SCHEMA ' || quote_ident(n.nspname)), (1, m.name, m.statement)) \
           s (place, name, statement) \
         WHERE (s.place = 1 OR n.nspname <> 'public') \
           AND NOT EXISTS (SELECT FROM made n WHERE n.root = m.root AND n.statement IS NULL) \
         ORDER BY m.root, m.depth DESC, m.oid, s.place",
        oids.join(",")
    )
}

/// Puts what `rows` say of making types beside what is known of their values.
pub(crate) fn add(listed: &mut Vec<Listed>, rows: impl Iterator<Item = [String; 3]>) {
    for [native, name, statement] in rows {
        let made = (name, statement);
        match listed.iter_mut().find(|l| l.native == native) {
            Some(listed) => listed.create.push(made),
            None => {
                let (name, values) = (native.clone(), Vec::new());
                listed.push(Listed { native, name, values, create: vec![made] });
            }
        }
    }
}
