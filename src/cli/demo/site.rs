//! The site to play with, made as an owner would make it: through the admin API.

use followpoints::webhooks::EventType;
use serde_json::{Value, json};

use super::client::{Api, Call, Credentials};
use super::receiver::{Receiver, Verifier};

/// Where followed channels are listed and made.
pub(super) const FOLLOWED_CHANNELS: &str = "/loyalty-social-media/v1/followed-channels";
/// Where a member sees its points.
pub(super) const MY_ACCOUNT: &str = "/loyalty-accounts/v1/accounts/my-account";
/// The channel that the member follows.
pub(super) const FOLLOWED: &str = "X";
/// The channel that the member follows on Instagram.
pub(super) const SOCIAL_CHANNEL: &str = "INSTAGRAM";
/// The brand's hashtag, and the points for a post with it.
pub(super) const TAG: &str = "#NordbrewCoffee";
pub(super) const POST_POINTS: i64 = 25;
/// A channel that the owner has not enabled.
pub(super) const OFF: &str = "TIKTOK";

const NAME: &str = "Nordbrew";
const MEMBER_NAME: &str = "Example Member";
const HANDLE: &str = "nordbrew";
/// The channels and their points; one without is off.
const CHANNELS: [(&str, Option<i64>); 5] = [
    (FOLLOWED, Some(50)),
    (SOCIAL_CHANNEL, Some(30)),
    ("FACEBOOK", Some(20)),
    ("LINKEDIN", None),
    (OFF, None),
];
/// Generous, so that a machine busy with a build does not turn the first try into a resend a minute later.
const WEBHOOK_TIMEOUT_MS: i32 = 5_000;

/// The seeded site and whoever has to do with it.
pub(super) struct Site {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) member_id: String,
    pub(super) member_name: String,
    /// The member, signed in.
    pub(super) member: Credentials,
    /// The owner's key.
    pub(super) key: Credentials,
    /// The front-end.
    pub(super) client_id: String,
    pub(super) app_id: String,
    pub(super) app_secret: String,
    /// The app's installation on the site.
    pub(super) instance_id: String,
    /// The key that signs the app's webhooks.
    pub(super) key_id: String,
    pub(super) subscription_id: String,
    /// The social-media settings as the service has them.
    channels: Vec<Value>,
}

impl Site {
    /// The member's call that follows `channel`.
    pub(super) fn follow(&self, channel: &str) -> Call<'_> {
        let body = json!({"followedChannel": {"channel": channel}});
        Call::post(FOLLOWED_CHANNELS, &self.member, Some(body))
    }

    /// Points for following `channel`, or `None` if it is off.
    pub(super) fn points(&self, channel: &str) -> Option<i64> {
        points_of(&self.channels, channel)
    }

    /// The channels for people.
    pub(super) fn channels_in_words(&self) -> String {
        let words: Vec<String> = CHANNELS
            .iter()
            .map(|(channel, _)| match self.points(channel) {
                Some(points) => format!("{channel} {points} points"),
                None => format!("{channel} off"),
            })
            .collect();
        words.join(", ")
    }
}

/// Makes the site, its member, its front-end and its app, and starts the app's receiver.
pub(super) async fn seed(api: &Api, admin_key: &str) -> Result<(Site, Receiver), String> {
    let operator = Credentials { authorization: admin_key.to_owned(), site: None };
    let site = create(api, &operator, "sites", json!({"site": {"name": NAME}})).await?;
    let id = text(&site, "/site/id")?;
    let key = Credentials { authorization: admin_key.to_owned(), site: Some(id.clone()) };
    let activate = Call::post("/loyalty-programs/v1/program/activate", &key, None);
    api.get_ok(&activate).await?;
    let channels = set_channels(api, &key).await?;

    let person = json!({"externalId": "u-1", "email": "member@example.com", "name": MEMBER_NAME});
    let member = create(api, &key, "members", json!({"member": person})).await?;
    let member_id = text(&member, "/member/id")?;
    let tokens = Call::post(format!("/admin/v1/members/{member_id}/tokens"), &key, None);
    let tokens = api.get_ok(&tokens).await?;

    let front_end = json!({"oauthClient": {"name": "Shop front-end"}});
    let front_end = create(api, &key, "oauth-clients", front_end).await?;
    let app = create(api, &key, "apps", json!({"app": {"name": "CRM sync"}})).await?;
    let app_id = text(&app, "/app/id")?;
    let instance = create(api, &key, "app-instances", json!({"appInstance": {"appId": app_id}})).await?;

    let key_id = text(&app, "/app/keyId")?;
    let verifier = Verifier::new(&app_id, &key_id, &text(&app, "/app/publicKey")?)?;
    let receiver = Receiver::start(verifier).await?;
    let subscription = json!({"webhookSubscription": {
        "appId": app_id,
        "eventTypes": ["wix.loyalty.*", EventType::ActivityRecorded.as_str()],
        "url": receiver.url,
        "timeoutMs": WEBHOOK_TIMEOUT_MS,
    }});
    let subscription = create(api, &key, "webhook-subscriptions", subscription).await?;
    let site = Site {
        id,
        name: text(&site, "/site/name")?,
        member_id,
        member_name: text(&member, "/member/name")?,
        member: Credentials { authorization: text(&tokens, "/access_token")?, site: None },
        client_id: text(&front_end, "/oauthClient/id")?,
        app_secret: text(&app, "/appSecret")?,
        instance_id: text(&instance, "/appInstance/id")?,
        subscription_id: text(&subscription, "/webhookSubscription/id")?,
        key,
        app_id,
        key_id,
        channels,
    };
    Ok((site, receiver))
}

async fn create(api: &Api, caller: &Credentials, things: &str, body: Value) -> Result<Value, String> {
    let call = Call::post(format!("/admin/v1/{things}"), caller, Some(body));
    api.get_ok(&call).await
}

/// Sets all five channels; gives them back as the service then has them.
async fn set_channels(api: &Api, key: &Credentials) -> Result<Vec<Value>, String> {
    let channels: Vec<Value> = CHANNELS
        .iter()
        .map(|(channel, points)| match points {
            Some(points) => json!({"type": channel, "enabled": true, "id": HANDLE, "points": points}),
            None => json!({"type": channel, "enabled": false}),
        })
        .collect();
    let body = json!({"socialMediaSettings": {"channels": channels}});
    let settings = api.get_ok(&Call::patch("/admin/v1/social-media-settings", key, body)).await?;
    let channels = settings.pointer("/socialMediaSettings/channels").and_then(Value::as_array);
    let channels = channels.ok_or_else(|| format!("the settings have no channels: {settings}"))?;
    if CHANNELS.iter().any(|(channel, wanted)| points_of(channels, channel) != *wanted) {
        return Err(format!("the settings are not what was set: {settings}"));
    }
    Ok(channels.clone())
}

fn points_of(channels: &[Value], channel: &str) -> Option<i64> {
    let settings = channels.iter().find(|settings| settings["type"] == channel)?;
    settings["enabled"].as_bool()?.then(|| settings["points"].as_i64())?
}

fn text(body: &Value, pointer: &str) -> Result<String, String> {
    let value = body.pointer(pointer).and_then(Value::as_str);
    value.map(str::to_owned).ok_or_else(|| format!("the answer has no {pointer}: {body}"))
}
