//! What platforms told about a member, as profiles show it.

use entity::kinds::Platform;
use serde_json::json;

use super::{NOW, claim, patch, profile, prove, tell, together, told_of_instagram, told_of_tiktok, verified};
use crate::on_both;

on_both! {
    async fn each_attribute_has_its_value_source_and_time(app: &TestApp) {
        let site = app.site().await;
        let member = app.member(&site, "u-1").await;
        claim(app, &member, "mia.runs.oslo").await;
        tell(app, &site, &member).await;
        assert_eq!(profile(app, &member).await, json!({"profile": {
            "memberId": member.id,
            "instagramHandle": {"handle": "mia.runs.oslo", "verified": false, "claimedDate": NOW},
            "attributes": together(&[told_of_instagram(), told_of_tiktok(), verified(false, NOW)]),
        }}));
        app.clock.advance_ms(60_000);
        prove(app, &site, &member, Platform::Instagram, "5512034987760112").await.unwrap();
        let later = "2024-08-01T11:52:41.431Z";
        assert_eq!(
            profile(app, &member).await["profile"]["attributes"],
            together(&[told_of_instagram(), told_of_tiktok(), verified(true, later)])
        );
    }
}

on_both! {
    async fn another_handle_takes_away_what_its_platform_told_and_nothing_else(app: &TestApp) {
        let site = app.site().await;
        let (member, neighbour) = (app.member(&site, "u-1").await, app.member(&site, "u-2").await);
        for somebody in [&member, &neighbour] {
            claim(app, somebody, "mia.runs.oslo").await;
            tell(app, &site, somebody).await;
        }
        let all = together(&[told_of_instagram(), told_of_tiktok(), verified(false, NOW)]);
        app.clock.advance_ms(60_000);
        let later = "2024-08-01T11:52:41.431Z";
        claim(app, &member, "@MIA.runs.oslo").await;
        assert_eq!(profile(app, &member).await["profile"]["attributes"], all, "the same handle");
        claim(app, &member, "mia.walks").await;
        assert_eq!(
            profile(app, &member).await["profile"]["attributes"],
            together(&[told_of_tiktok(), verified(false, later)])
        );
        patch(app, &member, json!({"tiktokHandle": "miawalks"})).await;
        assert_eq!(profile(app, &member).await["profile"]["attributes"], verified(false, later));
        assert_eq!(profile(app, &neighbour).await["profile"]["attributes"], all);

        patch(app, &neighbour, json!({"instagramHandle": null})).await;
        assert_eq!(profile(app, &neighbour).await["profile"]["attributes"], told_of_tiktok());
    }
}
