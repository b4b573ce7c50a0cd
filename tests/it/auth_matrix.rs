//! Every operation of the OpenAPI document with every kind of caller. An operation without a row fails the test, and
//! every row is really requested.

use serde_json::json;

use crate::on_both;
use crate::support::callers::{Everything, READ, Sample};
use crate::support::client::Answer;
use crate::support::document::{Operation, operations};
use crate::support::world::text;
use crate::support::{ADMIN_KEY, START, TestApp, keys};

const CALLERS: [&str; 11] = [
    "nobody",
    "a garbage token",
    "a visitor",
    "a member",
    "an app instance",
    "a reading key",
    "a managing key",
    "a site-admin key",
    "a site-admin key of another site",
    "an instance key without a site",
    "an instance key with the site",
];

/// What each of [`CALLERS`] gets.
type Row = [&'static str; 11];

const OK: &str = "200";
/// Not recognised.
const UN: &str = "401 UNAUTHENTICATED";
/// Recognised, but may not.
const NO: &str = "403 PERMISSION_DENIED";
/// `wix-site-id` is not the key's site.
const SITE: &str = "404 SITE_NOT_FOUND";
/// `wix-site-id` is missing.
const WHICH: &str = "400 wix-site-id REQUIRED_FIELD";
/// Without a site the instance-wide keys are meant.
const NOT_IT: &str = "404 API_KEY_NOT_FOUND";

const OPEN: Row = [OK; 11];
const OPERATOR: Row = [UN, UN, NO, NO, NO, NO, NO, NO, SITE, OK, OK];
const ANY_ADMIN: Row = [UN, UN, NO, NO, NO, NO, NO, OK, SITE, OK, OK];
const SITE_ADMIN: Row = [UN, UN, NO, NO, NO, NO, NO, OK, SITE, WHICH, OK];
const SITE_KEYS: Row = [UN, UN, NO, NO, NO, NO, NO, OK, SITE, NOT_IT, OK];
const EVERYBODY: Row = [UN, UN, OK, OK, OK, OK, OK, OK, SITE, WHICH, OK];
const OWN_OR_READ: Row = [UN, UN, NO, OK, OK, OK, OK, OK, SITE, WHICH, OK];
const OWN_OR_MANAGE: Row = [UN, UN, NO, OK, OK, NO, OK, OK, SITE, WHICH, OK];
const ONLY_MEMBER: Row = [UN, UN, NO, OK, NO, NO, NO, NO, SITE, NO, NO];
const READ_ONLY: Row = [UN, UN, NO, NO, OK, OK, OK, OK, SITE, WHICH, OK];
const MANAGE: Row = [UN, UN, NO, NO, OK, NO, OK, OK, SITE, WHICH, OK];

const ROWS: &[(&str, Row)] = &[
    ("getWebhookKeys", OPEN),
    ("getHealth", OPEN),
    ("getReadiness", OPEN),
    ("getMetrics", OPEN),
    ("getOpenapiDocument", OPEN),
    ("createToken", OPEN),
    ("createAccessToken", OPEN),
    ("getTokenInfo", OPEN),
    ("getAccessTokenKeys", OPEN),
    ("createSite", OPERATOR),
    ("listSites", ANY_ADMIN),
    ("getSite", ANY_ADMIN),
    ("updateSite", ANY_ADMIN),
    ("createApiKey", ANY_ADMIN),
    ("listApiKeys", ANY_ADMIN),
    ("deleteApiKey", SITE_KEYS),
    ("createApp", ANY_ADMIN),
    ("listApps", ANY_ADMIN),
    ("getApp", ANY_ADMIN),
    ("rotateAppKey", ANY_ADMIN),
    ("rotateAppSecret", ANY_ADMIN),
    ("createAppInstance", SITE_ADMIN),
    ("listAppInstances", SITE_ADMIN),
    ("getAppInstance", SITE_ADMIN),
    ("deleteAppInstance", SITE_ADMIN),
    ("createOauthClient", SITE_ADMIN),
    ("listOauthClients", SITE_ADMIN),
    ("getOauthClient", SITE_ADMIN),
    ("updateOauthClient", SITE_ADMIN),
    ("deleteOauthClient", SITE_ADMIN),
    ("getSiteAuth", SITE_ADMIN),
    ("updateSiteAuth", SITE_ADMIN),
    ("getSocialMediaSettings", SITE_ADMIN),
    ("updateSocialMediaSettings", SITE_ADMIN),
    ("createMember", SITE_ADMIN),
    ("listMembers", SITE_ADMIN),
    ("getMember", SITE_ADMIN),
    ("updateMember", SITE_ADMIN),
    ("createMemberTokens", SITE_ADMIN),
    ("deleteMemberTokens", SITE_ADMIN),
    ("getMemberProfile", SITE_ADMIN),
    ("updateMemberProfile", SITE_ADMIN),
    ("listFollowedChannelsOfSite", SITE_ADMIN),
    ("getMyProfile", ONLY_MEMBER),
    ("updateMyProfile", ONLY_MEMBER),
    ("createLinkCode", ONLY_MEMBER),
    ("listMyChannels", ONLY_MEMBER),
    ("createTiktokHashtag", SITE_ADMIN),
    ("listTiktokHashtags", SITE_ADMIN),
    ("deleteTiktokHashtag", SITE_ADMIN),
    ("pushTiktokPosts", MANAGE),
    ("handInTiktokPost", ONLY_MEMBER),
    ("beginTiktokLogin", ONLY_MEMBER),
    ("completeTiktokLogin", ONLY_MEMBER),
    ("createWebhookSubscription", SITE_ADMIN),
    ("listWebhookSubscriptions", SITE_ADMIN),
    ("getWebhookSubscription", SITE_ADMIN),
    ("getWebhookBacklog", SITE_ADMIN),
    ("updateWebhookSubscription", SITE_ADMIN),
    ("testWebhookSubscription", SITE_ADMIN),
    ("rotateWebhookSubscriptionSecret", SITE_ADMIN),
    ("deleteWebhookSubscription", SITE_ADMIN),
    ("replayWebhookSubscription", SITE_ADMIN),
    ("dryRunWebhookSubscription", SITE_ADMIN),
    ("exportWebhookDeliveries", SITE_ADMIN),
    ("listWebhookReplays", SITE_ADMIN),
    ("getWebhookReplay", SITE_ADMIN),
    ("cancelWebhookReplay", SITE_ADMIN),
    ("listWebhookDeliveries", SITE_ADMIN),
    ("getWebhookDelivery", SITE_ADMIN),
    ("redeliverWebhookDelivery", SITE_ADMIN),
    ("cancelWebhookDelivery", SITE_ADMIN),
    ("listEvents", SITE_ADMIN),
    ("getEvent", SITE_ADMIN),
    ("expungeEvents", SITE_ADMIN),
    ("createConnectionInvitation", SITE_ADMIN),
    ("listConnectionInvitations", SITE_ADMIN),
    ("getConnectionInvitation", SITE_ADMIN),
    ("deleteConnectionInvitation", SITE_ADMIN),
    ("listConnections", SITE_ADMIN),
    ("getConnection", SITE_ADMIN),
    ("deleteConnection", SITE_ADMIN),
    ("replyToInstagramMention", SITE_ADMIN),
    ("createActivityRule", SITE_ADMIN),
    ("listActivityRules", SITE_ADMIN),
    ("getActivityRule", SITE_ADMIN),
    ("updateActivityRule", SITE_ADMIN),
    ("deleteActivityRule", SITE_ADMIN),
    ("listActivities", SITE_ADMIN),
    ("getActivity", SITE_ADMIN),
    ("listSourceItems", SITE_ADMIN),
    ("listMyActivities", ONLY_MEMBER),
    ("listFollowedChannels", EVERYBODY),
    ("createFollowedChannel", OWN_OR_MANAGE),
    ("createAccount", MANAGE),
    ("getAccount", OWN_OR_READ),
    ("getAccountBySecondaryId", READ_ONLY),
    ("getCurrentMemberAccount", ONLY_MEMBER),
    ("getLoyaltyProgram", EVERYBODY),
    ("updateLoyaltyProgram", MANAGE),
    ("activateLoyaltyProgram", MANAGE),
    ("pauseLoyaltyProgram", MANAGE),
];

/// The `Authorization` header of each of [`CALLERS`] and whether it names the site beside it.
fn credentials<'a>(own: &'a Everything, other: &'a Everything) -> [(&'a str, bool); 11] {
    [
        ("", false),
        ("fpk_garbage", false),
        (&own.visitor, false),
        (&own.member.token, false),
        (&own.app_token, false),
        (&own.reader.secret, false),
        (&own.manager.secret, false),
        (&own.admin.secret, false),
        (&other.admin.secret, true),
        (ADMIN_KEY, false),
        (ADMIN_KEY, true),
    ]
}

