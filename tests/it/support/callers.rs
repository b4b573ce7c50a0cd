//! A site with one of everything, one of every kind of caller, and a valid request for every operation.

use entity::delivery;
use entity::id::{DeliveryId, EventId, SiteId, SubscriptionId};
use entity::kinds::DeliveryStatus;
use serde_json::{Value, json};

use super::TestApp;
use super::client::Answer;
use super::receiver::Receiver;
use super::sources::{guid, insert};
use super::tiktok::CODE;
use super::world::{ALL_EVENTS, InstalledApp, Member, Site, text};
use super::{ADMIN_KEY, keys};

pub const READ: &str = "SCOPE.DC-LOYALTY.READ-LOYALTY";
pub const MANAGE: &str = "SCOPE.DC-LOYALTY.MANAGE-LOYALTY";
pub const SITE_ADMIN: &str = "SCOPE.FOLLOWPOINTS.SITE-ADMIN";
pub const INSTANCE_ADMIN: &str = "SCOPE.FOLLOWPOINTS.INSTANCE-ADMIN";

/// An id that nothing has.
pub const UNKNOWN_ID: &str = "01a1fae0-1eff-77b5-972a-09dcdce0937d";

/// An API key.
pub struct ApiKey {
    pub id: String,
    pub secret: String,
}

/// A site with one of everything. The member follows X and INSTAGRAM.
pub struct Everything {
    pub site: Site,
    pub member: Member,
    pub account_id: String,
    pub front_end: String,
    pub visitor: String,
    pub visitor_refresh: String,
    pub app: InstalledApp,
    pub app_token: String,
    pub reader: ApiKey,
    pub manager: ApiKey,
    pub admin: ApiKey,
    pub subscription_id: String,
    /// Of its signatures in the headers.
    pub signing_secret: String,
    pub event_id: String,
    pub delivery_id: String,
    /// A delivery that waits for its next try.
    pub waiting_id: String,
    pub replay_id: String,
    pub invitation_id: String,
    pub connection_id: String,
    /// A mention on Instagram.
    pub mention_id: String,
    /// Of the member.
    pub activity_id: String,
    pub rule_id: String,
    pub hashtag_id: String,
    /// A login of the member with `TikTok` under way; empty without an app there.
    pub tiktok_state: String,
    pub receiver: Receiver,
}

/// What a valid request of an operation needs.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Sample {
    /// The id in the path; empty where there is none.
    pub id: String,
    /// With its question mark; empty for none.
    pub query: String,
    pub body: Option<Value>,
}

impl TestApp {
    /// Asks for tokens.
    pub async fn token(&self, body: &Value) -> Answer {
        self.call("POST", "/oauth2/token").json(body).send().await
    }

    /// A front-end of `site`, called from `origins`; gives its id.
    pub async fn front_end(&self, site: &Site, origins: &[&str]) -> String {
        let body = json!({"oauthClient": {"name": "Shop front-end", "allowedOrigins": origins}});
        let call = self.call("POST", "/admin/v1/oauth-clients").key(ADMIN_KEY, &site.id).json(&body);
        text(&call.ok().await["oauthClient"]["id"])
    }

    /// Access and refresh token of a new visitor.
    pub async fn visitor(&self, front_end: &str) -> (String, String) {
        let tokens = self.token(&json!({"grantType": "anonymous", "clientId": front_end})).await.json();
        (text(&tokens["access_token"]), text(&tokens["refresh_token"]))
    }

    /// A key of `site` with one scope.
    pub async fn site_key(&self, site: &Site, scope: &str) -> ApiKey {
        let body = json!({"apiKey": {"name": "test", "scopes": [scope]}});
        let made = self.call("POST", "/admin/v1/api-keys").key(ADMIN_KEY, &site.id).json(&body).ok().await;
        ApiKey { id: text(&made["apiKey"]["id"]), secret: text(&made["secret"]) }
    }

    /// An app made by `key`; gives its id, and its secret.
    pub async fn app_of(&self, key: &ApiKey) -> Value {
        let body = json!({"app": {"name": "CRM sync"}});
        self.call("POST", "/admin/v1/apps").auth(&key.secret).json(&body).ok().await
    }

