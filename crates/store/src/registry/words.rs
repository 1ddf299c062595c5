//! What a subscription is called on disk. A key that this version does not know is refused, never
//! ignored: it may be what keeps rows or fields from a subscriber.

use rowcast_core::{Begin, Fields, Offset, Origin, Subscription};
use serde::{Deserialize, Serialize};

/// What a subscription takes, beyond what names it. New keys are optional.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Definition {
    /// (name in the copy, published name); all fields when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    fields: Option<Vec<(String, String)>>,
    create: bool,
    /// Which rows, as an SQL condition; all rows when absent.
    #[serde(default, rename = "where", skip_serializing_if = "Option::is_none")]
    filter: Option<String>,
    /// Where the copy begins; at the beginning when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    from: Option<String>,
    /// Where the log ended when somebody said `now`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    now: Option<u64>,
}

/// A subscription's definition as JSON.
pub(super) fn definition(subscription: &Subscription) -> String {
    let fields = match &subscription.fields {
        Fields::All => None,
        Fields::Named(named) => Some(named.clone()),
    };
    let filter = subscription.filter.as_ref().map(|f| f.as_str().to_string());
    let from = Some(subscription.from).filter(|f| *f != Begin::Beginning).map(|f| f.to_string());
    let now = match subscription.from {
        Begin::Now(at) => at.map(|at| at.0),
        Begin::Beginning | Begin::Offset(_) | Begin::Position(_) => None,
    };
    let definition = Definition { fields, create: subscription.create, filter, from, now };
    serde_json::to_string(&definition).expect("texts and flags have a JSON form")
}

/// The subscription that a definition was made of.
///
/// # Errors
/// When this version does not know what it says.
pub(super) fn subscription(
    entity: &str,
    into: String,
    definition: &str,
) -> Result<Subscription, String> {
    let Definition { fields, create, filter, from, now } =
        serde_json::from_str(definition).map_err(|e| format!("the definition of {into}: {e}"))?;
    let entity = entity.parse().map_err(|e| format!("{e}"))?;
    let fields = fields.map_or(Fields::All, Fields::Named);
    let filter = filter.map(|text| text.parse()).transpose();
    let filter = filter.map_err(|e| format!("the condition of {into}: {e}"))?;
    let from = from.map_or(Ok(Begin::Beginning), |text| text.parse());
    let from = match from.map_err(|e| format!("where {into} begins: {e}"))? {
        Begin::Now(_) => Begin::Now(now.map(Offset)),
        known => known,
    };
    Ok(Subscription { entity, into, fields, create, filter, from })
}

/// The origin that a word stands for.
pub(super) fn origin(word: &str) -> Result<Origin, String> {
    let known = [Origin::File, Origin::RunTime];
    known.into_iter().find(|o| o.as_str() == word).ok_or_else(|| format!("an origin {word:?}"))
}
