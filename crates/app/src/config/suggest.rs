//! Did you mean …?

pub(crate) use rowcast_core::{advice, nearest};
