//! The conformance suite of sinks.

use crate::file::File;

rowcast_testkit::sink_suite!(async { File::new() });
