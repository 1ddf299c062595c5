//! What a comparison found, for people and for scripts.

use crate::paint::Paint;
use crate::report::Failure;
use crate::time::{counted, grouped, rough};
use rowcast_core::RouteId;
use rowcast_engine::{CopyReport, Difference, Kind, Verified};
use serde_json::{Map, Value as Json, json};
use std::fmt::Write as _;
use std::time::Duration;

/// Rows named for people; scripts get all that were kept.
const SHOWN: usize = 20;
/// Longest text of one value for people.
const VALUE: usize = 60;

/// One route's outcome.
pub(crate) type Outcome = (RouteId, Result<Verified, Failure>);

/// What differs, line by line.
pub(crate) fn text(verified: &Verified, values: bool, paint: Paint) -> String {
    let mut out = String::new();
    for copy in &verified.copies {
        let name = format!("{}.{} → {}", verified.route.from, copy.entity, copy.into);
        let _ = writeln!(
            out,
            "{} {}: {} at {}, {} ({})",
            paint.dim(&verified.route.to_string()),
            paint.bold(&name),
            counted(copy.rows, "row"),
            verified.point,
            verdict(copy, paint),
            rough(Duration::from_secs_f64(copy.seconds)),
        );
        for difference in copy.listed.iter().take(SHOWN) {
            let _ = writeln!(out, "    {}", line(difference, values, paint));
        }
        let rest = copy.differences.saturating_sub(copy.listed.len().min(SHOWN) as u64);
        if rest > 0 {
            let _ = writeln!(out, "    … and {} more; --json names more of them", grouped(rest));
        }
        if !copy.not_compared.is_empty() {
            let names = copy.not_compared.join(", ");
            let _ = writeln!(
                out,
                "    not compared, the copy does not have them from its source: {names}"
            );
        }
        if !copy.otherwise.is_empty() {
            let names = copy.otherwise.join(", ");
            let line = format!("the copy computes otherwise than its source: {names}");
            let _ = writeln!(out, "    {}", paint.red(&line));
        }
    }
    out
}

fn verdict(copy: &CopyReport, paint: Paint) -> String {
    let compared = match (copy.differences, copy.left) {
        (0, _) if copy.parked > 0 => "identical otherwise".into(),
        (0, _) => paint.green("identical"),
        (n, 0) => paint.green(&format!("{} differed, all mended", grouped(n))),
        (n, left) if left == n => paint.red(&format!("{} differ", grouped(n))),
        (n, left) => paint.red(&format!("{} differed, {} still do", grouped(n), grouped(left))),
    };
    match copy.parked {
        0 => compared,
        1 => format!("{}, {compared}", paint.yellow("1 key parked")),
        n => format!("{}, {compared}", paint.yellow(&format!("{} keys parked", grouped(n)))),
    }
}

fn line(difference: &Difference, values: bool, paint: Paint) -> String {
    let kind = format!("{:<9}", difference.kind.as_str());
    let kind = match difference.kind {
        Kind::Missing => paint.yellow(&kind),
        Kind::Extra => paint.magenta(&kind),
        Kind::Different => paint.cyan(&kind),
    };
    let key = difference.key.iter().map(|(name, value)| format!("{name}={}", shown(value)));
    let mut line = format!("{kind} {}", key.collect::<Vec<_>>().join(" "));
    let columns = difference.values.iter().map(|v| match values {
        true => format!("{} is {}, should be {}", v.column, shown(&v.found), shown(&v.expected)),
        false => v.column.clone(),
    });
    let columns: Vec<_> = columns.collect();
    if !columns.is_empty() {
        let between = if values { "; " } else { ", " };
        let _ = write!(line, "  {}", columns.join(between));
    }
    if let Some(why) = &difference.refused {
        let _ = write!(line, "  {}", paint.red(&format!("cannot be mended: {why}")));
    }
    line
}

fn shown(value: &Option<String>) -> String {
    let Some(value) = value else { return "NULL".into() };
    let plain: String = value.chars().filter(|c| !c.is_control()).take(VALUE).collect();
    if plain.len() < value.len() { format!("{plain}…") } else { plain }
}

/// One object for scripts.
pub(crate) fn json(outcomes: &[Outcome], values: bool) -> String {
    let routes = outcomes.iter().map(|(route, outcome)| {
        let (from, to) = (route.from.as_str(), route.to.as_str());
        match outcome {
            Ok(verified) => json!({
                "from": from,
                "to": to,
                "identical": verified.is_identical(),
                "position": verified.point.to_string(),
                "checkpoint": verified.checkpoint.0,
                "copies": verified.copies.iter().map(|c| copy(c, values)).collect::<Vec<_>>(),
                "error": Json::Null,
            }),
            Err(failure) => json!({
                "from": from,
                "to": to,
                "identical": false,
                "copies": [],
                "error": failure.message(),
            }),
        }
    });
    let routes: Vec<_> = routes.collect();
    let identical = routes.iter().all(|r| r["identical"] == true);
    json!({ "identical": identical, "routes": routes }).to_string()
}