    /// Installs the app on `site`; gives the installation's id.
    pub async fn install(&self, site: &Site, key: &str, app: &str) -> String {
        let body = json!({"appInstance": {"appId": app}});
        let call = self.call("POST", "/admin/v1/app-instances").key(key, &site.id).json(&body);
        text(&call.ok().await["appInstance"]["id"])
    }

    /// The account of a member who has none yet.
    pub async fn new_account(&self, site: &Site, member: &Member) -> String {
        let body = json!({"contactId": member.contact_id});
        let call = self.call("POST", "/loyalty-accounts/v1/accounts").key(ADMIN_KEY, &site.id).json(&body);
        text(&call.ok().await["account"]["id"])
    }

    /// An invitation to connect an account to `site`; gives its id.
    pub async fn invitation(&self, site: &Site) -> String {
        let body = json!({"invitation": {"platform": "INSTAGRAM", "login": "FACEBOOK"}});
        let call = self.call("POST", "/admin/v1/connection-invitations").key(ADMIN_KEY, &site.id).json(&body);
        text(&call.ok().await["invitation"]["id"])
    }

    /// A rule of `site` that rewards every message; gives its id.
    pub async fn rule(&self, site: &Site) -> String {
        let body = json!({"activityRule": {"type": "DM_YOU_SOCIAL", "points": 5}});
        let call = self.call("POST", "/admin/v1/activity-rules").key(ADMIN_KEY, &site.id).json(&body);
        text(&call.ok().await["activityRule"]["id"])
    }

    /// Begins a login with `TikTok`; gives its state, or nothing if it cannot begin.
    pub async fn tiktok_login(&self, member: &Member) -> String {
        let body = json!({"returnUrl": "https://shop.example/me"});
        let begun = self.call("POST", "/me/v1/tiktok-login").auth(&member.token).json(&body).send().await;
        let url = url::Url::parse(begun.json()["tiktokLogin"]["authorizeUrl"].as_str().unwrap_or_default());
        let state = url.ok().and_then(|url| url.query_pairs().into_owned().find(|(name, _)| name == "state"));
        state.map_or_else(String::new, |(_, state)| state)
    }

    /// A delivery that has failed and is tried again in an hour; gives its id.
    pub async fn waiting_delivery(&self, site: &Site, subscription: &str) -> String {
        let tx = self.app.db.write().await.unwrap();
        let row = delivery::Model {
            site_id: SiteId(guid(&site.id)),
            id: DeliveryId(tx.new_id()),
            subscription_id: SubscriptionId(guid(subscription)),
            event_id: EventId(tx.new_id()),
            status: DeliveryStatus::Retrying,
            attempt_count: 1,
            schedule_step: 1,
            next_attempt_at: tx.now().plus_ms(3_600_000),
            order_key: None,
            created_at: tx.now(),
            finished_at: None,
        };
        let id = row.id.to_string();
        insert(&tx, [row]).await;
        tx.commit().await.unwrap();
        id
    }

