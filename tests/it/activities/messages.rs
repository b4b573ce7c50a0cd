//! Who a person is: codes, claims, names that change hands; and messages that are unsent or edited.

use sea_orm::EntityTrait as _;
use serde_json::{Value, json};

use super::stage::{MIA, Says, Stage, done, follow};
use crate::on_both;
use crate::support::dump::dump;
use crate::support::receiver::{Gate, Receiver, Reply};
use crate::support::{ADMIN_KEY, Options, TestApp, TestDatabase};
use crate::webhooks::unfold;

const FOLLOWER: Says = Says { follows: Some(true), ..MIA };

on_both! {
    async fn nobody_proves_a_handle_by_claiming_it(app: &TestApp) {
        let stage = Stage::new(app).await;
        let (mia, squatter) = (app.member(&stage.site, "u-1").await, app.member(&stage.site, "u-2").await);
        stage.claim(&squatter, "mia.runs.oslo").await;
        stage.claim(&mia, "mia.runs.oslo").await;
        let item = stage.see("message:m1", stage.message(&FOLLOWER, "m1", "hello")).await;
        let parked = stage.find_item(item.id).await;
        assert_eq!(parked.status.as_str(), "PARKED");
        assert_eq!(parked.reason.as_deref(), Some("several members claim this handle, and none has proven it"));
        assert!(stage.follows().await.is_empty());

        let code = stage.code(&mia).await;
        stage.see("message:m2", stage.message(&FOLLOWER, "m2", &code)).await;
        assert_eq!(stage.handle(&mia).await.unwrap().person.as_deref(), FOLLOWER.external);
        assert_eq!(stage.handle(&squatter).await.unwrap().person, None);
        assert_eq!(stage.balance(&mia).await, 30);
        // What waited is hers now.
        let parked = stage.find_item(item.id).await;
        assert_eq!(parked.due_at, app.app.db.now());
        stage.again(&parked, stage.message(&FOLLOWER, "m1", "hello")).await;
        assert!(stage.activities().await.iter().all(|row| row.3.as_deref() == Some(&*mia.id)));
    }
}

on_both! {
    async fn a_proof_wins_for_ever_and_a_code_is_used_once_and_in_time(app: &TestApp) {
        let stage = Stage::new(app).await;
        let (mia, other) = (app.member(&stage.site, "u-1").await, app.member(&stage.site, "u-2").await);
        let (code, later) = (stage.code(&mia).await, stage.code(&other).await);
        stage.see("message:m1", stage.message(&FOLLOWER, "m1", &code)).await;
        // The same person with somebody else's code stays who they are.
        stage.see("message:m2", stage.message(&FOLLOWER, "m2", &later)).await;
        assert_eq!(stage.handle(&mia).await.unwrap().person.as_deref(), FOLLOWER.external);
        assert_eq!(stage.handle(&other).await, None);
        // Another person with a code that was used proves nothing.
        let joe = Says { external: Some("77"), handle: Some("joe_brews"), ..FOLLOWER };
        stage.see("message:m3", stage.message(&joe, "m3", &code)).await;
        assert_eq!(stage.follows().await, [follow("INSTAGRAM", "VERIFIED")]);
        // A code ends; what was sent in time counts however late it comes.
        let expired = stage.code(&other).await;
        let in_time = stage.message(&joe, "m5", &later);
        app.clock.advance_ms(30 * 60_000);
        stage.see("message:m4", stage.message(&joe, "m4", &expired)).await;
        assert_eq!(stage.handle(&other).await, None);
        stage.see("message:m5", in_time).await;
        assert_eq!(stage.handle(&other).await.unwrap().handle, "joe_brews");
    }
}

