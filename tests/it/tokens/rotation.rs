//! Refresh tokens: each use gives a successor; using a replaced one betrays a copy and ends the whole family.

use entity::refresh_token;
use followpoints::access::oauth;
use futures_util::future::join_all;
use sea_orm::{EntityTrait as _, PaginatorTrait as _};
use serde_json::json;

use super::{both, refresh, refused, rotate, status};
use crate::on_both;
use crate::support::TestApp;
use crate::support::callers::{Everything, UNKNOWN_ID};
use crate::support::world::text;

const DAY_MS: i64 = 86_400_000;

/// A refresh token of the member, issued to the site's front-end.
async fn of_front_end(app: &TestApp, all: &Everything) -> String {
    let body = json!({"grant_type": "authorized_client", "member_id": all.member.id});
    let login = format!("{},{}", all.visitor, all.manager.secret);
    text(&app.call("POST", "/oauth2/token").auth(&login).json(&body).ok().await["refresh_token"])
}

on_both! {
    async fn a_replaced_token_used_again_ends_the_whole_family(app: &TestApp) {
        let site = app.site().await;
        let (member, other) = (app.member(&site, "u-1").await, app.member(&site, "u-2").await);
        let first = member.refresh_token.clone();
        let second = rotate(app, &first, None).await;
        let third = rotate(app, &second, None).await;

        assert_eq!(both(&refresh(app, &first, None).await), refused());

        for token in [&first, &second, &third] {
            assert_eq!(both(&refresh(app, token, None).await), refused());
        }
        // Another person's tokens, and this person's of another sign-in, are another family.
        rotate(app, &other.refresh_token, None).await;
        rotate(app, &app.member(&site, "u-1").await.refresh_token, None).await;
    }
}

on_both! {
    async fn a_refresh_gives_new_tokens_for_the_same_member(app: &TestApp) {
        let site = app.site().await;
        let member = app.member(&site, "u-1").await;
        app.follow(&member, "X").await;

        let body = refresh(app, &member.refresh_token, None).await.json();

        assert_ne!(text(&body["refresh_token"]), member.refresh_token);
        let path = "/loyalty-accounts/v1/accounts/my-account";
        let account = app.call("GET", path).auth(&text(&body["access_token"])).ok().await;
        assert_eq!(account["account"]["memberId"], json!(member.id));
        assert_eq!(
            body,
            json!({
                "access_token": body["access_token"], "refresh_token": body["refresh_token"],
                "token_type": "Bearer", "expires_in": 14400,
            })
        );
    }
}

on_both! {
    async fn of_parallel_uses_of_one_token_one_succeeds_and_the_family_ends(app: &TestApp) {
        let site = app.site().await;
        let member = app.member(&site, "u-1").await;

        let answers = join_all((0..20).map(|_| refresh(app, &member.refresh_token, None))).await;

        let succeeded: Vec<_> = answers.iter().filter(|answer| answer.status.as_u16() == 200).collect();
        assert_eq!(succeeded.len(), 1);
        for answer in answers.iter().filter(|answer| answer.status.as_u16() != 200) {
            assert_eq!(both(answer), refused());
        }
        let successor = text(&succeeded[0].json()["refresh_token"]);
        assert_eq!(both(&refresh(app, &successor, None).await), refused());
    }
}

on_both! {
    async fn a_front_end_may_repeat_its_token_until_the_successor_was_used(app: &TestApp) {
        let all = app.everything().await;
        let client = Some(all.front_end.as_str());
        let first = of_front_end(app, &all).await;

        // The Wix SDK throws successors away and comes back with the token that it has.
        let dropped = [rotate(app, &first, client).await, rotate(app, &first, client).await];
        let kept = rotate(app, &first, client).await;
        for token in &dropped {
            assert_eq!(both(&refresh(app, token, client).await), refused());
        }
        let newest = rotate(app, &kept, client).await;

        assert_eq!(both(&refresh(app, &first, client).await), refused());
        for token in [&kept, &newest] {
            assert_eq!(both(&refresh(app, token, client).await), refused());
        }
    }
}

on_both! {
    async fn of_parallel_uses_by_a_front_end_all_succeed_and_one_successor_lives(app: &TestApp) {
        let all = app.everything().await;
        let client = Some(all.front_end.as_str());
        let first = of_front_end(app, &all).await;

        let successors = join_all((0..10).map(|_| rotate(app, &first, client))).await;

        let mut alive = 0;
        for token in &successors {
            alive += usize::from(refresh(app, token, client).await.status.as_u16() == 200);
        }
        assert_eq!(alive, 1);
    }
}

