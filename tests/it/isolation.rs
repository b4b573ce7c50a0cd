//! G5: what belongs to one site, its members and its apps is neither read nor changed by another's, and a foreign
//! id is answered exactly like one that nothing has.

use entity::id::ReplayId;
use entity::kinds::ReplayStatus;
use entity::replay;
use sea_orm::sea_query::Expr;
use sea_orm::{ColumnTrait as _, EntityTrait as _, QueryFilter as _};
use serde_json::{Value, json};

use crate::on_both;
use crate::support::callers::{Everything, Sample, UNKNOWN_ID};
use crate::support::client::Answer;
use crate::support::document::{Operation, operations};
use crate::support::dump::dump;
use crate::support::world::text;
use crate::support::{ADMIN_KEY, TestApp};

/// Operations that take an id and are open to everybody: the public keys of every app are published to the world, and
/// the token endpoint knows front-ends and apps of every site by nothing but their id and secret.
const OPEN: [&str; 3] = ["getWebhookKeys", "createToken", "createAccessToken"];

/// Whether the operation takes an id anywhere: in its path, query or body.
fn takes_an_id(operation: &Operation, sample: &Sample) -> bool {
    let named = |name: &str| name.ends_with("Id") && name != "externalId";
    let in_query = sample.query.split(['?', '&', '=']).any(named);
    let body = sample.body.as_ref().map(Value::to_string).unwrap_or_default();
    let in_body = body.split('"').any(named);
    operation.path.contains("{id}") || in_query || in_body
}

/// The sample with each of the ids that `from` has replaced by what `to` gives for it.
fn with_ids(sample: &Sample, ids: &[String], to: impl Fn(usize) -> String) -> Sample {
    let replace = |text: &str| {
        ids.iter()
            .enumerate()
            .fold(text.to_owned(), |text, (index, id)| text.replace(id.as_str(), &to(index)))
    };
    let body = sample.body.as_ref().map(|body| serde_json::from_str(&replace(&body.to_string())).unwrap());
    Sample { id: replace(&sample.id), query: replace(&sample.query), body }
}

/// Every id that a sample of this site can hold.
fn ids(all: &Everything) -> Vec<String> {
    [
        &all.site.id,
        &all.member.id,
        &all.member.contact_id,
        &all.account_id,
        &all.front_end,
        &all.app.id,
        &all.app.instance_id,
        &all.reader.id,
        &all.subscription_id,
        &all.event_id,
        &all.delivery_id,
        &all.replay_id,
        &all.hashtag_id,
        &all.waiting_id,
        &all.invitation_id,
        &all.connection_id,
        &all.mention_id,
        &all.activity_id,
        &all.rule_id,
    ]
    .map(String::clone)
    .to_vec()
}

async fn send(app: &TestApp, operation: &Operation, (auth, site): (&str, &str), sample: &Sample) -> Answer {
    let mut call = app.call(operation.method, &operation.uri(&sample.id, &sample.query)).auth(auth);
    if !site.is_empty() {
        call = call.header("wix-site-id", site);
    }
    if let Some(body) = &sample.body {
        call = call.json(body);
    }
    call.send().await
}

/// Has the site's replay run, so that to cancel it would change something, and nobody go on with it.
async fn run_replay(app: &TestApp, all: &Everything) {
    app.app.dispatcher.stop().await;
    let tx = app.app.db.write().await.unwrap();
    let changed = replay::Entity::update_many()
        .col_expr(replay::Column::Status, Expr::val(ReplayStatus::Running.as_str()))
        .col_expr(replay::Column::FinishedAt, Expr::val(None::<i64>))
        .filter(replay::Column::Id.eq(ReplayId(all.replay_id.parse().unwrap())));
    assert_eq!(changed.exec(tx.conn()).await.unwrap().rows_affected, 1);
    tx.commit().await.unwrap();
}

fn unknown_id(index: usize) -> String {
    format!("01a1fae0-1eff-77b5-972a-09dcdce0{index:04}")
}

/// What the operator may do with any site's, by design: its apps, and sites themselves.
const OPERATORS: [&str; 7] = [
    "getApp",
    "rotateAppKey",
    "rotateAppSecret",
    "createAppInstance",
    "createWebhookSubscription",
    "getSite",
    "updateSite",
];