on_both! {
    async fn whoever_takes_over_a_name_inherits_nothing(app: &TestApp) {
        let stage = Stage::new(app).await;
        let (mia, newcomer) = (app.member(&stage.site, "u-1").await, app.member(&stage.site, "u-2").await);
        let code = stage.code(&mia).await;
        stage.see("message:m1", stage.message(&FOLLOWER, "m1", &code)).await;
        let taker = Says { external: Some("99"), ..FOLLOWER };
        stage.claim(&newcomer, "mia.runs.oslo").await;
        stage.see("message:m2", stage.message(&taker, "m2", "hello")).await;
        assert_eq!(stage.follows().await.len(), 1, "a claim on a name that somebody proved is not enough");
        let code = stage.code(&newcomer).await;
        stage.see("message:m3", stage.message(&taker, "m3", &code)).await;
        assert_eq!(stage.handle(&newcomer).await.unwrap().handle, "mia.runs.oslo");
        // Mia is known by the platform's id, whatever her name is now.
        let renamed = Says { handle: Some("mia.bergen"), ..FOLLOWER };
        stage.see("message:m4", stage.message(&renamed, "m4", "new name")).await;
        assert_eq!(stage.handle(&mia).await.unwrap().handle, "mia.bergen");
        assert_eq!(stage.activities().await.last(), Some(&done("DM_YOU_SOCIAL", "IGNORED", 0, &mia)));
        assert_eq!((stage.balance(&mia).await, stage.balance(&newcomer).await), (30, 30));
    }
}

on_both! {
    async fn a_person_has_another_id_for_each_account_of_the_brand(app: &TestApp) {
        let stage = Stage::new(app).await;
        let mia = app.member(&stage.site, "u-1").await;
        let code = stage.code(&mia).await;
        stage.see("message:m1", stage.message(&FOLLOWER, "m1", &code)).await;

        // What comes without the name is of whoever the platform has said the id is.
        for (mid, handle) in [("m2", FOLLOWER.handle), ("m3", None)] {
            let says = Says { external: Some("4711"), handle, ..FOLLOWER };
            let mut sighting = stage.message(&says, mid, "hello");
            "17841460998877002".clone_into(&mut sighting.person.account);
            stage.see(&format!("message:{mid}"), sighting).await;
            assert_eq!(stage.activities().await.last(), Some(&done("DM_YOU_SOCIAL", "IGNORED", 0, &mia)), "{mid}");
        }
    }
}

/// Somebody whose name the platform does not tell.
const NAMELESS: Says = Says { handle: None, ..FOLLOWER };

on_both! {
    async fn messages_of_somebody_unknown_wait_and_do_not_wake_each_other(app: &TestApp) {
        let stage = Stage::new(app).await;
        let member = app.member(&stage.site, "u-1").await;
        stage.claim(&member, "mia.runs.oslo").await;
        let mut waiting = Vec::new();
        for mid in ["m1", "m2"] {
            let item = stage.item_of(&format!("message:{mid}"), NAMELESS.external).await;
            stage.again(&item, stage.message(&NAMELESS, mid, "hello")).await;
            waiting.push(item.id);
        }
        // Worked on again, as when its wait is over: the other goes on waiting.
        let again = stage.find_item(waiting[0]).await;
        stage.again(&again, stage.message(&NAMELESS, "m1", "hello")).await;
        for id in &waiting {
            let item = stage.find_item(*id).await;
            assert_eq!((item.status.as_str(), item.due_at), ("PARKED", item.expires_at.unwrap()));
        }
        // The name is told: both can be worked on.
        stage.see("message:m3", stage.message(&FOLLOWER, "m3", "it is me")).await;
        for (id, mid) in waiting.iter().zip(["m1", "m2"]) {
            let item = stage.find_item(*id).await;
            assert_eq!((item.status.as_str(), item.due_at), ("PARKED", app.app.db.now()), "{mid}");
        }
    }
}

