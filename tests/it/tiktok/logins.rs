//! Members who log in with TikTok.

use std::collections::HashMap;

use entity::kinds::ItemStatus;
use entity::{member_handle, member_login};
use followpoints::tiktok::logins::{TOKEN_PURPOSE, challenge};
use sea_orm::EntityTrait as _;
use serde_json::{Value, json};

use super::{
    DEVELOPER, HOUR, activities, brewery, business_with, connect, items, outcomes, post, push,
    reward_mentions, send, states, work,
};
use crate::on_both;
use crate::support::TestApp;
use crate::support::client::Answer;
use crate::support::dump::dump;
use crate::support::tiktok::{
    CLIENT_KEY, CODE, DEVELOPER_SECRET, OPEN_ID, Tiktok, options, payload, payload_text,
};
use crate::support::world::{Member, Site, text};

const TOKENS: &str = "/v2/oauth/token/";
const USER: &str = "/v2/user/info/";
const VIDEOS: &str = "/v2/video/list/";

/// The page of the site that members come back to.
const PAGE: &str = "https://nordbrew.example/me?tab=social";

/// The brewery with a front-end.
async fn shop(app: &TestApp) -> Site {
    let site = brewery(app).await;
    app.front_end(&site, &["https://nordbrew.example"]).await;
    site
}

async fn try_beginning(app: &TestApp, member: &Member, page: &str) -> Answer {
    let body = json!({"returnUrl": page});
    app.call("POST", "/me/v1/tiktok-login").auth(&member.token).json(&body).send().await
}

/// Where the member is sent, taken apart.
async fn begin(app: &TestApp, member: &Member) -> HashMap<String, String> {
    let body = try_beginning(app, member, PAGE).await.json();
    let url = url::Url::parse(&text(&body["tiktokLogin"]["authorizeUrl"])).unwrap();
    assert_eq!(url.path(), "/v2/auth/authorize/");
    url.query_pairs().into_owned().collect()
}

/// Comes back from `TikTok`.
async fn come_back(app: &TestApp, parameters: &[(&str, &str)]) -> Answer {
    let query = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(parameters).finish();
    app.call("GET", &format!("/connect/tiktok/callback?{query}")).send().await
}

async fn complete(app: &TestApp, member: &Member, state: &str, code: &str) -> Answer {
    let body = json!({"state": state, "code": code});
    app.call("POST", "/me/v1/tiktok-login/complete").auth(&member.token).json(&body).send().await
}

/// Comes back from `TikTok`, is led on to the site's page, and ends the login there.
async fn finish(app: &TestApp, member: &Member, state: &str, code: &str) -> Answer {
    let back = come_back(app, &[("code", code), ("state", state)]).await;
    assert_eq!(back.status.as_u16(), 303, "{}", back.text);
    let page = url::Url::parse(back.headers["location"].to_str().unwrap()).unwrap();
    assert_eq!((page.host_str(), page.path()), (Some("nordbrew.example"), "/me"));
    let given: HashMap<String, String> = page.query_pairs().into_owned().collect();
    assert_eq!(given["tab"], "social");
    complete(app, member, &given["tiktokState"], &given["tiktokCode"]).await
}

/// A member who has logged in.
async fn logged_in(app: &TestApp, site: &Site) -> Member {
    let mia = app.member(site, "mia").await;
    let state = begin(app, &mia).await["state"].clone();
    assert_eq!(finish(app, &mia, &state, CODE).await.status.as_u16(), 200);
    mia
}

async fn poll(app: &TestApp) -> usize {
    app.app.tiktok.poll_due().await.unwrap()
}

async fn login(app: &TestApp) -> member_login::Model {
    member_login::Entity::find().one(app.app.db.read()).await.unwrap().unwrap()
}

async fn handles(app: &TestApp) -> Vec<member_handle::Model> {
    member_handle::Entity::find().all(app.app.db.read()).await.unwrap()
}

