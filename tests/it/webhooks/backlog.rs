//! More deliveries than memory has room for: the rest waits in the database and goes out as soon as there is room.

use std::collections::HashSet;

use entity::id::{MemberId, SiteId};
use entity::kinds::Channel;
use followpoints::access::Identity;
use followpoints::follows::{Follow, Subject};
use followpoints::members::{self, NewMember};
use futures_util::future::join_all;
use serde_json::json;

use super::{installed_site, subscribe_with, unfold};
use crate::on_both;
use crate::support::receiver::{Gate, Receiver, Reply};

/// What one subscription may have under way and queued in memory.
const ROOM: usize = 64 + 512;
const FOLLOWS: usize = ROOM + 100;

on_both! {
    async fn g3_what_has_no_room_in_memory_goes_out_once_without_waiting_for_a_lease(app: &TestApp) {
        let (site, installed) = installed_site(app).await;
        let receiver = Receiver::start().await;
        let gate = Gate::closed();
        receiver.answer((0..FOLLOWS).map(|_| Reply::status(200).behind(&gate)));
        let more = json!({"maxInFlight": 64, "timeoutMs": 15_000});
        subscribe_with(app, &site, &installed, &receiver.url, &more).await;
        let site = SiteId(site.id.parse().unwrap());
        let tx = app.app.db.write().await.unwrap();
        let mut ids: Vec<MemberId> = Vec::new();
        for _ in 0..FOLLOWS {
            ids.push(members::create_member(&tx, site, NewMember::default()).await.unwrap().0.id);
        }
        tx.commit().await.unwrap();

        let follows = ids.into_iter().map(|member| {
            app.app.follows.create(Follow {
                site,
                subject: Subject::Member(member),
                channel: Channel::X,
                identity: Identity::Member(member),
                idempotency_key: None,
                proof: followpoints::follows::Proof::DECLARED,
            })
        });
        assert!(join_all(follows).await.iter().all(Result::is_ok));

        // The clock stands still: no lease ends.
        gate.open();
        app.drain().await;
        let events: HashSet<String> =
            receiver.bodies().iter().map(|body| unfold(body)["jti"].to_string()).collect();
        assert_eq!((receiver.count(), events.len()), (FOLLOWS, FOLLOWS));
    }
}
