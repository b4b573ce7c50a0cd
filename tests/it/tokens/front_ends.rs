//! Tokens that an owner fetches for a member, for one of the site's front-ends or for none.

use entity::refresh_token;
use sea_orm::{EntityTrait as _, PaginatorTrait as _};
use serde_json::{Value, json};

use super::{FOLLOWED, both, refresh, refused, rotate};
use crate::on_both;
use crate::support::callers::{Everything, UNKNOWN_ID};
use crate::support::client::Answer;
use crate::support::world::text;
use crate::support::{ADMIN_KEY, TestApp};

async fn tokens(app: &TestApp, all: &Everything, member: &str, body: &Value) -> Answer {
    let path = format!("/admin/v1/members/{member}/tokens");
    app.call("POST", &path).auth(&all.admin.secret).json(body).send().await
}

/// The refresh token that the member gets with this body.
async fn granted(app: &TestApp, all: &Everything, body: &Value) -> String {
    let answer = tokens(app, all, &all.member.id, body).await;
    assert_eq!(answer.status.as_u16(), 200, "{}", answer.text);
    text(&answer.json()["refresh_token"])
}

on_both! {
    async fn a_token_for_a_front_end_may_be_repeated_as_the_sdk_does_and_others_may_not(app: &TestApp) {
        let all = app.everything().await;
        let client = Some(all.front_end.as_str());
        let answer = tokens(app, &all, &all.member.id, &json!({"clientId": all.front_end})).await.json();
        assert_eq!(
            answer,
            json!({
                "access_token": answer["access_token"], "refresh_token": answer["refresh_token"],
                "token_type": "Bearer", "expires_in": 14400,
            })
        );
        let listed = app.call("GET", FOLLOWED).auth(&text(&answer["access_token"])).ok().await;
        assert_eq!(listed["followedChannels"].as_array().unwrap().len(), 2);
        let first = text(&answer["refresh_token"]);
        let dropped = rotate(app, &first, client).await;
        let kept = rotate(app, &first, client).await;
        assert_eq!(both(&refresh(app, &dropped, client).await), refused());
        rotate(app, &kept, client).await;
        assert_eq!(both(&refresh(app, &first, client).await), refused());
        assert_eq!(both(&refresh(app, &kept, client).await), refused());

        // It works for that front-end only.
        let stranger = app.front_end(&all.site, &[]).await;
        let bound = granted(app, &all, &json!({"clientId": all.front_end})).await;
        assert_eq!(both(&refresh(app, &bound, Some(&stranger)).await), refused());
        rotate(app, &bound, client).await;

        let free = granted(app, &all, &json!({})).await;
        rotate(app, &free, None).await;
        assert_eq!(both(&refresh(app, &free, None).await), refused());
    }
}

on_both! {
    async fn a_token_for_a_front_end_ends_with_it(app: &TestApp) {
        let all = app.everything().await;
        let bound = granted(app, &all, &json!({"clientId": all.front_end})).await;
        let free = granted(app, &all, &json!({"clientId": null})).await;
        let path = format!("/admin/v1/oauth-clients/{}", all.front_end);
        app.call("DELETE", &path).auth(&all.admin.secret).ok().await;
        assert_eq!(both(&refresh(app, &bound, Some(&all.front_end)).await), refused());
        rotate(app, &free, None).await;
    }
}

on_both! {
    async fn whoever_wants_no_front_end_need_not_send_anything(app: &TestApp) {
        let all = app.everything().await;
        let path = format!("/admin/v1/members/{}/tokens", all.member.id);
        let call = || app.call("POST", &path).key(ADMIN_KEY, &all.site.id);
        for call in [
            call(),
            call().text("application/json", ""),
            call().text("application/x-www-form-urlencoded", ""),
            call().text("application/json; charset=utf-8", "{}"),
            call().json(&json!({"clientId": null, "unknown": 7})),
        ] {
            let token = text(&call.ok().await["refresh_token"]);
            rotate(app, &token, None).await;
        }
    }
}

on_both! {
    async fn g5_tokens_are_for_a_member_and_a_front_end_of_the_site_only(app: &TestApp) {
        let (own, other) = (app.everything().await, app.everything().await);
        let stored = async || refresh_token::Entity::find().count(app.app.db.read()).await.unwrap();
        let before = stored().await;
        for client in [other.front_end.as_str(), UNKNOWN_ID, &own.app.id] {
            let answer = tokens(app, &own, &own.member.id, &json!({"clientId": client})).await;
            assert_eq!(answer.error(), (404, "OAUTH_CLIENT_NOT_FOUND".to_owned()), "{client}");
        }
        for (member, client) in
            [(other.member.id.as_str(), &own.front_end), (UNKNOWN_ID, &own.front_end), (UNKNOWN_ID, &other.front_end)]
        {
            let answer = tokens(app, &own, member, &json!({"clientId": client})).await;
            assert_eq!(answer.error(), (404, "MEMBER_NOT_FOUND".to_owned()));
        }
        let wrong = tokens(app, &own, &own.member.id, &json!({"clientId": "shop"})).await;
        assert_eq!(wrong.violations(), [("clientId".to_owned(), "FORMAT".to_owned())]);
        let wrong = tokens(app, &own, &own.member.id, &json!([])).await;
        assert_eq!(wrong.violations(), [("body".to_owned(), "FORMAT".to_owned())]);
        let path = format!("/admin/v1/members/{}/tokens", own.member.id);
        let call = || app.call("POST", &path).auth(&own.admin.secret);
        for call in [call().text("text/plain", "{}"), call().bytes("{}")] {
            assert_eq!(call.send().await.error(), (415, "UNSUPPORTED_MEDIA_TYPE".to_owned()));
        }
        assert_eq!(stored().await, before);
    }
}