fn opened(app: &TestApp, sealed: Option<&Vec<u8>>) -> String {
    String::from_utf8(app.app.sealer.open(TOKEN_PURPOSE, sealed.unwrap()).unwrap()).unwrap()
}

fn videos(app: &TestApp, captions: &[&str]) -> Value {
    let videos: Vec<Value> = captions.iter().zip(1..).map(|(caption, number)| {
        let post = post(app, "x", 1, number);
        json!({
            "id": post["external_id"], "create_time": app.app.db.now().seconds() - 3600, "video_description": caption,
            "title": caption, "like_count": 5, "comment_count": 2,
            "share_url": format!("https://www.tiktok.com/@miarunsoslo/video/{}", post["external_id"].as_str().unwrap()),
        })
    }).collect();
    json!({"data": {"videos": videos, "cursor": 0, "has_more": false}, "error": {"code": "ok", "message": "", "log_id": "l"}})
}

#[test]
fn the_challenge_is_in_hexadecimal() {
    let vector = payload("pkce_vectors");
    assert_eq!(challenge(vector["code_verifier"].as_str().unwrap()), vector["tiktok_desktop_hex_challenge"]);
}

on_both! {
    options: options().await,
    async fn a_login_proves_the_handle_and_finds_the_posts(app: &TestApp) {
        let site = shop(app).await;
        reward_mentions(app, &site).await;
        let mia = app.member(&site, "mia").await;
        app.claim_on_tiktok(&site, &mia, "mia.with.a.typo").await;
        let asked = begin(app, &mia).await;
        assert_eq!(asked["client_key"], CLIENT_KEY);
        assert_eq!(asked["redirect_uri"], "http://127.0.0.1/connect/tiktok/callback");
        assert_eq!(asked["scope"], "user.info.basic,user.info.profile,user.info.stats,video.list");
        assert_eq!((asked["response_type"].as_str(), asked["code_challenge_method"].as_str()), ("code", "S256"));
        let done = finish(app, &mia, &asked["state"], CODE).await;
        assert_eq!((done.status.as_u16(), done.json()), (200, json!({})));
        let tiktok = Tiktok::of(app);
        let form: HashMap<String, String> = url::form_urlencoded::parse(tiktok.asked(TOKENS)[0].body.as_bytes()).into_owned().collect();
        assert_eq!(challenge(&form["code_verifier"]), asked["code_challenge"]);
        assert_eq!(form["redirect_uri"], asked["redirect_uri"]);

        tiktok.next(VIDEOS, 200, payload("video_list"));
        assert_eq!(poll(app).await, 1);
        let row = handles(app).await.remove(0);
        assert_eq!((row.handle.as_str(), row.person.as_deref()), ("miarunsoslo", Some(OPEN_ID)));
        let proof = items(app).await.into_iter().find(|item| item.kind == "login").unwrap();
        assert_eq!(row.proven_by, Some(proof.id), "what TikTok said is stored");
        work(app).await;
        assert!(activities(app).await.is_empty(), "the first reading marks what is older than the login");
        assert_eq!(poll(app).await, 0);

        app.clock.advance_ms(HOUR);
        tiktok.always(VIDEOS, 200, videos(app, &["Filter #nordbrewCOFFEE", "no tag"]));
        assert_eq!(poll(app).await, 1);
        work(app).await;
        assert_eq!(outcomes(app).await, [("MENTIONED_YOU_SOCIAL", "AWARDED", 25)]);
        let recorded = activities(app).await;
        assert_eq!(recorded[0].person.as_deref(), Some(OPEN_ID));
        assert_eq!(recorded[0].properties.parse::<Value>().unwrap()["like_count"], 5);
        let query = tiktok.asked(USER)[0].query.clone();
        assert_eq!(query, "fields=open_id,avatar_url,display_name,username,bio_description,is_verified,follower_count,following_count");
    }
}