fn copy(copy: &CopyReport, values: bool) -> Json {
    json!({
        "entity": copy.entity,
        "into": copy.into,
        "rows": copy.rows,
        "differences": copy.differences,
        "left": copy.left,
        "parked": copy.parked,
        "not_compared": copy.not_compared,
        "computed_otherwise": copy.otherwise,
        "seconds": copy.seconds,
        "listed": copy.listed.iter().map(|d| listed(d, values)).collect::<Vec<_>>(),
    })
}

fn listed(difference: &Difference, values: bool) -> Json {
    let key = difference.key.iter().map(|(name, value)| (name.clone(), json!(value)));
    let mut listed = json!({
        "kind": difference.kind.as_str(),
        "key": key.collect::<Map<_, _>>(),
        "columns": difference.values.iter().map(|v| &v.column).collect::<Vec<_>>(),
        "mended": difference.mended,
        "refused": difference.refused,
    });
    if values {
        let each = difference
            .values
            .iter()
            .map(|v| (v.column.clone(), json!({ "expected": v.expected, "found": v.found })));
        listed["values"] = Json::Object(each.collect());
    }
    listed
}

#[cfg(test)]
mod tests {
    use super::*;
    use rowcast_core::{Offset, Point};
    use rowcast_engine::DifferentValue;

    fn verified() -> Verified {
        let values = |names: &[&str]| {
            let value = |name: &&str| DifferentValue {
                column: name.to_string(),
                expected: Some("Ada".into()),
                found: None,
            };
            names.iter().map(value).collect::<Vec<_>>()
        };
        let difference = |kind, id: &str, values| Difference {
            kind,
            key: vec![("id".into(), Some(id.into()))],
            values,
            mended: false,
            refused: None,
        };
        let copy = CopyReport {
            entity: "customer".into(),
            into: "customer_copy".into(),
            rows: 1_000_000,
            differences: 3,
            listed: vec![
                difference(Kind::Missing, "5", vec![]),
                difference(Kind::Different, "9", values(&["name", "city"])),
            ],
            left: 3,
            parked: 0,
            not_compared: vec!["late".into()],
            otherwise: vec![],
            seconds: 2.0,
        };
        Verified {
            route: "shop:office".parse().unwrap(),
            point: Point::Lsn(0x8a2_d068),
            checkpoint: Offset(7),
            copies: vec![copy],
        }
    }

    #[test]
    fn people_see_which_rows_differ_and_values_only_when_asked() {
        let plain = text(&verified(), false, Paint::PLAIN);
        let lines: Vec<_> = plain.lines().collect();
        assert!(lines[0].starts_with(
            "shop:office shop.customer → customer_copy: 1,000,000 rows at 0/8A2D068, 3 differ ("
        ));
        assert_eq!(lines[1], "    missing   id=5");
        assert_eq!(lines[2], "    different id=9  name, city");
        assert_eq!(lines[3], "    … and 1 more; --json names more of them");
        assert_eq!(lines[4], "    not compared, the copy does not have them from its source: late");
        assert!(!plain.contains("Ada"));
        let told = text(&verified(), true, Paint::PLAIN);
        assert!(
            told.contains("different id=9  name is NULL, should be Ada; city is NULL"),
            "{told}"
        );
    }

    #[test]
    fn parked_keys_are_said_beside_what_differs_and_are_not_identical() {
        let mut told = verified();
        told.copies[0].parked = 1;
        assert!(text(&told, false, Paint::PLAIN).contains(", 1 key parked, 3 differ ("));
        let copy = &mut told.copies[0];
        (copy.differences, copy.left, copy.parked, copy.listed) = (0, 0, 1_200, Vec::new());
        let plain = text(&told, false, Paint::PLAIN);
        assert!(plain.contains(", 1,200 keys parked, identical otherwise ("), "{plain}");
        let outcomes = [("shop:office".parse().unwrap(), Ok(told))];
        let parsed: Json = serde_json::from_str(&json(&outcomes, false)).unwrap();
        assert_eq!(parsed["identical"], false);
        assert_eq!(parsed["routes"][0]["copies"][0]["parked"], 1_200);
    }

    #[test]
    fn scripts_get_one_object() {
        let outcomes = [("shop:office".parse().unwrap(), Ok(verified()))];
        let parsed: Json = serde_json::from_str(&json(&outcomes, false)).unwrap();
        assert_eq!(parsed["identical"], false);
        let copy = &parsed["routes"][0]["copies"][0];
        assert_eq!(copy["listed"][1]["key"]["id"], "9");
        assert_eq!(copy["listed"][1]["columns"], json!(["name", "city"]));
        assert!(copy["listed"][1].get("values").is_none());
    }
}