on_both! {
    async fn a_token_works_only_for_the_front_end_that_it_was_issued_to(app: &TestApp) {
        let all = app.everything().await;
        let stranger = app.front_end(&all.site, &[]).await;
        let of_member = of_front_end(app, &all).await;

        for token in [&of_member, &all.visitor_refresh] {
            assert_eq!(both(&refresh(app, token, Some(&stranger)).await), refused());
            let wrong = refresh(app, token, Some("shop")).await;
            assert_eq!(
                both(&wrong),
                (400, json!({"error": "invalid_request", "error_description": "client_id is not a GUID"}))
            );
            // The refusal did not use it up.
            rotate(app, token, Some(&all.front_end)).await;
        }
    }
}

on_both! {
    async fn what_was_issued_to_no_front_end_is_of_the_first_that_uses_it(app: &TestApp) {
        let all = app.everything().await;
        let other = app.site().await;
        let foreign = app.front_end(&other, &[]).await;
        let first = all.member.refresh_token.clone();
        for nobody in [foreign.as_str(), UNKNOWN_ID] {
            assert_eq!(both(&refresh(app, &first, Some(nobody)).await), refused());
        }
        // As the Wix SDK does with tokens that its page was given.
        let client = Some(all.front_end.as_str());
        for _ in 0..3 {
            rotate(app, &first, client).await;
        }
        let second = app.front_end(&all.site, &[]).await;
        assert_eq!(both(&refresh(app, &first, Some(&second)).await), refused());
    }
}

on_both! {
    async fn a_refresh_token_ends_after_ninety_days_and_each_rotation_starts_them_anew(app: &TestApp) {
        let all = app.everything().await;
        let (mut member, mut visitor) = (all.member.refresh_token.clone(), all.visitor_refresh.clone());
        for _ in 0..2 {
            app.clock.advance_ms(89 * DAY_MS);
            member = rotate(app, &member, None).await;
            visitor = rotate(app, &visitor, None).await;
        }

        app.clock.advance_ms(91 * DAY_MS);

        assert_eq!(both(&refresh(app, &member, None).await), refused());
        assert_eq!(both(&refresh(app, &visitor, None).await), refused());
    }
}

/// Takes away what has ended; says how many tokens that were, and how many are left.
async fn clean_up(app: &TestApp) -> (u64, u64) {
    let tx = app.app.db.write().await.unwrap();
    let deleted = oauth::delete_expired(&tx).await.unwrap();
    tx.commit().await.unwrap();
    (deleted, refresh_token::Entity::find().count(app.app.db.read()).await.unwrap())
}

on_both! {
    async fn refresh_tokens_are_deleted_when_they_have_ended_and_not_before(app: &TestApp) {
        let site = app.site().await;
        let (one, other) = (app.member(&site, "u-1").await, app.member(&site, "u-2").await);
        app.clock.advance_ms(89 * DAY_MS);
        let second = rotate(app, &one.refresh_token, None).await;
        assert_eq!(clean_up(app).await, (0, 3), "a replaced one stays, too, or its use would betray nothing");
        app.clock.advance_ms(DAY_MS);
        assert_eq!(clean_up(app).await, (0, 3));
        app.clock.advance_ms(1);
        assert_eq!(clean_up(app).await, (2, 1));
        rotate(app, &second, None).await;
        assert_eq!(both(&refresh(app, &other.refresh_token, None).await), refused());
    }
}

on_both! {
    async fn a_deleted_front_end_gets_no_new_tokens(app: &TestApp) {
        let all = app.everything().await;
        let path = format!("/admin/v1/oauth-clients/{}", all.front_end);
        app.call("DELETE", &path).auth(&all.admin.secret).ok().await;

        let unknown = json!({
            "error": "invalid_client", "error_description": "the client is unknown or its secret is wrong",
        });
        let anonymous = app.token(&json!({"grantType": "anonymous", "clientId": all.front_end})).await;
        assert_eq!(both(&anonymous), (401, unknown));
        let again = refresh(app, &all.visitor_refresh, Some(&all.front_end)).await;
        assert_eq!(both(&again), refused());
        assert_eq!(status(app, &all.visitor).await, 200);
    }
}