on_both! {
    options: options().await,
    async fn g8_a_new_refresh_token_is_stored_before_it_is_used(app: &TestApp) {
        let site = shop(app).await;
        logged_in(app, &site).await;
        let tiktok = Tiktok::of(app);
        poll(app).await;
        let first = login(app).await;
        assert_eq!(opened(app, first.refresh_token.as_ref()), "rft.1");

        // Whatever goes wrong after the renewal, the new tokens are there.
        app.clock.advance_ms(2 * HOUR);
        tiktok.next(USER, 500, json!({}));
        poll(app).await;
        let renewed = login(app).await;
        assert_eq!(opened(app, renewed.token.as_ref()), "act.2");
        assert_eq!(opened(app, renewed.refresh_token.as_ref()), "rft.2");
        assert_eq!(renewed.token_expires_at, app.app.db.now().plus_ms(2 * HOUR));
        assert_eq!(renewed.dead_since, None);

        app.clock.advance_ms(2 * HOUR);
        poll(app).await;
        assert_eq!(opened(app, login(app).await.refresh_token.as_ref()), "rft.3");
        assert_eq!(tiktok.asked(TOKENS).len(), 3);
        let rows = dump(&app.app.db).await.join("\n");
        for secret in ["act.3", "rft.3", "rft.2"] {
            assert!(!rows.contains(secret), "{secret} is stored unsealed");
        }
    }
}

on_both! {
    options: options().await,
    async fn g8_two_who_look_at_once_renew_once(app: &TestApp) {
        let site = shop(app).await;
        logged_in(app, &site).await;
        poll(app).await;
        app.clock.advance_ms(3 * HOUR);
        let polled = tokio::join!(poll(app), poll(app), poll(app));
        assert_eq!(polled.0 + polled.1 + polled.2, 1);
        assert_eq!(Tiktok::of(app).asked(TOKENS).len(), 2);
        assert_eq!(login(app).await.dead_since, None);
    }
}

on_both! {
    options: options().await,
    async fn a_dead_login_is_asked_no_more_until_the_member_logs_in_again(app: &TestApp) {
        let site = shop(app).await;
        let mia = logged_in(app, &site).await;
        poll(app).await;
        app.clock.advance_ms(3 * HOUR);
        let tiktok = Tiktok::of(app);
        tiktok.next(TOKENS, 400, payload("oauth_error"));
        poll(app).await;
        let dead = login(app).await;
        assert_eq!((dead.token, dead.refresh_token, dead.dead_since), (None, None, Some(app.app.db.now())));
        app.clock.advance_ms(3 * HOUR);
        assert_eq!(poll(app).await, 0);

        let mia_again = app.call("POST", &format!("/admin/v1/members/{}/tokens", mia.id));
        let tokens = mia_again.key(crate::support::ADMIN_KEY, &site.id).ok().await;
        let mia = Member { token: text(&tokens["access_token"]), ..mia };
        let state = begin(app, &mia).await["state"].clone();
        finish(app, &mia, &state, CODE).await;
        assert_eq!(login(app).await.dead_since, None);
        assert_eq!(poll(app).await, 1);
    }
}

on_both! {
    options: options().await,
    async fn who_takes_back_the_permission_is_unlinked(app: &TestApp) {
        let site = shop(app).await;
        // What was sent before the login has nothing to do with it.
        let removed = payload_text("webhook_authorization_removed");
        app.clock.advance_ms(1000);
        logged_in(app, &site).await;
        poll(app).await;
        work(app).await;
        send(app, DEVELOPER, DEVELOPER_SECRET, removed.as_bytes()).await;
        work(app).await;
        assert_eq!(login(app).await.dead_since, None);
        assert_eq!(states(app).await.last().unwrap().2, "nobody is logged in with it");

        let mut call = payload("webhook_authorization_removed_reason_text");
        call["create_time"] = json!(app.app.db.now().seconds());
        send(app, DEVELOPER, DEVELOPER_SECRET, call.to_string().as_bytes()).await;
        work(app).await;
        let dead = login(app).await;
        assert_eq!((dead.token, dead.refresh_token, dead.dead_since), (None, None, Some(app.app.db.now())));
        let row = handles(app).await.remove(0);
        assert_eq!((row.handle.as_str(), row.person, row.proven_at, row.proven_by), ("miarunsoslo", None, None, None));
        let (kind, status, reason) = states(app).await.pop().unwrap();
        assert_eq!((kind.as_str(), status, reason.as_str()), ("authorization_removed", ItemStatus::Done, "the member's login has ended"));
    }
}

