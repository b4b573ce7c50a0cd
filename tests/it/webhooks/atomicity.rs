//! G2: follow, ledger entry, balance and events commit together or not at all.

use followpoints::points::verify::{self, Report};
use futures_util::future::join_all;
use serde_json::{Value, json};

use super::{deliveries, delivery_of, installed_site, new_follower, subscribe_with};
use crate::on_both;
use crate::support::process::LOOK;
use crate::support::receiver::{Gate, Receiver, Reply};
use crate::support::world::{ALL_EVENTS, Member, Site, text};
use crate::support::{ENOUGH, TestApp, until};

const PATH: &str = "/loyalty-social-media/v1/followed-channels";

/// Everything that a follow changes.
#[derive(Debug, PartialEq)]
struct Seen {
    follows: Value,
    account: (u16, Value),
    events: Vec<Value>,
    deliveries: Vec<Value>,
    ledger: Report,
}

async fn look(app: &TestApp, site: &Site, member: &Member) -> Seen {
    let account =
        app.call("GET", "/loyalty-accounts/v1/accounts/my-account").auth(&member.token).send().await;
    Seen {
        follows: app.call("GET", PATH).auth(&member.token).ok().await,
        account: (account.status.as_u16(), account.json()),
        events: app.admin_list(site, "/admin/v1/events", "events").await,
        deliveries: deliveries(app, site).await,
        ledger: verify::verify(app.app.db.read(), |_| {}).await.unwrap(),
    }
}

async fn try_follow(app: &TestApp, member: &Member, channel: &str) -> (u16, Value) {
    let body = json!({"followedChannel": {"channel": channel}});
    let answer = app.call("POST", PATH).auth(&member.token).json(&body).send().await;
    (answer.status.as_u16(), answer.json())
}

fn failure() -> (u16, Value) {
    (500, json!({"message": "", "details": {}}))
}

on_both! {
    async fn g2_when_any_part_of_a_first_follow_cannot_be_stored_nothing_of_it_is(app: &TestApp) {
        let (site, installed) = installed_site(app).await;
        let receiver = Receiver::start().await;
        app.subscribe(&site, &installed, &ALL_EVENTS, &receiver.url).await;
        let member = app.member(&site, "u-1").await;
        let before = look(app, &site, &member).await;
        assert_eq!(before.follows, json!({"followedChannels": []}));
        assert_eq!(before.account.0, 404);
        assert_eq!((before.events.len(), before.deliveries.len()), (0, 0));
        assert_eq!(before.ledger, Report::default());

        let last_event = "NEW.event_type = 'wix.loyalty.v1.account_updated'";
        for (table, only) in [
            ("account", "1 = 1"),
            ("followed_channel", "1 = 1"),
            ("ledger_entry", "1 = 1"),
            ("event", "1 = 1"),
            ("event", last_event),
            ("delivery", "1 = 1"),
        ] {
            app.break_table(table, "BEFORE INSERT", only).await;
            assert_eq!(try_follow(app, &member, "X").await, failure(), "{table}");
            app.mend_table(table).await;
            assert_eq!(look(app, &site, &member).await, before, "{table}");
        }

        assert_eq!(try_follow(app, &member, "X").await.0, 200);
        app.drain().await;
        let after = look(app, &site, &member).await;
        assert_eq!(after.account.1["account"]["points"]["balance"], 50);
        assert_eq!(after.account.1["account"]["revision"], "2");
        assert_eq!((after.events.len(), after.deliveries.len(), receiver.count()), (4, 4, 4));
        assert_eq!(after.ledger, Report { accounts: 1, entries: 1, faults: Vec::new() });
    }
}

on_both! {
    async fn g2_when_any_part_of_a_later_follow_cannot_be_stored_the_account_stays_as_it_was(app: &TestApp) {
        let (site, installed) = installed_site(app).await;
        let receiver = Receiver::start().await;
        app.subscribe(&site, &installed, &ALL_EVENTS, &receiver.url).await;
        let member = app.member(&site, "u-1").await;
        app.follow(&member, "X").await;
        app.drain().await;
        let before = look(app, &site, &member).await;
        assert_eq!((before.events.len(), before.deliveries.len()), (4, 4));

        for (table, when) in [
            ("account", "BEFORE UPDATE"),
            ("followed_channel", "BEFORE INSERT"),
            ("ledger_entry", "BEFORE INSERT"),
            ("event", "BEFORE INSERT"),
            ("delivery", "BEFORE INSERT"),
        ] {
            app.break_table(table, when, "1 = 1").await;
            assert_eq!(try_follow(app, &member, "INSTAGRAM").await, failure(), "{table}");
            app.mend_table(table).await;
            assert_eq!(look(app, &site, &member).await, before, "{table}");
        }

        assert_eq!(try_follow(app, &member, "INSTAGRAM").await.0, 200);
        app.drain().await;
        let after = look(app, &site, &member).await;
        assert_eq!(after.account.1["account"]["points"]["balance"], 80);
        assert_eq!(after.account.1["account"]["revision"], "3");
        assert_eq!((after.events.len(), after.deliveries.len(), receiver.count()), (7, 7, 7));
        let sequences: Vec<_> =
            after.events[..3].iter().map(|event| event["entityEventSequence"].clone()).collect();
        assert_eq!(sequences, ["5", "4", "1"]);
        assert_eq!(after.ledger, Report { accounts: 1, entries: 2, faults: Vec::new() });
    }
}