/// Who may not call learns that, whatever else is wrong with the request.
async fn refusal_of_nonsense(
    app: &TestApp,
    operation: &Operation,
    headers: &[(&str, &str)],
    id: &str,
) -> String {
    let mut call = app.call(operation.method, &operation.uri(id, ""));
    for (name, value) in headers {
        call = call.header(name, value);
    }
    outcome(&call.text("application/json", "{").send().await)
}

/// What the operation asks for once more: the thing that it uses up is made anew.
async fn fresh(app: &TestApp, own: &Everything, operation: &str, caller: &str) -> Sample {
    let mut sample = own.sample(operation);
    match operation {
        "deleteApiKey" => sample.id = app.site_key(&own.site, READ).await.id,
        "deleteConnection" => sample.id = app.stored_connection(&own.site).await.id.to_string(),
        "deleteConnectionInvitation" => sample.id = app.invitation(&own.site).await,
        "deleteActivityRule" => sample.id = app.rule(&own.site).await,
        "deleteOauthClient" => sample.id = app.front_end(&own.site, &[]).await,
        "deleteTiktokHashtag" => {
            let body = json!({"tiktokHashtag": {"hashtag": "#again"}});
            let call = app.call("POST", "/admin/v1/tiktok-hashtags").key(ADMIN_KEY, &own.site.id).json(&body);
            sample.id = text(&call.ok().await["tiktokHashtag"]["id"]);
        }
        "deleteWebhookSubscription" | "replayWebhookSubscription" => {
            let event = "wix.loyalty.v1.account_created";
            sample.id = app.subscribe(&own.site, &own.app, &[event], &own.receiver.url).await;
        }
        "cancelWebhookDelivery" => {
            sample.id = app.waiting_delivery(&own.site, &own.subscription_id).await;
        }
        "createAccount" => {
            let member = app.member(&own.site, &format!("for {operation} by {caller}")).await;
            sample.body = Some(json!({"contactId": member.contact_id}));
        }
        "createFollowedChannel" if caller != "a member" => {
            let member = app.member(&own.site, &format!("for {operation} by {caller}")).await;
            let account = app.new_account(&own.site, &member).await;
            sample.body = Some(json!({"followedChannel": {"channel": "X", "accountId": account}}));
        }
        _ => {}
    }
    sample
}