on_both! {
    options: options().await,
    async fn g7_without_the_profile_nothing_is_proven(app: &TestApp) {
        let site = shop(app).await;
        let tiktok = Tiktok::of(app);
        tiktok.allow("user.info.basic,video.list");
        tiktok.always(USER, 200, payload("user_info_basic_scope"));
        let mia = logged_in(app, &site).await;
        app.claim_on_tiktok(&site, &mia, "miarunsoslo").await;
        poll(app).await;
        app.clock.advance_ms(HOUR);
        tiktok.always(VIDEOS, 200, videos(app, &["#nordbrewcoffee"]));
        poll(app).await;
        work(app).await;
        assert_eq!(handles(app).await[0].person, None);
        let recorded = activities(app).await;
        assert_eq!((recorded[0].person.as_deref(), recorded[0].handle.as_deref()), (None, Some("miarunsoslo")));
        assert_eq!(tiktok.asked(USER)[0].query, "fields=open_id,avatar_url,display_name");
    }
}

on_both! {
    options: options().await,
    async fn g7_the_first_proof_of_a_handle_wins(app: &TestApp) {
        let site = shop(app).await;
        let mia = logged_in(app, &site).await;
        poll(app).await;
        let twin = app.member(&site, "twin").await;
        app.claim_on_tiktok(&site, &twin, "miarunsoslo").await;
        let state = begin(app, &twin).await["state"].clone();
        finish(app, &twin, &state, CODE).await;
        poll(app).await;
        let proven: Vec<_> = handles(app).await.into_iter().filter(|row| row.person.is_some()).collect();
        assert_eq!(proven.len(), 1);
        assert_eq!(proven[0].member_id.0.to_string(), mia.id);
    }
}

on_both! {
    options: options().await,
    async fn who_is_logged_in_is_known_by_what_they_write(app: &TestApp) {
        let site = shop(app).await;
        connect(app, &site).await;
        let mia = logged_in(app, &site).await;
        poll(app).await;
        work(app).await;
        let whose = async || activities(app).await.pop().unwrap().member_id.map(|id| id.0.to_string());
        // What is commented comes without a name, which the message under the same id tells.
        for name in ["business_webhook_im_receive_msg", "business_webhook_comment_update"] {
            business_with(app, name, |content| content["unique_identifier"] = json!("u_mia")).await;
            assert_eq!(whose().await.as_ref(), Some(&mia.id), "{name}");
        }
        assert_eq!(handles(app).await[0].person.as_deref(), Some(OPEN_ID), "the login stays the proof");
    }
}

on_both! {
    options: options().await,
    async fn g7_a_login_wakes_what_waited_for_the_handle(app: &TestApp) {
        let site = shop(app).await;
        reward_mentions(app, &site).await;
        push(app, &site, &json!({"items": [post(app, "miarunsoslo", 2, 1)]})).await;
        work(app).await;
        let mia = logged_in(app, &site).await;
        poll(app).await;
        work(app).await;
        assert_eq!(app.account(&mia).await["points"]["balance"], 25);
    }
}

