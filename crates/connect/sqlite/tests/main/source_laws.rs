//! The conformance suite of sources, with and without a write-ahead log.

use crate::file::File;

mod with_wal {
    use super::File;
    rowcast_testkit::source_suite!(async { File::new() });
}

mod without_wal {
    use super::File;
    rowcast_testkit::source_suite!(async { File::without_wal() });
}