/// Every kind of caller of `other`: name, credentials, site header.
fn strangers(other: &Everything) -> [(&'static str, &str, &str); 7] {
    [
        ("the site's admin", &other.admin.secret, ""),
        ("its manager", &other.manager.secret, ""),
        ("its reader", &other.reader.secret, ""),
        ("its app", &other.app_token, ""),
        ("its member", &other.member.token, ""),
        ("its visitor", &other.visitor, ""),
        ("the operator", ADMIN_KEY, &other.site.id),
    ]
}

/// The answer without the ids that were asked for: messages may quote them, and nothing else of what is there.
fn blind(answer: &Answer, ids: &[String]) -> (u16, String) {
    let text = ids.iter().fold(answer.text.clone(), |text, id| text.replace(id.as_str(), "<id>"));
    (answer.status.as_u16(), text)
}

on_both! {
    async fn g5_a_foreign_id_is_answered_like_an_unknown_one_and_changes_nothing(app: &TestApp) {
        let (victim, other) = (app.everything().await, app.everything().await);
        let ids = ids(&victim);
        let unknown_ids: Vec<String> = (0..ids.len()).map(unknown_id).collect();
        run_replay(app, &victim).await;
        let before = dump(&app.app.db).await;
        let (mut wrong, mut asked) = (Vec::new(), 0);
        for operation in operations() {
            let sample = victim.sample(operation.id);
            if OPEN.contains(&operation.id) || !takes_an_id(&operation, &sample) {
                continue;
            }
            asked += 1;
            let nowhere = with_ids(&sample, &ids, unknown_id);
            assert_ne!(sample, nowhere, "{}: its id is not among those of the site", operation.id);
            for (who, auth, site) in strangers(&other) {
                // A member follows for itself, whatever it names.
                let is_own = operation.id == "createFollowedChannel" && who == "its member";
                if is_own || (who == "the operator" && OPERATORS.contains(&operation.id)) {
                    continue;
                }
                let foreign = blind(&send(app, &operation, (auth, site), &sample).await, &ids);
                let unknown = blind(&send(app, &operation, (auth, site), &nowhere).await, &unknown_ids);
                if foreign != unknown {
                    wrong.push(format!(
                        "{} by {who}: {foreign:?} for a foreign id, {unknown:?} for an unknown one",
                        operation.id
                    ));
                }
            }
        }
        assert_eq!(wrong, Vec::<String>::new());
        assert!(asked >= 28, "only {asked} operations that take an id were found");
        assert_eq!(dump(&app.app.db).await, before);
    }
}

on_both! {
    async fn g5_a_site_header_of_another_site_is_answered_like_an_unknown_one(app: &TestApp) {
        let (victim, other) = (app.site().await, app.everything().await);
        for operation in operations().iter().filter(|operation| operation.is_secured()) {
            let sample = other.sample(operation.id);
            let mut answers = Vec::new();
            for site in [victim.id.as_str(), UNKNOWN_ID] {
                let answer = send(app, operation, (&other.admin.secret, site), &sample).await;
                assert_eq!(answer.error(), (404, "SITE_NOT_FOUND".to_owned()), "{}", operation.id);
                answers.push(answer.text);
            }
            assert_eq!(answers[0], answers[1], "{}", operation.id);
        }
    }
}

on_both! {
    async fn g5_a_contact_of_another_site_is_as_unknown_as_nobody(app: &TestApp) {
        let (victim, other) = (app.everything().await, app.everything().await);
        let get = |contact: &str| {
            let path = format!("/loyalty-accounts/v1/accounts/fetch-by?contactId={contact}");
            app.call("GET", &path).auth(&other.reader.secret).send()
        };
        let foreign = get(&victim.member.contact_id).await;
        assert_eq!(foreign.error(), (404, "ACCOUNT_NOT_FOUND".to_owned()));
        assert_eq!(foreign.json(), get(UNKNOWN_ID).await.json());
        let own = get(&other.member.contact_id).await.json();
        assert_eq!(own["account"]["id"], json!(other.account_id));
    }
}

on_both! {
    async fn g5_a_member_reaches_its_own_account_only(app: &TestApp) {
        let all = app.everything().await;
        let neighbour = app.member(&all.site, "u-2").await;
        app.follow(&neighbour, "X").await;
        let own = app.account(&neighbour).await;
        let get = |id: &str| {
            app.call("GET", &format!("/loyalty-accounts/v1/accounts/{id}")).auth(&neighbour.token).send()
        };
        let foreign = get(&all.account_id).await;
        assert_eq!(foreign.error(), (404, "ACCOUNT_NOT_FOUND".to_owned()));
        assert_eq!(foreign.json(), get(UNKNOWN_ID).await.json());
        assert_eq!(get(own["id"].as_str().unwrap()).await.json(), json!({"account": own}));

        let path = format!("/loyalty-social-media/v1/followed-channels?accountId={}", all.account_id);
        let listed = app.call("GET", &path).auth(&neighbour.token).ok().await;
        assert_eq!(listed["followedChannels"].as_array().unwrap().len(), 1);
        assert_eq!(listed["followedChannels"][0]["accountId"], own["id"]);
    }
}

/// Every list of the admin API with the name of its items.
const LISTS: [(&str, &str); 17] = [
    ("/admin/v1/sites", "sites"),
    ("/admin/v1/api-keys", "apiKeys"),
    ("/admin/v1/apps", "apps"),
    ("/admin/v1/app-instances", "appInstances"),
    ("/admin/v1/oauth-clients", "oauthClients"),
    ("/admin/v1/members", "members"),
    ("/admin/v1/followed-channels", "followedChannels"),
    ("/admin/v1/tiktok-hashtags", "tiktokHashtags"),
    ("/admin/v1/webhook-subscriptions", "webhookSubscriptions"),
    ("/admin/v1/webhook-deliveries", "webhookDeliveries"),
    ("/admin/v1/webhook-replays", "webhookReplays"),
    ("/admin/v1/events", "events"),
    ("/admin/v1/connection-invitations", "invitations"),
    ("/admin/v1/connections", "connections"),
    ("/admin/v1/activities", "activities"),
    ("/admin/v1/activity-rules", "activityRules"),
    ("/admin/v1/source-items", "sourceItems"),
];

on_both! {
    async fn g5_lists_show_what_is_the_sites_own(app: &TestApp) {
        let (one, two) = (app.everything().await, app.everything().await);
        let lists = operations()
            .iter()
            .filter(|operation| {
                operation.method == "GET"
                    && operation.id.starts_with("list")
                    && operation.path.starts_with("/admin/")
            })
            .count();
        assert_eq!(lists, LISTS.len(), "the table has every list of the document");
        let all_ids = |items: &[Value]| items.iter().map(|item| text(&item["id"])).collect::<Vec<_>>();
        for (path, name) in LISTS {
            let mut seen: Vec<String> = Vec::new();
            for site in [&one, &two] {
                let body = app.call("GET", path).auth(&site.admin.secret).ok().await;
                let items = body[name].as_array().unwrap();
                assert!(!items.is_empty(), "{path}");
                seen.extend(all_ids(items));
            }
            let total = seen.len();
            seen.sort_unstable();
            seen.dedup();
            assert_eq!(seen.len(), total, "{path} shows something to both sites");
        }
    }
}

on_both! {
    async fn g5_an_app_of_a_site_is_invisible_elsewhere_and_the_operators_where_it_is_installed_is_not(
        app: &TestApp,
    ) {
        let (one, two) = (app.everything().await, app.site().await);
        let key = app.site_key(&two, crate::support::callers::SITE_ADMIN).await;
        let operators = app.installed_app(&one.site).await;
        let seen_by = |secret: &str| {
            let call = app.call("GET", "/admin/v1/apps").auth(secret);
            async move {
                let body = call.ok().await;
                body["apps"].as_array().unwrap().iter().map(|app| text(&app["id"])).collect::<Vec<_>>()
            }
        };
        let get =
            |id: &str, secret: &str| app.call("GET", &format!("/admin/v1/apps/{id}")).auth(secret).send();

        assert_eq!(seen_by(&one.admin.secret).await, [operators.id.clone(), one.app.id.clone()]);
        assert_eq!(seen_by(&key.secret).await, Vec::<String>::new());
        assert_eq!(seen_by(ADMIN_KEY).await, [operators.id.clone(), one.app.id.clone()]);
        for id in [&one.app.id, &operators.id] {
            assert_eq!(get(id, &key.secret).await.error(), (404, "APP_NOT_FOUND".to_owned()));
            assert_eq!(get(id, &one.admin.secret).await.status.as_u16(), 200);
        }
        // Seen, but not the site's to change.
        for what in ["rotate-key", "rotate-secret"] {
            let rotate = format!("/admin/v1/apps/{}/{what}", operators.id);
            let refused = app.call("POST", &rotate).auth(&one.admin.secret).json(&json!({})).send().await;
            assert_eq!(refused.error(), (404, "APP_NOT_FOUND".to_owned()), "{what}");
        }

        app.install(&two, ADMIN_KEY, &operators.id).await;
        assert_eq!(seen_by(&key.secret).await, [operators.id]);
    }
}

on_both! {
    async fn g5_the_same_external_id_is_another_member_on_another_site(app: &TestApp) {
        let (one, two) = (app.site().await, app.site().await);
        let (of_one, of_two) = (app.member(&one, "u-1").await, app.member(&two, "u-1").await);
        assert_ne!(of_one.id, of_two.id);
        app.follow(&of_one, "X").await;

        let nothing =
            app.call("GET", "/loyalty-social-media/v1/followed-channels").auth(&of_two.token).ok().await;
        assert_eq!(nothing, json!({"followedChannels": []}));
        app.follow(&of_two, "X").await;
        for member in [&of_one, &of_two] {
            assert_eq!(app.account(member).await["points"]["balance"], 50);
        }
    }
}

on_both! {
    async fn g5_a_cursor_of_one_site_shows_nothing_of_it_on_another(app: &TestApp) {
        let (one, two) = (app.site().await, app.site().await);
        for number in 0..3 {
            app.member(&one, &format!("one-{number}")).await;
            app.member(&two, &format!("two-{number}")).await;
        }
        let first = app.call("GET", "/admin/v1/members?limit=1").key(ADMIN_KEY, &one.id).ok().await;
        let cursor = text(&first["pagingMetadata"]["cursors"]["next"]);
        let path = format!("/admin/v1/members?cursor={cursor}");
        let elsewhere = app.call("GET", &path).key(ADMIN_KEY, &two.id).ok().await;
        let seen: Vec<String> =
            elsewhere["members"].as_array().unwrap().iter().map(|member| text(&member["externalId"])).collect();
        assert_eq!(seen, ["two-1", "two-0"], "those before the place in the list, newest first");
    }
}