on_both! {
    options: options().await,
    async fn g6_a_login_that_did_not_begin_here_is_refused(app: &TestApp) {
        let site = shop(app).await;
        let mia = app.member(&site, "mia").await;
        let state = begin(app, &mia).await["state"].clone();
        let mut changed = state.clone().into_bytes();
        changed[40] = if changed[40] == b'A' { b'B' } else { b'A' };
        for wrong in ["x", "%", &"A".repeat(2_000), &"A".repeat(5_000), &String::from_utf8(changed).unwrap()] {
            let answer = come_back(app, &[("state", wrong), ("code", CODE)]).await;
            assert_eq!(answer.status.as_u16(), 400, "{wrong}");
            assert!(answer.text.contains("unknown or took too long"), "{}", answer.text);
            assert_eq!(complete(app, &mia, wrong, CODE).await.status.as_u16(), 400, "{wrong}");
        }
        assert_eq!(finish(app, &mia, &state, "another").await.error(), (428, "TIKTOK_UNAVAILABLE".to_owned()));
        for query in ["", "?code=x", "?state=x", "?state=%ff&code=%00", "?error=access_denied"] {
            let answer = app.call("GET", &format!("/connect/tiktok/callback{query}")).send().await;
            assert_eq!(answer.status.as_u16(), 400, "{query}");
        }
        assert_eq!(come_back(app, &[("state", &state)]).await.status.as_u16(), 400);
        let declined = come_back(app, &[("error", "<script>"), ("state", &state)]).await;
        assert_eq!(declined.status.as_u16(), 303);
        assert_eq!(declined.headers["location"], format!("{PAGE}&tiktokError=access_denied"));
        app.clock.advance_ms(HOUR / 4);
        let late = complete(app, &mia, &state, CODE).await;
        assert_eq!(late.violations(), [("state".to_owned(), "FORMAT".to_owned())], "it took too long");
        let all = member_login::Entity::find().all(app.app.db.read()).await.unwrap();
        assert!(all.is_empty());
    }
}

on_both! {
    async fn without_an_app_nobody_logs_in(app: &TestApp) {
        let site = shop(app).await;
        let mia = app.member(&site, "mia").await;
        let answer = try_beginning(app, &mia, PAGE).await;
        assert_eq!(answer.error(), (428, "TIKTOK_NOT_CONFIGURED".to_owned()));
        assert_eq!(poll(app).await, 0);
    }
}

on_both! {
    options: options().await,
    /// Somebody who is talked into another member's login gives nothing away.
    async fn g7_a_login_is_ended_by_the_member_who_began_it(app: &TestApp) {
        let site = shop(app).await;
        let mallory = app.member(&site, "mallory").await;
        let mia = app.member(&site, "mia").await;
        let state = begin(app, &mallory).await["state"].clone();
        let refused = finish(app, &mia, &state, CODE).await;
        assert_eq!(refused.violations(), [("state".to_owned(), "FORMAT".to_owned())]);
        // Nor does a member of another site with the same name.
        let other = shop(app).await;
        let twin = app.member(&other, "mallory").await;
        assert_eq!(complete(app, &twin, &state, CODE).await.status.as_u16(), 400);
        assert!(Tiktok::of(app).asked(TOKENS).is_empty(), "the code was not used");
        assert_eq!(member_login::Entity::find().all(app.app.db.read()).await.unwrap(), []);
    }
}

on_both! {
    options: options().await,
    async fn a_login_leads_back_to_a_page_of_the_site_only(app: &TestApp) {
        let site = shop(app).await;
        let mia = app.member(&site, "mia").await;
        for page in [
            "",
            "/me",
            "https://nordbrew.example.evil.example/me",
            "https://nordbrew.example:444/me",
            "http://nordbrew.example/me",
            "javascript:alert(1)",
            "data:text/html,x",
            "https://evil.example/?https://nordbrew.example",
            "https://nordbrew.example@evil.example/",
        ] {
            let answer = try_beginning(app, &mia, page).await;
            assert_eq!(answer.violations(), [("returnUrl".to_owned(), "FORMAT".to_owned())], "{page}");
        }
        // Another site's front-end is none of this one.
        let other = app.site().await;
        let stranger = app.member(&other, "mia").await;
        assert_eq!(try_beginning(app, &stranger, PAGE).await.status.as_u16(), 400);
    }
}
