//! The HTTP answers of a running node.

#![expect(clippy::unwrap_used, reason = "a test may fail by panicking")]

#[path = "main/auth.rs"]
mod auth;
#[path = "main/client.rs"]
mod client;
#[path = "main/events.rs"]
mod events;
#[path = "main/limits.rs"]
mod limits;
#[path = "main/metrics.rs"]
mod metrics;
#[path = "main/openapi.rs"]
mod openapi;
#[path = "main/parked.rs"]
mod parked;
#[path = "main/shop.rs"]
mod shop;
#[path = "main/status.rs"]
mod status;
#[path = "main/tls.rs"]
mod tls;
