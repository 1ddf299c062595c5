//! What other rooms' answers look like, for the document only: those rooms know no HTTP. A test holds
//! real answers against them.

#![expect(dead_code, reason = "read by the macro that writes the document")]

use utoipa::ToSchema;

/// Everything at one moment.
#[derive(ToSchema)]
pub(crate) struct Status {
    /// The publishers.
    services: Vec<ServiceStatus>,
    /// The routes.
    routes: Vec<RouteStatus>,
}

/// One publisher.
#[derive(ToSchema)]
pub(crate) struct ServiceStatus {
    /// Its name.
    name: String,
    /// What its capture does.
    state: ServiceState,
    /// The source's position up to which the log is durable.
    #[schema(required)]
    position: Option<String>,
    /// Its stream.
    log: LogStatus,
    /// Milliseconds since its database was last heard; until it was, since it was first tried.
    heard_ms: u64,
    /// What its database keeps on its own disk because the log does not have it.
    #[schema(required)]
    retained_bytes: Option<u64>,
    /// What somebody should know although nothing waits.
    #[schema(required)]
    warning: Option<String>,
    /// How far the snapshots of its entities are.
    snapshots: Vec<SnapshotStatus>,
    /// Events made durable since the process began.
    captured_events: u64,
    /// Errors since the process began, each try counted.
    errors: u64,
    /// Times since then that capture went on after an error.
    reconnects: u64,
    /// Why it waits, on one line.
    #[schema(required)]
    error: Option<String>,
    /// The same, in parts.
    #[schema(required)]
    trouble: Option<Trouble>,
}

/// What a capture does.
#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
pub(crate) enum ServiceState {
    Starting,
    Snapshotting,
    Capturing,
    Retrying,
    Paused,
}

/// One stream of events.
#[derive(ToSchema)]
pub(crate) struct LogStatus {
    /// Oldest offset that can be read.
    first: u64,
    /// Next free offset.
    next: u64,
    /// Bytes on disk.
    bytes: u64,
    /// Before this offset only every key's latest state is left.
    compacted: u64,
}

/// The snapshot of one entity.
#[derive(ToSchema)]
pub(crate) struct SnapshotStatus {
    /// Which entity.
    entity: String,
    /// Rows in the log.
    rows: u64,
    /// Rows there are, as far as the source can tell.
    #[schema(required)]
    rows_estimate: Option<u64>,
    /// All are in the log.
    done: bool,
}

/// All subscriptions of one service to another.
#[derive(ToSchema)]
pub(crate) struct RouteStatus {
    /// The publisher.
    from: String,
    /// The subscriber.
    to: String,
    /// What it does.
    state: RouteState,
    /// The next offset the target lacks; unknown before it was reached once.
    #[schema(required)]
    checkpoint: Option<u64>,
    /// Events in the log that the target lacks.
    #[schema(required)]
    lag_events: Option<u64>,
    /// Age of the oldest of them, by the publisher's clock; 0 when there are none. Unknown when there
    /// are none and the publisher's database does not answer: it may have more.
    #[schema(required)]
    lag_ms: Option<u64>,
    /// Changes applied and committed since the process began.
    applied_events: u64,
    /// Errors since the process began, each try counted.
    errors: u64,
    /// Times since then that the route went on after an error.
    reconnects: u64,
    /// Parked keys; unknown before the target was reached once, because it holds them.
    #[schema(required)]
    parked: Option<u64>,
    /// Transactions of the subscriber's database that may share a piece of the log, by key.
    lanes: u16,
    /// Whether the subscriber sees every transaction of the publisher whole; not so with several lanes.
    whole: bool,
    /// What it carries.
    subscriptions: Vec<SubscriptionStatus>,
    /// Copies that are being built beside the live ones.
    building: Vec<BuildStatus>,
    /// What the subscriber's database makes it wait for, when a call takes long.
    waiting: Vec<WaitStatus>,
    /// Why it waits, on one line.
    #[schema(required)]
    error: Option<String>,
    /// The same, in parts.
    #[schema(required)]
    trouble: Option<Trouble>,
}

/// What a route waits for in a call of the subscriber's database that takes long.
#[derive(ToSchema)]
pub(crate) struct WaitStatus {
    /// A lock, or what the database works on.
    what: String,
    /// Since when, in milliseconds since 1970 UTC, by that database's clock.
    since_ms: i64,
    /// Who stands in the way.
    blockers: Vec<BlockerStatus>,
    /// What to do; empty when waiting is all.
    help: String,
}