on_both! {
    async fn g7_a_code_proves_the_name_that_the_platform_tells_and_no_other(app: &TestApp) {
        let stage = Stage::new(app).await;
        let (famous, thief) = (app.member(&stage.site, "u-1").await, app.member(&stage.site, "u-2").await);
        let star = Says { external: Some("11"), handle: Some("famous"), ..FOLLOWER };
        let code = stage.code(&famous).await;
        stage.see("message:m1", stage.message(&star, "m1", &code)).await;
        stage.claim(&thief, "famous").await;
        let code = stage.code(&thief).await;
        stage.see("message:m2", stage.message(&NAMELESS, "m2", &code)).await;
        let handle = stage.handle(&thief).await.unwrap();
        assert_eq!((Some(handle.handle.as_str()), handle.person.as_deref()), (NAMELESS.external, NAMELESS.external));
        assert_eq!(stage.handle(&famous).await.unwrap().handle, "famous");

        // The name comes with the next message.
        stage.see("message:m3", stage.message(&FOLLOWER, "m3", "hello")).await;
        assert_eq!(stage.handle(&thief).await.unwrap().handle, "mia.runs.oslo");
    }
}

on_both! {
    async fn what_comes_late_does_not_undo_what_is_known_since(app: &TestApp) {
        let stage = Stage::new(app).await;
        let mia = app.member(&stage.site, "u-1").await;
        let late = stage.message(&Says { handle: Some("mia.before"), ..FOLLOWER }, "m0", "hello");
        app.clock.advance_ms(1_000);
        let code = stage.code(&mia).await;
        stage.see("message:m1", stage.message(&FOLLOWER, "m1", &code)).await;
        stage.see("message:m0", late).await;
        assert_eq!(stage.handle(&mia).await.unwrap().handle, "mia.runs.oslo");
        assert_eq!(stage.activities().await.len(), 3, "it counts as a message all the same");
    }
}

on_both! {
    async fn what_was_unsent_is_erased_whichever_came_first(app: &TestApp) {
        let stage = Stage::new(app).await;
        let member = app.member(&stage.site, "u-1").await;
        stage.claim(&member, "mia.runs.oslo").await;
        let first = stage.see("message:m1", stage.message(&FOLLOWER, "m1", "secret words")).await;
        stage.unsend("m1").await;

        stage.unsend("m2").await;
        let second = stage.see("message:m2", stage.message(&FOLLOWER, "m2", "secret words")).await;

        for item in [first, second] {
            assert!(!stage.find_item(item.id).await.payload.contains("secret"), "{}", item.item_key);
        }
        let rows = stage.activity_rows().await;
        let messages: Vec<_> = rows.iter().filter(|row| row.properties.contains("message")).collect();
        assert_eq!(messages.len(), 2);
        for row in messages {
            let said: serde_json::Value = serde_json::from_str(&row.properties).unwrap();
            assert_eq!(said, json!({"platform": "instagram", "message": ""}));
        }
    }
}

on_both! {
    async fn what_was_unsent_is_not_told_either_though_it_is_queued(app: &TestApp) {
        let stage = Stage::new(app).await;
        let member = app.member(&stage.site, "u-1").await;
        stage.claim(&member, "mia.runs.oslo").await;
        let installed = app.installed_app(&stage.site).await;
        let receiver = Receiver::start().await;
        let gate = Gate::closed();
        receiver.answer([Reply::status(200).behind(&gate)]);
        let body = json!({"webhookSubscription": {
            "appId": installed.id, "eventTypes": ["followpoints.social.*"], "url": receiver.url,
            "maxInFlight": 1, "timeoutMs": 15_000,
        }});
        let path = "/admin/v1/webhook-subscriptions";
        app.call("POST", path).key(ADMIN_KEY, &stage.site.id).json(&body).ok().await;
        stage.see("message:m1", stage.message(&MIA, "m1", "first words")).await;
        receiver.wait_for(1).await;
        stage.see("message:m2", stage.message(&MIA, "m2", "secret words")).await;
        stage.unsend("m2").await;
        app.app.dispatcher.wake();
        let endpoint = || entity::endpoint::Entity::find().one(app.app.db.read());
        while endpoint().await.unwrap().unwrap().due_at.0 == 0 {
            tokio::task::yield_now().await;
        }
        gate.open();
        app.drain().await;
        let told: Vec<String> = receiver.bodies().iter().map(|body| unfold(body).to_string()).collect();
        assert_eq!(told.len(), 2);
        assert!(told[0].contains("first words") && !told[1].contains("secret"), "{told:?}");
    }
}

