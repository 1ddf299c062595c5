//! P1 nothing is lost and P2 nothing is applied twice when a publisher's standby is promoted: the
//! history goes on where the standby has everything that was logged, and nowhere else.

use super::side::{Kind, LONG, Side};
use rowcast_testkit::postgres::{Server, ServerOptions};
use rowcast_testkit::process::Rowcast;
use rowcast_testkit::wait::{becomes, eventually};

const ALL: &str = "SELECT id, name FROM item ORDER BY id";

/// A publisher with a standby, a subscriber, and what joins them.
struct Place {
    primary: Server,
    standby: Server,
    to: Side,
    rowcast: Rowcast,
}

impl Place {
    async fn new(major: u32) -> Self {
        let mut primary = Server::start_options(ServerOptions::of_major(major)).await;
        let create = "CREATE TABLE item (id int PRIMARY KEY, name text); \
                      INSERT INTO item VALUES (1, 'before')";
        primary.sql("postgres", create).await;
        let standby = primary.standby().await;
        let to = Side::new(Kind::Sqlite).await;
        let rowcast = Rowcast::new(env!("CARGO_BIN_EXE_rowcast"), "");
        let place = Self { primary, standby, to, rowcast };
        place.capture(&place.primary);
        place
    }

    /// Names the server that is captured.
    fn capture(&self, server: &Server) {
        self.rowcast.configure(&format!(
            "[server]\nlisten = \"127.0.0.1:0\"\n[service.shop]\ndatabase = \"{}\"\n\
             [service.shop.publish.item]\n[service.order]\ndatabase = '{}'\n\
             [service.order.subscribe.\"shop.item\"]\n",
            server.url("postgres"),
            self.to.url()
        ));
    }

    /// Waits until the copy is what `server` has.
    async fn same(&self, server: &Server) {
        let wanted = Ok(server.sql("postgres", ALL).await);
        becomes(LONG, ALL, wanted, async || self.to.look(ALL).await).await;
    }

    /// Waits until the standby has the slot for good.
    async fn slot_is_there(&self) {
        const THERE: &str = "SELECT count(*) FROM pg_replication_slots WHERE slot_name = \
                             'rowcast_shop' AND NOT temporary";
        const WRITE: &str = "SELECT pg_log_standby_snapshot(), \
                             pg_logical_emit_message(true, 'x', 'x')";
        eventually(LONG, "the slot at the standby", async || {
            // A slot stays only once the primary's own has come as far as what the standby keeps.
            self.primary.sql("postgres", WRITE).await;
            self.standby.sql("postgres", THERE).await[0][0].as_deref() == Some("1")
        })
        .await;
    }
}

async fn goes_on(major: u32) {
    let mut place = Place::new(major).await;
    place.primary.set("synchronized_standby_slots", "standby").await;
    let running = place.rowcast.start(&["run"]);
    place.same(&place.primary).await;
    place.slot_is_there().await;
    place.primary.sql("postgres", "INSERT INTO item VALUES (2, 'logged')").await;
    place.same(&place.primary).await;
    // With the setting the log never has what the standby lacks.
    place.standby.follows(&place.primary).await;
    place.primary.kill_9().await;
    place.standby.promote().await;
    let change =
        "INSERT INTO item VALUES (3, 'after'); UPDATE item SET name = 'again' WHERE id = 1";
    place.standby.sql("postgres", change).await;
    running.terminate(LONG).await.good();
    place.capture(&place.standby);

    let mut running = place.rowcast.start(&["run"]);
    running.says(LONG, "a standby was promoted; the history goes on").await;
    place.same(&place.standby).await;
    place.rowcast.run(LONG, &["verify"]).await.good();
    place.standby.sql("postgres", "DELETE FROM item WHERE id = 2").await;
    place.same(&place.standby).await;
    running.terminate(LONG).await.good();
    // The log is beyond the branch by now, and knows in which timeline.
    place.standby.sql("postgres", "INSERT INTO item VALUES (4, 'later')").await;
    place.rowcast.run(LONG, &["run", "--until-caught-up"]).await.good();
    place.same(&place.standby).await;
    place.rowcast.run(LONG, &["verify"]).await.good();
    place.rowcast.run(LONG, &["log", "check"]).await.good();

    // The old primary has lost the turn.
    place.primary.start_again().await;
    place.capture(&place.primary);
    let refused = place.rowcast.run(LONG, &["run", "--until-caught-up"]).await;
    assert_eq!(refused.code(), Some(1), "{}", refused.said());
    assert!(refused.stderr.contains("[SOURCE-EPOCH]"), "{}", refused.said());
}

#[tokio::test]
async fn a_promoted_standby_that_has_all_that_was_logged_goes_on_17() {
    goes_on(17).await;
}

#[tokio::test]
async fn a_promoted_standby_that_has_all_that_was_logged_goes_on_18() {
    goes_on(18).await;
}

async fn refuses(major: u32) {
    let mut place = Place::new(major).await;
    let running = place.rowcast.start(&["run"]);
    place.same(&place.primary).await;
    if major >= 17 {
        place.slot_is_there().await;
    }
    place.standby.follows(&place.primary).await;
    // The standby is away, and nothing holds the log back for it.
    place.standby.stop().await;
    place.primary.sql("postgres", "INSERT INTO item VALUES (2, 'lost'), (3, 'lost')").await;
    place.same(&place.primary).await;
    running.terminate(LONG).await.good();
    place.primary.kill_9().await;
    place.standby.start_again().await;
    place.standby.promote().await;
    place.standby.sql("postgres", "INSERT INTO item VALUES (2, 'another')").await;
    place.capture(&place.standby);

    let refused = place.rowcast.run(LONG, &["run", "--until-caught-up"]).await;
    assert_eq!(refused.code(), Some(1), "{}", refused.said());
    for part in ["[SOURCE-EPOCH]", "a standby was promoted", "ahead", "--resnapshot shop"] {
        assert!(refused.stderr.contains(part), "{part} in {}", refused.said());
    }
    assert_eq!(place.to.value("SELECT name FROM item WHERE id = 2").await, "lost");
    let anew = ["run", "--until-caught-up", "--resnapshot", "shop"];
    place.rowcast.run(LONG, &anew).await.good();
    place.same(&place.standby).await;
    place.rowcast.run(LONG, &["verify"]).await.good();
}

#[tokio::test]
async fn a_promoted_standby_that_lacks_what_was_logged_is_refused_17() {
    refuses(17).await;
}

#[tokio::test]
async fn a_promoted_standby_that_lacks_what_was_logged_is_refused_18() {
    refuses(18).await;
}

#[tokio::test]
async fn before_17_it_is_said_that_the_slot_did_not_come_along() {
    let mut place = Place::new(16).await;
    let running = place.rowcast.start(&["run"]);
    place.same(&place.primary).await;
    running.terminate(LONG).await.good();
    place.standby.follows(&place.primary).await;
    place.primary.kill_9().await;
    place.standby.promote().await;
    place.standby.sql("postgres", "INSERT INTO item VALUES (2, 'after')").await;
    place.capture(&place.standby);
    let refused = place.rowcast.run(LONG, &["run", "--until-caught-up"]).await;
    assert_eq!(refused.code(), Some(1), "{}", refused.said());
    for part in
        ["[SOURCE-EPOCH]", "did not come along", "before PostgreSQL 17", "--resnapshot shop"]
    {
        assert!(refused.stderr.contains(part), "{part} in {}", refused.said());
    }
    let anew = ["run", "--until-caught-up", "--resnapshot", "shop"];
    place.rowcast.run(LONG, &anew).await.good();
    place.same(&place.standby).await;
}
