//! What texts in requests look like, for the document only: each is read by its own `FromStr`. A
//! test holds the patterns against those.

use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{ObjectBuilder, Schema, Type};
use utoipa::{PartialSchema, ToSchema};

/// Declares a text with its pattern; the pattern is a regular expression of ECMA-262.
macro_rules! words {
    ($($(#[doc = $doc:literal])+ $name:ident, $pattern:literal, $example:literal;)*) => {
        $(
            $(#[doc = $doc])+
            pub(crate) struct $name;

            impl PartialSchema for $name {
                fn schema() -> RefOr<Schema> {
                    let text = ObjectBuilder::new().schema_type(Type::String);
                    let text = text.description(Some(concat!($($doc),+).trim()));
                    text.pattern(Some($pattern)).examples([$example]).build().into()
                }
            }

            impl ToSchema for $name {}
        )*

        #[cfg(test)]
        const ALL: &[(&str, &str, &str)] = &[$((stringify!($name), $pattern, $example)),*];
    };
}

words! {
    /// A service.
    Service, "^[a-z][a-z0-9_-]{0,39}$", "order";
    /// An entity, within its service.
    Entity, "^[^\\x00-\\x1f\\x7f-\\x9f]{1,200}$", "customer";
    /// An entity, written SERVICE.ENTITY.
    EntityRef, "^[a-z][a-z0-9_-]{0,39}\\.[^\\x00-\\x1f\\x7f-\\x9f]{1,200}$", "customer.customer";
    /// A route, written FROM:TO.
    Route, "^[a-z][a-z0-9_-]{0,39}:[a-z][a-z0-9_-]{0,39}$", "customer:order";
    /// A place in a source's history: `16/B374D848`, or a number.
    Position, "^([0-9A-Fa-f]{1,8}/[0-9A-Fa-f]{1,8}|[0-9]{1,19})$", "16/B374D848";
    /// A place in a stream: `beginning`, `end`, or the offset of the first event wanted.
    Begin, "^(beginning|end|[0-9]{1,19})$", "beginning";
    /// Where a copy begins: `beginning`, `now`, an offset, or a position of the source's.
    Start, "^(beginning|now|[0-9]{1,18}|position:[0-9]{1,19}|[0-9A-Fa-f]{1,8}/[0-9A-Fa-f]{1,8})$", "now";
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::reads_begin;
    use proptest::prelude::*;
    use proptest::string::string_regex;
    use rowcast_core::{EntityName, Point, RouteId, ServiceName};

    /// Whether what stands behind a pattern takes a text.
    fn is_read(name: &str, text: &str) -> bool {
        match name {
            "Service" => text.parse::<ServiceName>().is_ok(),
            "Entity" => text.parse::<EntityName>().is_ok(),
            "EntityRef" => text.parse::<rowcast_core::EntityRef>().is_ok(),
            "Route" => text.parse::<RouteId>().is_ok(),
            "Position" => text.parse::<Point>().is_ok(),
            "Begin" => reads_begin(text),
            "Start" => text.parse::<rowcast_core::Begin>().is_ok(),
            other => panic!("{other} has no reader"),
        }
    }

    /// A text, and the name of the pattern that it was made from.
    fn described() -> impl Strategy<Value = (&'static str, String)> {
        (0..ALL.len()).prop_flat_map(|which| {
            let (name, pattern, _) = ALL[which];
            // The generator knows no anchors: it makes whole texts.
            let whole = pattern.trim_start_matches('^').trim_end_matches('$');
            string_regex(whole).unwrap().prop_map(move |text| (name, text))
        })
    }

    proptest! {
        #[test]
        fn what_a_pattern_describes_is_read((name, text) in described()) {
            prop_assert!(is_read(name, &text), "{name}: {text:?}");
        }
    }

    #[test]
    fn examples_are_read() {
        ALL.iter().for_each(|(name, _, example)| assert!(is_read(name, example), "{name}"));
    }

    #[test]
    fn what_no_pattern_describes_is_not_read() {
        for (name, text) in [
            ("Service", "A"),
            ("Service", ""),
            ("Entity", ""),
            ("Entity", "a\nb"),
            ("EntityRef", "a"),
            ("EntityRef", "a."),
            ("Route", "a"),
            ("Route", "a:b:c"),
            ("Position", "+1"),
            ("Position", "+1/+1"),
            ("Position", ""),
            ("Position", "1/2/3"),
            ("Position", "/"),
            ("Begin", "+1"),
            ("Begin", ""),
            ("Begin", "End"),
        ] {
            assert!(!is_read(name, text), "{name}: {text:?}");
        }
    }
}