/// What the one message on the stage says.
async fn said(stage: &Stage<'_>) -> String {
    let properties = stage.activity_rows().await.remove(0).properties;
    serde_json::from_str::<Value>(&properties).unwrap()["message"].as_str().unwrap().to_owned()
}

/// Tables with rows in which the word "regret" is.
async fn regretted(app: &TestApp) -> Vec<String> {
    let rows = dump(&app.app.db).await.into_iter();
    // As it is, and as bytes are written.
    let rows = rows.filter(|row| row.to_lowercase().replace("726567726574", "regret").contains("regret"));
    rows.map(|row| row.split(':').next().unwrap().to_owned()).collect()
}

on_both! {
    async fn what_was_edited_says_what_the_last_edit_says_in_whatever_order_they_come(app: &TestApp) {
        let stage = Stage::new(app).await;
        stage.edit("m1", 1, "first").await;
        let message = stage.see("message:m1", stage.message(&MIA, "m1", "frist")).await;
        assert_eq!(said(&stage).await, "first");
        stage.edit("m1", 3, "third").await;
        stage.edit("m1", 2, "second").await;
        assert_eq!(said(&stage).await, "third");
        // Ten are after nine, and what happened later counts whatever its number.
        stage.edit("m1", 10, "tenth").await;
        stage.edit("m1", 9, "ninth").await;
        assert_eq!(said(&stage).await, "tenth");
        app.clock.advance_ms(1);
        stage.edit("m1", 4, "later").await;
        assert_eq!(said(&stage).await, "later");
        let stored: Value = serde_json::from_str(&stage.find_item(message.id).await.payload).unwrap();
        assert_eq!(stored["message"]["text"], "later");
        // Another message, whose id begins like this one's.
        stage.edit("m10", 1, "of another").await;
        assert_eq!(said(&stage).await, "later");
    }
}

on_both! {
    async fn what_was_unsent_stays_so_whatever_is_told_late(app: &TestApp) {
        let stage = Stage::new(app).await;
        stage.see("message:m1", stage.message(&MIA, "m1", "regret 1")).await;
        let early = stage.edit("m1", 1, "regret 2").await;
        assert!(regretted(app).await.len() >= 3);
        stage.unsend("m1").await;
        assert_eq!(regretted(app).await, [""; 0]);
        let late = stage.edit("m1", 2, "regret 3").await;
        assert_eq!((said(&stage).await, regretted(app).await), (String::new(), Vec::new()));
        for item in [early, late] {
            let item = stage.find_item(item.id).await;
            assert_eq!((item.status.as_str(), item.payload.as_str()), ("DONE", "{}"));
        }
        // The same before anything is known of the message itself.
        stage.unsend("m2").await;
        stage.edit("m2", 1, "regret 4").await;
        stage.see("message:m2", stage.message(&MIA, "m2", "regret 5")).await;
        assert_eq!(regretted(app).await, [""; 0]);
    }
}

/// Languages sort a semicolon before a colon.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn edits_are_found_whatever_language_the_database_sorts_by() {
    let Some(database) = TestDatabase::in_english().await else { return };
    let app = TestApp::start(database, Options::default()).await;
    let stage = Stage::new(&app).await;
    stage.edit("m1", 1, "first").await;
    stage.see("message:m1", stage.message(&MIA, "m1", "frist")).await;
    assert_eq!(said(&stage).await, "first");
    app.app.stop().await;
}