/// Status and code, or status, field and rule.
fn outcome(answer: &Answer) -> String {
    let status = answer.status.as_u16();
    if status == 200 {
        return OK.to_owned();
    }
    let (_, code) = answer.error();
    if !code.is_empty() {
        return format!("{status} {code}");
    }
    match answer.violations().as_slice() {
        [(field, rule)] => format!("{status} {field} {rule}"),
        _ => format!("{status} {}", answer.text),
    }
}

#[test]
fn every_operation_has_one_row_and_every_row_an_operation() {
    let mut operations: Vec<_> = operations().iter().map(|operation| operation.id).collect();
    let mut rows: Vec<_> = ROWS.iter().map(|(operation, _)| *operation).collect();
    operations.sort_unstable();
    rows.sort_unstable();
    assert_eq!(operations, rows, "left the document, right the rows of tests/it/auth_matrix.rs");
}

on_both! {
    options: crate::support::platforms_stood_in().await,
    async fn g5_every_caller_may_do_what_the_table_says_and_nothing_else(app: &TestApp) {
        app.show_a_new_post_on_tiktok();
        let (own, other) = (app.everything().await, app.everything().await);
        let spare = text(&app.app_of(&own.admin).await["app"]["id"]);
        let mut wrong = Vec::new();
        for operation in operations() {
            let (_, row) = ROWS.iter().find(|(id, _)| *id == operation.id).unwrap();
            for (index, (authorization, names_site)) in credentials(&own, &other).into_iter().enumerate() {
                app.call("POST", "/loyalty-programs/v1/program/activate")
                    .key(ADMIN_KEY, &own.site.id)
                    .ok()
                    .await;
                let mut sample = if row[index] == OK {
                    fresh(app, &own, operation.id, CALLERS[index]).await
                } else {
                    own.sample(operation.id)
                };
                if operation.id == "deleteAppInstance" && row[index] == OK {
                    sample.id = app.install(&own.site, &own.admin.secret, &spare).await;
                }
                let mut headers = Vec::new();
                if !authorization.is_empty() {
                    headers.push(("authorization", authorization));
                }
                if names_site {
                    headers.push(("wix-site-id", own.site.id.as_str()));
                }
                if [UN, NO, SITE].contains(&row[index]) && sample.body.is_some() {
                    let refused = refusal_of_nonsense(app, &operation, &headers, &sample.id).await;
                    if refused != row[index] {
                        wrong.push(format!("{} with nonsense by {}: {refused}", operation.id, CALLERS[index]));
                    }
                }
                let mut call = app.call(operation.method, &operation.uri(&sample.id, &sample.query));
                for (name, value) in headers {
                    call = call.header(name, value);
                }
                if let Some(body) = &sample.body {
                    call = call.json(body);
                }
                let outcome = outcome(&call.send().await);
                if outcome != row[index] {
                    wrong.push(format!(
                        "{} by {}: {outcome}, not {}",
                        operation.id, CALLERS[index], row[index]
                    ));
                }
            }
        }
        assert_eq!(wrong, Vec::<String>::new());
    }
}

