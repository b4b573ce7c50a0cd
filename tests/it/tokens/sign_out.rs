//! Signing a member out everywhere: every refresh token ends, access tokens end by themselves.

use serde_json::{Value, json};

use super::{both, refresh, refused, rotate, status};
use crate::on_both;
use crate::support::callers::UNKNOWN_ID;
use crate::support::world::{Member, Site, text};
use crate::support::{ADMIN_KEY, START, TestApp};

const DAY_MS: i64 = 86_400_000;

async fn sign_out(app: &TestApp, site: &Site, member: &str) -> Value {
    let path = format!("/admin/v1/members/{member}/tokens");
    app.call("DELETE", &path).key(ADMIN_KEY, &site.id).ok().await
}

fn revoked(count: u64) -> Value {
    json!({"revokedSignInCount": count})
}

/// Another sign-in of the member; gives its refresh token.
async fn sign_in(app: &TestApp, site: &Site, member: &Member, client: Option<&str>) -> String {
    let path = format!("/admin/v1/members/{}/tokens", member.id);
    let call = app.call("POST", &path).key(ADMIN_KEY, &site.id).json(&json!({"clientId": client}));
    text(&call.ok().await["refresh_token"])
}

on_both! {
    async fn every_sign_in_of_the_member_ends_and_nobody_elses(app: &TestApp) {
        let all = app.everything().await;
        let client = Some(all.front_end.as_str());
        let neighbour = app.member(&all.site, "u-2").await;
        let second = sign_in(app, &all.site, &all.member, None).await;
        let replaced = all.member.refresh_token.clone();
        let successor = rotate(app, &replaced, None).await;
        let of_front_end = sign_in(app, &all.site, &all.member, client).await;
        let dropped = rotate(app, &of_front_end, client).await;

        assert_eq!(sign_out(app, &all.site, &all.member.id).await, revoked(3));

        for token in [&second, &replaced, &successor] {
            assert_eq!(both(&refresh(app, token, None).await), refused());
        }
        for token in [&of_front_end, &dropped] {
            assert_eq!(both(&refresh(app, token, client).await), refused());
        }
        assert_eq!(sign_out(app, &all.site, &all.member.id).await, revoked(0), "done again it changes nothing");
        rotate(app, &neighbour.refresh_token, None).await;
        rotate(app, &sign_in(app, &all.site, &all.member, None).await, None).await;
        assert_eq!(sign_out(app, &all.site, &all.member.id).await, revoked(1));

        // The access token of before ends by itself.
        app.clock.advance_ms((START.0 / 1000 + 14_400) * 1000 - 1 - START.0);
        assert_eq!(status(app, &all.member.token).await, 200);
        app.clock.advance_ms(1);
        assert_eq!(status(app, &all.member.token).await, 401);
    }
}

on_both! {
    async fn a_sign_in_that_has_ended_is_not_counted(app: &TestApp) {
        let site = app.site().await;
        let member = app.member(&site, "u-1").await;
        app.clock.advance_ms(90 * DAY_MS);
        assert_eq!(sign_out(app, &site, &member.id).await, revoked(0));
        let kept = sign_in(app, &site, &member, None).await;
        app.clock.advance_ms(90 * DAY_MS - 1);
        assert_eq!(sign_out(app, &site, &member.id).await, revoked(1));
        assert_eq!(both(&refresh(app, &kept, None).await), refused());
    }
}

on_both! {
    async fn g5_a_member_of_another_site_is_not_signed_out(app: &TestApp) {
        let (own, other) = (app.everything().await, app.site().await);
        for (member, site) in [(own.member.id.as_str(), &other), (UNKNOWN_ID, &own.site)] {
            let path = format!("/admin/v1/members/{member}/tokens");
            let answer = app.call("DELETE", &path).key(ADMIN_KEY, &site.id).send().await;
            assert_eq!(answer.error(), (404, "MEMBER_NOT_FOUND".to_owned()));
        }
        rotate(app, &own.member.refresh_token, None).await;
    }
}

on_both! {
    async fn what_is_being_refreshed_at_that_moment_ends_too(app: &TestApp) {
        let site = app.site().await;
        for number in 0..10 {
            let member = app.member(&site, &format!("u-{number}")).await;
            // Refreshes one token after the other, until it is told that there is an end to it.
            let go_on = async {
                let mut token = member.refresh_token.clone();
                loop {
                    let answer = refresh(app, &token, None).await;
                    if answer.status.as_u16() != 200 {
                        return answer;
                    }
                    token = text(&answer.json()["refresh_token"]);
                }
            };
            let (last, count) = tokio::join!(go_on, sign_out(app, &site, &member.id));
            assert_eq!((both(&last), count), (refused(), revoked(1)));
        }
    }
}