on_both! {
    async fn g2_a_follow_that_cannot_be_stored_spoils_none_of_those_beside_it(app: &TestApp) {
        let site = app.site().await;
        let mut members = Vec::new();
        for number in 0..19 {
            members.push(app.member(&site, &format!("u-{number}")).await);
        }
        app.break_table("followed_channel", "BEFORE INSERT", "NEW.channel = 'INSTAGRAM'").await;

        let calls = members.iter().flat_map(|member| {
            ["X", "INSTAGRAM", "FACEBOOK"].map(|channel| try_follow(app, member, channel))
        });
        let answers = join_all(calls).await;

        let statuses: Vec<u16> = answers.iter().map(|(status, _)| *status).collect();
        assert_eq!(statuses, [200, 500, 200].repeat(19));
        for member in &members {
            let account = app.account(member).await;
            assert_eq!(
                (account["points"]["balance"].as_i64(), account["revision"].as_str()),
                (Some(50), Some("2"))
            );
        }
        assert_eq!(app.admin_list(&site, "/admin/v1/events?limit=100", "events").await.len(), 95);
        let ledger = verify::verify(app.app.db.read(), |_| {}).await.unwrap();
        assert_eq!(ledger, Report { accounts: 19, entries: 19, faults: Vec::new() });
    }
}

on_both! {
    async fn g3_while_outcomes_cannot_be_written_nothing_is_lost_and_afterwards_they_are(app: &TestApp) {
        let (site, installed) = installed_site(app).await;
        let receiver = Receiver::start().await;
        let subscription = app.subscribe(&site, &installed, &[ALL_EVENTS[0]], &receiver.url).await;
        let member = app.member(&site, "u-1").await;
        app.break_table("attempt", "BEFORE INSERT", "1 = 1").await;
        app.follow(&member, "X").await;
        receiver.wait_for(1).await;
        let mut looks = tokio::time::interval(LOOK);
        let handed_over = async {
            while app.app.dispatcher.health().in_flight > 0 {
                looks.tick().await;
            }
        };
        tokio::time::timeout(ENOUGH, handed_over).await.expect("the try ends");
        for _ in 0..10 {
            looks.tick().await;
            let untold = delivery_of(app, &site, &subscription).await;
            assert_eq!((&untold["status"], &untold["attemptCount"]), (&json!("PENDING"), &json!(0)));
        }

        app.mend_table("attempt").await;
        let mut told = Value::Null;
        for _ in 0..3 {
            // Should an outcome have been given up, its delivery is tried again when the lease ends.
            app.drain().await;
            told = delivery_of(app, &site, &subscription).await;
            app.clock.advance_ms(15_000);
        }
        assert_eq!((&told["status"], &told["attemptCount"]), (&json!("DELIVERED"), &json!(1)));
        let bodies = receiver.bodies();
        assert!(bodies.iter().all(|body| *body == bodies[0]), "should it come twice, it is the same");
    }
}

on_both! {
    async fn g3_an_outcome_that_cannot_be_written_holds_up_nobody_elses(app: &TestApp) {
        let (site, installed) = installed_site(app).await;
        let (stuck, well, gate) = (Receiver::start().await, Receiver::start().await, Gate::closed());
        stuck.answer((0..100).map(|_| Reply::status(418)));
        well.answer([Reply::status(200).behind(&gate)]);
        let patient = json!({"timeoutMs": 15_000});
        let mut subscriptions = Vec::new();
        for receiver in [&stuck, &well] {
            let made = subscribe_with(app, &site, &installed, &receiver.url, &patient).await;
            subscriptions.push(text(&made["id"]));
        }
        app.break_table("attempt", "BEFORE INSERT", "NEW.status_code = 418").await;
        new_follower(app, &site, "u-1").await;
        stuck.wait_for(1).await;
        well.wait_for(1).await;
        until("the first outcome waits to be written", async || {
            (app.app.dispatcher.health().in_flight == 1).then_some(())
        })
        .await;
        gate.open();
        let status = async |number: usize| delivery_of(app, &site, &subscriptions[number]).await["status"].clone();
        until("the other is written", async || (status(1).await == "DELIVERED").then_some(())).await;
        assert_eq!(status(0).await, "PENDING");

        app.mend_table("attempt").await;
        stuck.recover();
        for _ in 0..3 {
            app.drain().await;
            app.clock.advance_ms(120_000);
        }
        assert_eq!(status(0).await, "DELIVERED");
    }
}
