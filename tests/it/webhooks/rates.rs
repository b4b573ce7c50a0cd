//! A subscription may limit how many tries a second it gets.

use serde_json::json;

use super::{installed_site, new_follower, patch_subscription, subscribe_with};
use crate::on_both;
use crate::support::ENOUGH;
use crate::support::process::LOOK;
use crate::support::receiver::Receiver;
use crate::support::world::text;

on_both! {
    async fn a_limited_receiver_gets_its_tries_as_the_clock_goes_on_and_loses_none(app: &TestApp) {
        let (site, installed) = installed_site(app).await;
        let (limited, other) = (Receiver::start().await, Receiver::start().await);
        let made = subscribe_with(app, &site, &installed, &limited.url, &json!({"maxPerSecond": 2})).await;
        assert_eq!(made["maxPerSecond"], 2);
        subscribe_with(app, &site, &installed, &other.url, &json!({})).await;
        for number in 0..5 {
            new_follower(app, &site, &format!("u-{number}")).await;
        }
        other.wait_for(5).await;
        // All that can be written is written: four of the limited one's stay in memory.
        let mut looks = tokio::time::interval(LOOK);
        let written = async {
            while app.app.dispatcher.health().held > 4 {
                looks.tick().await;
            }
        };
        tokio::time::timeout(ENOUGH, written).await.expect("the others are written");
        assert_eq!(limited.count(), 1, "the clock stands still");
        for count in 2..=3 {
            app.clock.advance_ms(500);
            app.app.dispatcher.wake();
            assert_eq!(limited.wait_for(count).await.len(), count);
        }

        let id = text(&made["id"]);
        let freed = patch_subscription(app, &site, &id, &json!({"maxPerSecond": 0})).await;
        assert_eq!(freed.get("maxPerSecond"), None);
        app.drain().await;
        assert_eq!((limited.count(), other.count()), (5, 5));
    }
}

on_both! {
    async fn whatever_waits_for_its_rate_waits_in_one_task(app: &TestApp) {
        let (site, installed) = installed_site(app).await;
        let (limited, other) = (Receiver::start().await, Receiver::start().await);
        subscribe_with(app, &site, &installed, &limited.url, &json!({"maxPerSecond": 1})).await;
        subscribe_with(app, &site, &installed, &other.url, &json!({})).await;
        let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
        new_follower(app, &site, "u-0").await;
        let before = tasks();
        for number in 1..=40 {
            new_follower(app, &site, &format!("u-{number}")).await;
        }
        other.wait_for(41).await;
        assert!(tasks() < before + 20, "{before} tasks became {}", tasks());
    }
}