    /// A site with one of everything, made with keys of the site wherever they are enough.
    pub async fn everything(&self) -> Everything {
        let site = self.site().await;
        let member = self.member(&site, "u-1").await;
        let account_id = text(&self.follow(&member, "X").await["accountId"]);
        let front_end = self.front_end(&site, &["https://shop.example"]).await;
        let (visitor, visitor_refresh) = self.visitor(&front_end).await;
        let admin = self.site_key(&site, SITE_ADMIN).await;
        let made = self.app_of(&admin).await;
        let id = text(&made["app"]["id"]);
        let app = InstalledApp {
            instance_id: self.install(&site, &admin.secret, &id).await,
            secret: text(&made["appSecret"]),
            key_id: text(&made["app"]["keyId"]),
            public_key: text(&made["app"]["publicKey"]),
            id,
        };
        let receiver = Receiver::start().await;
        let body = json!({"webhookSubscription": {
            "appId": app.id, "eventTypes": &ALL_EVENTS[..1], "url": receiver.url, "signatureHeaders": ["V1", "V1A"],
        }});
        let subscribe = self.call("POST", "/admin/v1/webhook-subscriptions").key(ADMIN_KEY, &site.id);
        let subscribed = subscribe.json(&body).ok().await;
        self.follow(&member, "INSTAGRAM").await;
        self.drain().await;
        let subscription_id = text(&subscribed["webhookSubscription"]["id"]);
        let replay = format!("/admin/v1/webhook-subscriptions/{subscription_id}/replay");
        let body = json!({"since": "2024-08-01T00:00:00Z"});
        let replay = self.call("POST", &replay).key(&admin.secret, &site.id).json(&body).ok().await;
        self.drain().await;
        let body = json!({"tiktokHashtag": {"hashtag": "#nordbrew"}});
        let hashtag = self
            .call("POST", "/admin/v1/tiktok-hashtags")
            .key(&admin.secret, &site.id)
            .json(&body)
            .ok()
            .await;
        self.claim_on_tiktok(&site, &member, "miarunsoslo").await;
        let delivery =
            self.admin_list(&site, "/admin/v1/webhook-deliveries", "webhookDeliveries").await.remove(0);
        Everything {
            reader: self.site_key(&site, READ).await,
            manager: self.site_key(&site, MANAGE).await,
            app_token: self.app_token(&app).await,
            event_id: text(&delivery["eventId"]),
            delivery_id: text(&delivery["id"]),
            waiting_id: self.waiting_delivery(&site, &subscription_id).await,
            mention_id: self.mention(&site).await,
            replay_id: text(&replay["webhookReplay"]["id"]),
            invitation_id: self.invitation(&site).await,
            connection_id: self.stored_connection(&site).await.id.to_string(),
            activity_id: self.activity_of(&site, &member.id, "mention:1").await,
            rule_id: self.rule(&site).await,
            hashtag_id: text(&hashtag["tiktokHashtag"]["id"]),
            tiktok_state: self.tiktok_login(&member).await,
            site,
            member,
            account_id,
            front_end,
            visitor,
            visitor_refresh,
            app,
            admin,
            subscription_id,
            signing_secret: text(&subscribed["signingSecret"]),
            receiver,
        }
    }
}

fn about(id: &str) -> Sample {
    Sample { id: id.to_owned(), ..Sample::default() }
}

fn asking(query: String) -> Sample {
    Sample { query, ..Sample::default() }
}

fn sending(body: Value) -> Sample {
    Sample { body: Some(body), ..Sample::default() }
}

impl Everything {
    /// A valid request of `operation` by an API key. One that is not known here fails the test: give it its sample.
    pub fn sample(&self, operation: &str) -> Sample {
        match operation {
            "getWebhookKeys" => asking(format!("?appId={}", self.app.id)),
            "deleteApiKey" => about(&self.reader.id),
            "getAppInstance" | "deleteAppInstance" => about(&self.app.instance_id),
            "getApp" | "rotateAppKey" => about(&self.app.id),
            "getMember" | "deleteMemberTokens" | "getMemberProfile" => about(&self.member.id),
            "getOauthClient" | "deleteOauthClient" => about(&self.front_end),
            "deleteTiktokHashtag" => about(&self.hashtag_id),
            "getSite" => about(&self.site.id),
            "getEvent" => about(&self.event_id),
            "getWebhookDelivery" | "redeliverWebhookDelivery" => about(&self.delivery_id),
            "cancelWebhookDelivery" => about(&self.waiting_id),
            "getWebhookSubscription" | "getWebhookBacklog" | "deleteWebhookSubscription" => {
                about(&self.subscription_id)
            }
            "getAccount" => about(&self.account_id),
            "getAccountBySecondaryId" => asking(format!("?memberId={}", self.member.id)),
            "listFollowedChannelsOfSite" => {
                asking(format!("?accountId={}&channel=X&evidence=DECLARED", self.account_id))
            }
            "listFollowedChannels" => asking(format!("?accountId={}", self.account_id)),
            "listWebhookDeliveries" | "exportWebhookDeliveries" => {
                asking(format!("?subscriptionId={}&eventId={}", self.subscription_id, self.event_id))
            }
            "getConnection" | "deleteConnection" => about(&self.connection_id),
            "getConnectionInvitation" | "deleteConnectionInvitation" => about(&self.invitation_id),
            "getWebhookReplay" | "cancelWebhookReplay" => about(&self.replay_id),
            "getActivity" => about(&self.activity_id),
            "listActivities" => asking(format!("?memberId={}&handle=@NordFan", self.member.id)),
            "getActivityRule" | "deleteActivityRule" => about(&self.rule_id),
            "listWebhookReplays" => asking(format!("?subscriptionId={}", self.subscription_id)),
            "listMembers" => asking("?externalId=u-1".to_owned()),
            "listEvents" => asking(format!("?type={}&since=2024-08-01T00:00:00Z", ALL_EVENTS[0])),
            "listApiKeys"
            | "listAppInstances"
            | "listActivityRules"
            | "listApps"
            | "listConnectionInvitations"
            | "listConnections"
            | "listMyActivities"
            | "listSourceItems"
            | "listOauthClients"
            | "listSites"
            | "listTiktokHashtags"
            | "listWebhookSubscriptions" => asking("?limit=100".to_owned()),
            "getMyProfile"
            | "listMyChannels"
            | "getSiteAuth"
            | "getSocialMediaSettings"
            | "getHealth"
            | "getMetrics"
            | "getReadiness"
            | "getOpenapiDocument"
            | "getAccessTokenKeys"
            | "getCurrentMemberAccount"
            | "getLoyaltyProgram"
            | "activateLoyaltyProgram"
            | "pauseLoyaltyProgram" => Sample::default(),
            other => self.sample_with_body(other),
        }
    }

