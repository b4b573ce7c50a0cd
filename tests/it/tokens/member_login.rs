//! `authorized_client`: a back end signs a member in for a visitor: `Authorization: <visitor token>,<API key>`.

use sea_orm::ConnectionTrait as _;
use serde_json::{Value, json};

use super::{FOLLOWED, both};
use crate::on_both;
use crate::support::TestApp;
use crate::support::callers::{MANAGE, UNKNOWN_ID};
use crate::support::world::text;

async fn login(app: &TestApp, authorization: &str, member: &str) -> (u16, Value) {
    let body = json!({"grant_type": "authorized_client", "scope": "offline_access", "member_id": member});
    both(&app.call("POST", "/oauth2/token").auth(authorization).json(&body).send().await)
}

on_both! {
    async fn a_visitor_with_a_key_of_its_site_becomes_the_member(app: &TestApp) {
        let all = app.everything().await;
        let listed = app.call("GET", FOLLOWED).auth(&all.member.token).ok().await;
        for authorization in [
            format!("{},{}", all.visitor, all.manager.secret),
            format!("{}, {}", all.visitor, all.admin.secret),
        ] {
            let (status, tokens) = login(app, &authorization, &all.member.id).await;
            assert_eq!(status, 200, "{tokens}");
            let token = text(&tokens["access_token"]);
            assert_eq!(app.call("GET", FOLLOWED).auth(&token).ok().await, listed);
        }
    }
}

on_both! {
    async fn g5_any_other_pair_signs_nobody_in(app: &TestApp) {
        let (own, other) = (app.everything().await, app.everything().await);
        let refused = json!({
            "error": "unauthorized_client",
            "error_description": "the Authorization header must be `<visitor token>,<API key>` of one site",
        });
        for authorization in [
            own.visitor.clone(),
            own.manager.secret.clone(),
            format!("{}{}", own.visitor, own.manager.secret),
            format!("{},{}", own.manager.secret, own.visitor),
            format!("{},{}", own.visitor, own.visitor),
            format!("{},", own.visitor),
            format!(",{}", own.manager.secret),
            format!("{},{}", own.visitor, own.reader.secret),
            format!("{},{}", own.visitor, own.app_token),
            format!("{},{}", own.visitor, other.manager.secret),
            format!("{},{}", own.visitor, other.admin.secret),
            format!("{},{}", other.visitor, own.manager.secret),
            format!("{},{}", own.member.token, own.manager.secret),
            format!("{},{}", own.visitor_refresh, own.manager.secret),
            format!("{},{},{}", own.visitor, own.visitor, own.manager.secret),
        ] {
            let answer = login(app, &authorization, &own.member.id).await;
            assert_eq!(answer, (401, refused.clone()), "{authorization}");
        }
        let body = json!({"grant_type": "authorized_client", "member_id": own.member.id});
        assert_eq!(both(&app.token(&body).await), (401, refused));
    }
}

on_both! {
    async fn g5_a_member_of_another_site_is_as_unknown_as_nobody(app: &TestApp) {
        let (own, other) = (app.everything().await, app.everything().await);
        let authorization = format!("{},{}", own.visitor, own.manager.secret);
        let refused = json!({"error": "invalid_grant", "error_description": "the site has no such member"});
        for member in [&other.member.id, &own.account_id, UNKNOWN_ID] {
            assert_eq!(login(app, &authorization, member).await, (400, refused.clone()));
        }
        let malformed = json!({"error": "invalid_request", "error_description": "member_id is not a GUID"});
        assert_eq!(login(app, &authorization, "u-1").await, (400, malformed));
    }
}

on_both! {
    async fn a_deleted_key_signs_nobody_in(app: &TestApp) {
        let all = app.everything().await;
        let key = app.site_key(&all.site, MANAGE).await;
        let authorization = format!("{},{}", all.visitor, key.secret);
        assert_eq!(login(app, &authorization, &all.member.id).await.0, 200);
        app.call("DELETE", &format!("/admin/v1/api-keys/{}", key.id)).auth(&all.admin.secret).ok().await;
        assert_eq!(login(app, &authorization, &all.member.id).await.0, 401);
    }
}

on_both! {
    async fn a_failure_of_the_database_is_not_the_callers(app: &TestApp) {
        let all = app.everything().await;
        let key = app.site_key(&all.site, MANAGE).await;
        let authorization = format!("{},{}", all.visitor, key.secret);
        let rename = async |from: &str, to: &str| {
            let tx = app.app.db.write().await.unwrap();
            tx.conn().execute_unprepared(&format!("ALTER TABLE {from} RENAME TO {to}")).await.unwrap();
            tx.commit().await.unwrap();
        };
        rename("api_key", "api_key_away").await;
        let (status, error) = login(app, &authorization, &all.member.id).await;
        assert_eq!((status, &error["error"]), (500, &json!("server_error")));
        rename("api_key_away", "api_key").await;
        assert_eq!(login(app, &authorization, &all.member.id).await.0, 200);
    }
}

on_both! {
    async fn what_is_refused_before_is_refused_in_the_same_words(app: &TestApp) {
        for path in ["/oauth2/token", "/oauth/access", "/_api/oauth2/token"] {
            let refused = both(&app.call("POST", &format!("{path}?x=%00")).json(&json!({})).send().await);
            let description = "query must not contain the character NUL";
            let expected = json!({"error": "invalid_request", "error_description": description});
            assert_eq!(refused, (400, expected), "{path}");
        }
    }
}

on_both! {
    async fn a_visitor_of_a_removed_front_end_becomes_nobody(app: &TestApp) {
        let all = app.everything().await;
        let authorization = format!("{},{}", all.visitor, all.manager.secret);
        let path = format!("/admin/v1/oauth-clients/{}", all.front_end);
        app.call("DELETE", &path).key(&all.admin.secret, &all.site.id).ok().await;
        let (status, refused) = login(app, &authorization, &all.member.id).await;
        assert_eq!((status, &refused["error"]), (401, &json!("unauthorized_client")), "{refused}");
        let body = json!({"token": all.visitor});
        assert_eq!(app.call("POST", "/oauth2/token-info").json(&body).ok().await, json!({"active": false}));
    }
}
