//! What answers over HTTP. It translates between requests and the board, and decides nothing about
//! data; the one thing it decides is who may ask.
//!
//! # Adding a room
//!
//! A room is a file with handlers and one `routes()`:
//!
//! ```text
//! pub(crate) fn routes() -> OpenApiRouter<Api> {
//!     OpenApiRouter::new().routes(routes!(list)).routes(routes!(show, drop_one))
//! }
//! ```
//!
//! and one line in `router.rs` that merges it: among the `quick` ones, whose requests end in time,
//! or the `patient` ones, whose requests may wait. Each handler carries `#[utoipa::path]`, so a path
//! that answers stands in the OpenAPI document by construction. A handler takes
//!
//! - `State<Api>`: the board, and what ends when we stop;
//! - `Caller`: who asks. Say what the request does as a `Deed`, add a variant if none fits, and ask
//!   `caller.may(Deed::…)?` before anything else; who may do what is one match in `auth.rs`;
//! - `Named<T>` for the path's parts, `Asked<T>` for the query and `Sent<T>` for a JSON body:
//!   mistakes in them become problems;
//!
//! and returns `Result<Json<T>, Problem>`, `T` with `#[derive(ToSchema)]`. `Problem::of` makes one of
//! any error that knows its remedy.

mod api;
mod auth;
mod events;
mod extract;
mod health;
mod limits;
mod listen;
mod metrics;
mod openapi;
mod parked;
mod problem;
mod router;
mod status;
mod subscriptions;
mod tls;
mod wait;

pub use api::Serving;
pub use auth::{Access, Grant, Role, TokenDigest, TokenError, new_token};
pub use events::{cloud_event, rfc3339};
pub use limits::Limits;
pub use listen::serve;
pub use openapi::document;
pub use tls::{Lasting, Tls, TlsError, TlsPart};