/// What a member has used up by having done it once.
const ONCE: &[(&str, &str)] = &[("createFollowedChannel", "409 ALREADY_EXISTS")];

on_both! {
    options: crate::support::platforms_stood_in().await,
    async fn g5_a_member_with_the_sites_own_token_may_do_what_a_member_may(app: &TestApp) {
        app.show_a_new_post_on_tiktok();
        let all = app.everything().await;
        let trusted = all.sample("updateSiteAuth").body.unwrap();
        app.call("PATCH", "/admin/v1/site-auth").key(ADMIN_KEY, &all.site.id).json(&trusted).ok().await;
        let now = START.0 / 1000;
        let claims = json!({"iss": "https://id.example", "aud": "shop", "sub": "u-1", "iat": now, "exp": now + 600});
        let token = keys::hmac(keys::HMAC_SECRET.as_bytes()).sign(&claims);
        let mut wrong = Vec::new();
        for operation in operations() {
            let (_, row) = ROWS.iter().find(|(id, _)| *id == operation.id).unwrap();
            let member = CALLERS.iter().position(|caller| *caller == "a member").unwrap();
            for (authorization, is_again) in [(&all.member.token, false), (&token, true)] {
                let sample = if row[member] == OK {
                    fresh(app, &all, operation.id, CALLERS[member]).await
                } else {
                    all.sample(operation.id)
                };
                let mut call = app.call(operation.method, &operation.uri(&sample.id, &sample.query));
                call = call.auth(authorization);
                if let Some(body) = &sample.body {
                    call = call.json(body);
                }
                let outcome = outcome(&call.send().await);
                let once = ONCE.iter().find(|(id, _)| is_again && *id == operation.id);
                let expected = once.map_or(row[member], |(_, again)| again);
                if outcome != expected {
                    wrong.push(format!("{} (again: {is_again}): {outcome}, not {expected}", operation.id));
                }
            }
        }
        assert_eq!(wrong, Vec::<String>::new());
    }
}