/// A session that others wait for.
#[derive(ToSchema)]
pub(crate) struct BlockerStatus {
    /// How its database calls it.
    id: String,
    /// The program, as it names itself.
    program: String,
    /// The user it is logged in as.
    user: String,
    /// What it does; empty when that is not known.
    state: String,
    /// When its transaction began, in milliseconds since 1970 UTC.
    #[schema(required)]
    since_ms: Option<i64>,
}

/// What a route does.
#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
pub(crate) enum RouteState {
    Bootstrapping,
    Live,
    Retrying,
    Paused,
}

/// Why something waits.
#[derive(ToSchema)]
pub(crate) struct Trouble {
    /// The name of the page that explains it; none for an outage.
    #[schema(required)]
    code: Option<String>,
    /// What happened.
    message: String,
    /// Why, outermost first.
    causes: Vec<String>,
    /// What to do next; empty when waiting is all.
    help: String,
}

/// An event of a `text/event-stream`.
#[derive(ToSchema)]
pub(crate) struct ServerSentEvent {
    /// The offset: what to send as `Last-Event-ID` to go on after it.
    #[schema(nullable = false)]
    id: Option<String>,
    /// `message`, where it is not written, or `problem`: the last one, with a Problem as data.
    #[schema(nullable = false)]
    event: Option<String>,
    /// A CloudEvent in JSON.
    #[schema(content_media_type = "application/json")]
    data: String,
}

/// One change, as a CloudEvent 1.0.
#[derive(ToSchema)]
pub(crate) struct CloudEvent {
    /// `1.0`.
    specversion: String,
    /// `SERVICE/OFFSET`: unique for ever.
    id: String,
    /// `/rowcast/SERVICE`.
    source: String,
    /// `rowcast.ENTITY.` and `create`, `update`, `delete`, `read` (from a snapshot) or `truncate`.
    r#type: String,
    /// The key. Several fields are joined by `/`; `/`, `%` and control characters within one are
    /// written as in a URL. Absent for a truncate.
    #[schema(nullable = false)]
    subject: Option<String>,
    /// When it was committed, by the publisher's clock.
    #[schema(format = DateTime)]
    time: String,
    /// The place in the stream: a number, as text.
    offset: String,
    /// The source's position of the commit.
    position: String,
    /// The key before, when an update changed it; written as `subject`.
    #[schema(nullable = false)]
    oldkey: Option<String>,
    /// `application/json`; absent for a truncate.
    #[schema(nullable = false)]
    datacontenttype: Option<String>,
    /// The fields. A field that is absent did not change; a delete has the key's fields only.
    #[schema(value_type = Option<std::collections::BTreeMap<String, serde_json::Value>>, nullable = false)]
    data: (),
}

/// One subscription of a route.
#[derive(ToSchema)]
pub(crate) struct SubscriptionStatus {
    /// Of which entity.
    entity: String,
    /// The copy's table.
    into: String,
    /// `file` or `run-time`.
    origin: String,
}

/// A copy that is being built.
#[derive(ToSchema)]
pub(crate) struct BuildStatus {
    /// Of which entity.
    entity: String,
    /// The copy's table.
    into: String,
    /// The next offset it lacks.
    #[schema(required)]
    offset: Option<u64>,
    /// The end of the log.
    #[schema(required)]
    of: Option<u64>,
}

/// A subscription and who asked for it.
#[derive(ToSchema)]
pub(crate) struct Subscribed {
    /// The subscriber.
    to: String,
    /// The entity: `customer.customer`.
    of: String,
    /// The copy's table.
    into: String,
    /// (name in the copy, published name); `null` for all fields, also those that come later.
    #[schema(required)]
    fields: Option<Vec<Vec<String>>>,
    /// Which rows; `null` for all.
    #[schema(required)]
    r#where: Option<String>,
    /// The table may be made when it is missing.
    create: bool,
    /// Where it begins: `beginning`, `now`, an offset, or a position of the source's.
    from: String,
    /// `file` or `run-time`.
    origin: String,
    /// Why its route stands still on a person's word.
    #[schema(required)]
    paused: Option<String>,
    /// Why it cannot be served.
    #[schema(required)]
    problem: Option<String>,
}
