//! What a crash or a stop leaves behind is sent by the next start, under the same event id.

use futures_util::FutureExt as _;
use serde_json::json;

use super::{
    FOLLOWED, advance_to, deliveries, delivery_of, installed_site, new_follower, subscribe_with, unfold,
};
use crate::on_both_databases;
use crate::support::receiver::{Gate, Receiver, Reply};
use crate::support::world::text;
use crate::support::{Backend, TestApp};

/// How long a claim lasts.
const LEASE_MS: i64 = 15_000;

on_both_databases! {
    async fn g3_what_a_crash_interrupts_and_what_waited_behind_it_goes_out_after_it(database: TestDatabase) {
        let app = TestApp::start_apart(database).await;
        let (site, installed) = installed_site(&app).await;
        let receiver = Receiver::start().await;
        receiver.answer([Reply::hang()]);
        let more = json!({"maxInFlight": 1, "timeoutMs": 15_000});
        subscribe_with(&app, &site, &installed, &receiver.url, &more).await;
        for number in 0..3 {
            new_follower(&app, &site, &format!("u-{number}")).await;
        }
        receiver.wait_for(1).await;

        let app = app.restart().await;
        if app.backend() == Backend::Postgres {
            // Nobody else can have held the file.
            app.clock.advance_ms(LEASE_MS);
        }
        app.drain().await;

        let rows = deliveries(&app, &site).await;
        let states: Vec<_> =
            rows.iter().map(|row| (text(&row["status"]), row["attemptCount"].as_i64())).collect();
        assert_eq!(states, vec![("DELIVERED".to_owned(), Some(1)); 3]);
        let bodies = receiver.bodies();
        assert_eq!(bodies.len(), 4);
        assert_eq!(bodies.iter().filter(|body| **body == bodies[0]).count(), 2, "the same bytes again");
        let mut told: Vec<_> = bodies[1..].iter().map(|body| text(&unfold(body)["jti"])).collect();
        told.sort();
        told.reverse();
        assert_eq!(told, rows.iter().map(|row| text(&row["eventId"])).collect::<Vec<_>>());
        app.app.stop().await;
    }
}

on_both_databases! {
    async fn g3_a_stop_sends_nothing_more_and_the_next_start_sends_the_rest_at_once(database: TestDatabase) {
        let app = TestApp::start_apart(database).await;
        let (site, installed) = installed_site(&app).await;
        let receiver = Receiver::start().await;
        let gate = Gate::closed();
        receiver.answer([Reply::status(200).behind(&gate)]);
        let more = json!({"maxInFlight": 1, "timeoutMs": 15_000});
        subscribe_with(&app, &site, &installed, &receiver.url, &more).await;
        for number in 0..3 {
            new_follower(&app, &site, &format!("u-{number}")).await;
        }
        receiver.wait_for(1).await;

        let mut stopping = Box::pin(app.app.stop());
        assert!((&mut stopping).now_or_never().is_none(), "it waits for the try under way");
        gate.open();
        stopping.await;
        assert_eq!(receiver.count(), 1);
        let app = app.restart().await;
        app.drain().await;

        let rows = deliveries(&app, &site).await;
        let states: Vec<_> =
            rows.iter().map(|row| (text(&row["status"]), row["attemptCount"].as_i64())).collect();
        assert_eq!(states, vec![("DELIVERED".to_owned(), Some(1)); 3]);
        assert_eq!(receiver.count(), 3, "each is sent once");
        app.app.stop().await;
    }
}

on_both_databases! {
    async fn g3_a_retry_keeps_its_time_its_count_and_its_bytes_over_a_crash(database: TestDatabase) {
        let app = TestApp::start_apart(database).await;
        let (site, installed) = installed_site(&app).await;
        let receiver = Receiver::start().await;
        receiver.answer([Reply::status(500)]);
        let subscription = app.subscribe(&site, &installed, &[FOLLOWED], &receiver.url).await;
        new_follower(&app, &site, "u-1").await;
        app.drain().await;
        let waiting = delivery_of(&app, &site, &subscription).await;

        let app = app.restart().await;
        assert_eq!(delivery_of(&app, &site, &subscription).await, waiting);
        advance_to(&app, &waiting["nextAttemptDate"]);
        app.clock.advance_ms(-1);
        app.drain().await;
        assert_eq!(receiver.count(), 1);
        app.clock.advance_ms(1);
        app.drain().await;

        let sent = delivery_of(&app, &site, &subscription).await;
        assert_eq!((&sent["status"], &sent["attemptCount"]), (&json!("DELIVERED"), &json!(2)));
        let bodies = receiver.bodies();
        assert_eq!((bodies.len(), &bodies[0]), (2, &bodies[1]));
        app.app.stop().await;
    }
}
