//! Processes are started, heard, killed, and leave nothing behind. `sh` stands in for `rowcast`.

use rowcast_testkit::process::Rowcast;
use rowcast_testkit::wait::LONG;
use std::time::Duration;

#[tokio::test]
async fn a_run_sees_its_file_and_variables_and_its_output_is_kept() {
    let rowcast = Rowcast::new("/bin/sh", "data = \"d\"").variable("GREETING", "hello");
    let script = "cat rowcast.toml; echo $GREETING >&2; exit 2";
    let finished = rowcast.run(LONG, &["-c", script]).await;
    assert_eq!(finished.code(), Some(2));
    assert_eq!((finished.stdout.as_str(), finished.stderr.as_str()), ("data = \"d\"", "hello\n"));
}

#[tokio::test]
async fn a_process_is_heard_frozen_and_killed() {
    let rowcast = Rowcast::new("/bin/sh", "");
    let mut running = rowcast.start(&["-c", "echo ready; exec sleep 600"]);
    running.says(LONG, "ready").await;
    running.freeze();
    assert!(running.is_running());
    running.thaw();
    running.interrupt();
    assert_eq!(running.wait(LONG).await.code(), None);

    let mut running = rowcast.start(&["-c", "trap '' TERM; echo deaf; exec sleep 600"]);
    running.says(LONG, "deaf").await;
    let finished = running.kill_9().await;
    assert_eq!((finished.code(), finished.stdout.as_str()), (None, "deaf\n"));
}

#[tokio::test]
async fn a_process_that_is_asked_to_end_may_say_goodbye() {
    let rowcast = Rowcast::new("/bin/sh", "");
    let script = "trap 'echo bye; exit 0' TERM; echo ready; while :; do sleep 0.01; done";
    let mut running = rowcast.start(&["-c", script]);
    running.says(LONG, "ready").await;
    assert_eq!(running.terminate(LONG).await.good().stdout, "ready\nbye\n");
}

#[tokio::test]
#[should_panic(expected = "did not end within")]
async fn a_process_that_does_not_end_fails_the_test() {
    Rowcast::new("/bin/sh", "").run(Duration::from_millis(50), &["-c", "exec sleep 600"]).await;
}
