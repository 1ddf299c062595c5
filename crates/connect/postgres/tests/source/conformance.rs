//! The seam's laws, over one server with a database for each check.

use crate::support::Harness;

rowcast_testkit::source_suite!(Harness::fresh());