    fn sample_with_body(&self, operation: &str) -> Sample {
        match operation {
            "createApiKey" => sending(json!({"apiKey": {"name": "ci", "scopes": [READ]}})),
            "createApp" => sending(json!({"app": {"name": "CRM sync"}})),
            "createAppInstance" => sending(json!({"appInstance": {"appId": self.app.id}})),
            "createMember" => sending(json!({"member": {
                "externalId": "u-2", "email": "member@example.com", "name": "Example Member",
            }})),
            "rotateAppSecret" => Sample { body: Some(json!({"overlapSeconds": 0})), ..about(&self.app.id) },
            "createMemberTokens" => {
                Sample { body: Some(json!({"clientId": self.front_end})), ..about(&self.member.id) }
            }
            "updateMember" => Sample {
                body: Some(json!({"member": {"email": "new@example.com", "name": null}})),
                ..about(&self.member.id)
            },
            "createOauthClient" => sending(json!({"oauthClient": {
                "name": "Shop front-end", "allowedOrigins": ["https://shop.example"],
            }})),
            "updateOauthClient" => Sample {
                body: Some(json!({"oauthClient": {
                    "name": "Shop", "allowedOrigins": ["https://shop.example", "https://www.shop.example"],
                }})),
                ..about(&self.front_end)
            },
            "updateSiteAuth" => sending(json!({"siteAuth": {"trustedIssuers": [{
                "issuer": "https://id.example", "audience": "shop", "hmacSecret": keys::HMAC_SECRET,
                "memberIdClaim": "sub",
            }]}})),
            "createSite" => sending(json!({"site": {"name": "Nordbrew"}})),
            "updateSite" => {
                Sample { body: Some(json!({"site": {"name": "Nordbrew"}})), ..about(&self.site.id) }
            }
            "updateSocialMediaSettings" => sending(json!({"socialMediaSettings": {"channels": [{
                "type": "X", "enabled": true, "id": "nordbrew", "url": "https://x.com/nordbrew", "points": 50,
                "unfollowPolicy": "REVERSE", "reverseWithinDays": 14, "claimedHandleEarns": false,
            }]}})),
            "createAccount" => sending(json!({"contactId": self.member.contact_id})),
            "updateLoyaltyProgram" => sending(json!({"loyaltyProgram": {
                "name": "Loyalty program", "pointDefinition": {"customName": "Hops"},
            }})),
            "createFollowedChannel" => sending(json!({"followedChannel": {
                "channel": "FACEBOOK", "accountId": self.account_id,
            }})),
            "createToken" | "createAccessToken" => {
                sending(json!({"grantType": "anonymous", "clientId": self.front_end}))
            }
            "getTokenInfo" => sending(json!({"token": self.member.token})),
            other => self.sample_of_webhooks(other),
        }
    }

