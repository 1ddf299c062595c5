//! P2: rows and checkpoint are one transaction, and only one writer moves it.

use crate::support::{Bench, Ev, LOG, all_fields, chain, schema};
use rowcast_core::{Diagnose, Epoch, LogId, Offset, Remedy, Rows, Sink, SinkError};
use rowcast_postgres::PostgresSink;

async fn bench() -> Bench {
    Bench::new("", vec![all_fields("t", "t")]).await
}

#[tokio::test]
async fn a_new_target_wants_everything_and_an_old_one_what_it_lacks() {
    let t = schema("t", 1, &[("id", "bigint")]);
    let mut bench = bench().await;
    assert_eq!(bench.next, Offset(0));
    bench.apply(&[Ev::create(&t, &["1"]), Ev::create(&t, &["2"])]).await;
    let checkpoint = bench.twin().wants(LOG).await.unwrap();
    assert_eq!((checkpoint.next, checkpoint.epoch()), (Offset(2), Some(bench.epoch)));
    // A new history of the source goes on in the same log.
    bench.epoch = Epoch { identity: 9, birth: 9 };
    bench.apply(&[Ev::create(&t, &["3"])]).await;
    bench.apply(&[]).await;
    let checkpoint = bench.twin().wants(LOG).await.unwrap();
    assert_eq!((checkpoint.next, checkpoint.epoch()), (Offset(3), Some(bench.epoch)));
}

#[tokio::test]
async fn a_second_writer_fails_and_writes_nothing() {
    let t = schema("t", 1, &[("id", "bigint")]);
    let mut bench = bench().await;
    let mut twin = bench.twin();
    twin.wants(LOG).await.unwrap();
    let (rows, progress) = bench.rows(&[Ev::create(&t, &["1"])], true);
    bench.apply(&[Ev::create(&t, &["2"])]).await;
    let error = twin.apply(&rows, progress).await.unwrap_err();
    assert!(matches!(error, SinkError::Checkpoint { .. }), "{}", chain(&error));
    assert_eq!(bench.sql("SELECT id FROM t").await, [[Some("2".to_string())]]);
    // The first one is none the worse for it.
    bench.apply(&[Ev::create(&t, &["3"])]).await;
}

#[tokio::test]
async fn a_batch_that_comes_again_is_refused_as_somebody_elses() {
    let t = schema("t", 1, &[("id", "bigint")]);
    let mut bench = bench().await;
    let (rows, progress) = bench.rows(&[Ev::create(&t, &["1"])], true);
    bench.sink.apply(&rows, progress).await.unwrap();
    let mut twin = bench.twin();
    twin.wants(LOG).await.unwrap();
    let error = twin.apply(&rows, progress).await.unwrap_err();
    assert!(matches!(error, SinkError::Checkpoint { .. }), "{}", chain(&error));
}

#[tokio::test]
async fn a_checkpoint_of_another_log_is_refused_with_what_to_do() {
    let t = schema("t", 1, &[("id", "bigint")]);
    let mut bench = bench().await;
    // Nothing was applied yet: nobody is hurt.
    bench.twin().wants(LogId(8)).await.unwrap();
    bench.wants().await.unwrap();
    bench.apply(&[Ev::create(&t, &["1"])]).await;
    let error = bench.twin().wants(LogId(8)).await.unwrap_err();
    assert!(matches!(error, SinkError::Checkpoint { .. }), "{}", chain(&error));
    assert!(error.help().contains("DELETE FROM rowcast.checkpoint"), "{}", error.help());
}

#[tokio::test]
async fn a_dropped_sink_leaves_nothing_of_an_open_transaction() {
    let t = schema("t", 1, &[("id", "bigint")]);
    let mut bench = bench().await;
    bench.try_apply(&[Ev::create(&t, &["1"])], false).await.unwrap();
    bench.sink = bench.twin();
    assert_eq!(bench.wants().await.unwrap(), Offset(0));
    bench.apply(&[Ev::create(&t, &["2"])]).await;
    assert_eq!(bench.sql("SELECT id FROM t").await, [[Some("2".to_string())]]);
}

#[tokio::test]
async fn a_killed_session_is_an_outage_and_the_next_one_goes_on() {
    let t = schema("t", 1, &[("id", "bigint")]);
    let mut bench = bench().await;
    bench.apply(&[Ev::create(&t, &["1"])]).await;
    bench
        .sql(
            "SELECT pg_terminate_backend(pid, 300000) FROM pg_stat_activity
              WHERE datname = current_database() AND application_name LIKE 'rowcast shop%'",
        )
        .await;
    let error = bench.try_apply(&[Ev::create(&t, &["2"])], true).await.unwrap_err();
    assert_eq!(error.remedy(), Remedy::Retry, "{}", chain(&error));
    assert_eq!(bench.wants().await.unwrap(), Offset(1));
    bench.apply(&[Ev::create(&t, &["2"])]).await;
    assert_eq!(bench.one("SELECT count(*) FROM t").await, "2");
}

#[tokio::test]
async fn a_lock_held_by_others_is_an_outage() {
    let t = schema("t", 1, &[("id", "bigint")]);
    let mut bench = bench().await;
    bench.apply(&[Ev::create(&t, &["1"])]).await;
    let other = bench.server.session(&bench.database).await;
    other.sql("BEGIN; LOCK TABLE t").await;
    // The shortest way to the end of a wait for a lock.
    let (rows, progress) = bench.rows(&[Ev::create(&t, &["2"])], true);
    let apply = bench.sink.apply(&rows, progress);
    let cancel = async {
        let waiting = "SELECT count(pg_cancel_backend(pid)) FROM pg_stat_activity
            WHERE datname = current_database() AND wait_event_type = 'Lock'";
        other.until(rowcast_testkit::wait::LONG, waiting, "1").await;
    };
    let (result, ()) = tokio::join!(apply, cancel);
    let error = result.unwrap_err();
    assert_eq!(error.remedy(), Remedy::Retry, "{}", chain(&error));
    other.sql("ROLLBACK").await;
    bench.wants().await.unwrap();
    bench.apply(&[Ev::create(&t, &["2"])]).await;
}

#[tokio::test]
async fn a_role_that_may_not_make_the_checkpoint_is_told_the_statements() {
    let bench = bench().await;
    bench
        .sql("DROP SCHEMA rowcast CASCADE; DROP ROLE IF EXISTS poor; CREATE ROLE poor LOGIN")
        .await;
    let url = bench.server.url(&bench.database).replace("postgres@", "poor@");
    let mut sink = PostgresSink::at(&url, bench.spec.clone()).unwrap();
    let error = sink.wants(LOG).await.unwrap_err();
    assert!(matches!(error, SinkError::Setup { .. }), "{}", chain(&error));
    assert!(error.help().contains("CREATE SCHEMA"), "{}", error.help());
}

#[tokio::test]
async fn no_server_is_an_outage_and_a_wrong_database_is_not() {
    let bench = bench().await;
    let at = |url: &str| PostgresSink::at(url, bench.spec.clone()).unwrap();
    let error = at("postgres://postgres@127.0.0.1:1/x").wants(LOG).await.unwrap_err();
    assert_eq!(error.remedy(), Remedy::Retry);
    let error = at(&bench.server.url("no such database")).wants(LOG).await.unwrap_err();
    assert!(matches!(error, SinkError::Setup { .. }), "{}", chain(&error));
    let mut nobody = at(&bench.server.url(&bench.database));
    let (_, progress) = Bench::new("", vec![]).await.rows(&[], true);
    assert_eq!(nobody.apply(&Rows::default(), progress).await.unwrap_err().remedy(), Remedy::Retry);
}
