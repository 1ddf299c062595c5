//! Finding an offset without reading what lies before it.

use crate::files::segment::list;
use crate::files::walk::{HEADERS, Walk};
use crate::{FileLog, LogConfig};
use rowcast_core::{ByteSize, EventLog, Offset};
use rowcast_testkit::log_suite::{batch, put, service};

#[tokio::test]
async fn a_read_begins_close_to_its_offset_in_old_and_in_growing_segments() {
    let (root, s) = (tempfile::tempdir().unwrap(), service("shop"));
    let config = LogConfig {
        segment: ByteSize::kib(700),
        cache: ByteSize(0),
        queue: ByteSize::mib(1),
        ..LogConfig::default()
    };
    let log = FileLog::open(root.path(), config.clone()).unwrap();
    for n in 1..=100 {
        // Small and large ones in turn.
        put(&log, &s, batch(1, n, if n % 4 == 0 { 2000 } else { 20 })).await.unwrap();
    }
    let (stream, again) = (log.stream(&s).await.unwrap(), FileLog::open(root.path(), config));
    let again = again.unwrap();
    let reopened = again.stream(&s).await.unwrap();
    let files = list(&root.path().join("shop")).unwrap().segments;
    assert!(files.len() >= 2);
    let largest = 128 << 10;
    for (base, path, len) in files {
        let mut walk = Walk::open(&path, 0, len, HEADERS).unwrap();
        while let Some(frame) = walk.header().unwrap() {
            if frame.header.count == 0 {
                continue;
            }
            assert!(frame.header.frame_len() < largest);
            for segments in [stream.segments(), reopened.segments()] {
                let segment = segments.iter().find(|s| s.base == base).unwrap();
                let place = segment.locate(frame.header.end() - 1).unwrap();
                assert!(place.at <= frame.at && frame.at - place.at < (256 << 10) + largest);
            }
            let at = Offset(frame.header.base + 7);
            let chunk = again.read(&s, at, ByteSize(1)).await.unwrap();
            assert_eq!(chunk.batches[0].base, Offset(frame.header.base));
            assert_eq!(chunk.batches.len(), 1);
        }
    }
}