    fn sample_of_webhooks(&self, operation: &str) -> Sample {
        match operation {
            "createWebhookSubscription" => sending(json!({"webhookSubscription": {
                "appId": self.app.id, "eventTypes": [ALL_EVENTS[1]], "url": self.receiver.url,
                "timeoutMs": 1000, "maxInFlight": 4, "status": "ENABLED",
            }})),
            "updateWebhookSubscription" => Sample {
                body: Some(json!({"webhookSubscription": {
                    "eventTypes": [ALL_EVENTS[0]], "url": self.receiver.url, "timeoutMs": 2000,
                    "maxInFlight": 8, "status": "ENABLED",
                }})),
                ..about(&self.subscription_id)
            },
            // Of what has no event: others send again what the account's are about.
            "expungeEvents" => sending(json!({"entityId": self.delivery_id})),
            "testWebhookSubscription" => {
                Sample { body: Some(json!({"eventType": ALL_EVENTS[0]})), ..about(&self.subscription_id) }
            }
            "dryRunWebhookSubscription" => {
                Sample { body: Some(json!({"filter": {"channels": ["X"]}})), ..about(&self.subscription_id) }
            }
            "replayWebhookSubscription" => Sample {
                body: Some(json!({"since": "2024-08-01T00:00:00Z", "scope": "MISSING"})),
                ..about(&self.subscription_id)
            },
            "rotateWebhookSubscriptionSecret" => {
                Sample { body: Some(json!({"overlapSeconds": 0})), ..about(&self.subscription_id) }
            }
            other => self.sample_of_social(other),
        }
    }

    fn sample_of_social(&self, operation: &str) -> Sample {
        match operation {
            "createActivityRule" => sending(json!({"activityRule": {
                "type": "MENTIONED_YOU_SOCIAL", "platform": "INSTAGRAM", "mentionType": "tag", "points": 25,
                "limits": {"perMember": {"count": 1, "every": "P1D"}, "total": {"points": 100_000}},
                "requires": {"verifiedHandle": true, "followersMin": 1_000, "captionContains": ["#nordbrew"]},
                "startsAt": "2024-08-01T00:00:00Z", "endsAt": "2024-09-01T00:00:00Z",
            }})),
            "updateActivityRule" => Sample {
                body: Some(json!({"activityRule": {
                    "points": 30, "platform": null, "limits": {"total": null}, "requires": null, "endsAt": null,
                }})),
                ..about(&self.rule_id)
            },
            "updateMyProfile" => sending(json!({"profile": {
                "instagramHandle": "@Mia.Runs.Oslo",
            }})),
            "updateMemberProfile" => Sample {
                body: Some(json!({"profile": {"tiktokHandle": "miarunsoslo"}})),
                ..about(&self.member.id)
            },
            "createLinkCode" => sending(json!({"linkCode": {"channel": "INSTAGRAM"}})),
            "createConnectionInvitation" => {
                sending(json!({"invitation": {"platform": "INSTAGRAM", "login": "FACEBOOK"}}))
            }
            "replyToInstagramMention" => {
                Sample { body: Some(json!({"message": "Thanks!"})), ..about(&self.mention_id) }
            }
            "createTiktokHashtag" => sending(json!({"tiktokHashtag": {"hashtag": "#NordbrewCoffee"}})),
            "handInTiktokPost" => sending(json!({"url": "https://vm.tiktok.com/ZM8AbCdEf/"})),
            "beginTiktokLogin" => sending(json!({"returnUrl": "https://shop.example/me"})),
            "completeTiktokLogin" => sending(json!({"state": self.tiktok_state, "code": CODE})),
            "pushTiktokPosts" => {
                sending(json!({"source": "apify-tiktok-hashtag", "batch_id": "7", "items": [{
                "external_id": "7397978000000000000", "author_handle": "@miarunsoslo",
                "posted_at": "2024-08-01T10:00:00Z", "caption": "Cortado #NordbrewCoffee", "like_count": 231,
            }, {"error": "no_items"}]}))
            }
            other => panic!("operation {other} has no sample in tests/it/support/callers.rs"),
        }
    }
}
