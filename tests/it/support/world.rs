//! Sites, members and receivers, made through the API as an owner would make them.

use serde_json::{Value, json};

use super::{ADMIN_KEY, TestApp};

/// The four event types.
pub const ALL_EVENTS: [&str; 4] = [
    "wix.loyalty.socialmedia.v1.followed_channel_created",
    "wix.loyalty.v1.account_created",
    "wix.loyalty.v1.account_updated",
    "wix.loyalty.v1.account_points_updated",
];

/// A site with an active program; X gives 50 points, INSTAGRAM 30, FACEBOOK none; the others are not enabled.
pub struct Site {
    pub id: String,
}

/// A member with tokens.
pub struct Member {
    pub id: String,
    pub contact_id: String,
    pub token: String,
    pub refresh_token: String,
}

/// An app installed on a site.
pub struct InstalledApp {
    pub id: String,
    pub secret: String,
    pub key_id: String,
    pub public_key: String,
    pub instance_id: String,
}

pub fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("not a text: {value}")).to_owned()
}

impl TestApp {
    pub async fn site(&self) -> Site {
        let site = self.draft_site().await;
        self.call("POST", "/loyalty-programs/v1/program/activate").key(ADMIN_KEY, &site.id).ok().await;
        site
    }

    /// The same with a program that was never started.
    pub async fn draft_site(&self) -> Site {
        let body = json!({"site": {"name": "Nordbrew"}});
        let created = self.call("POST", "/admin/v1/sites").auth(ADMIN_KEY).json(&body).ok().await;
        let id = text(&created["site"]["id"]);
        let body = json!({"socialMediaSettings": {"channels": [
            {"type": "X", "enabled": true, "id": "nordbrew", "points": 50},
            {"type": "INSTAGRAM", "enabled": true, "id": "nordbrew", "points": 30},
            {"type": "FACEBOOK", "enabled": true, "id": "nordbrew"},
        ]}});
        self.call("PATCH", "/admin/v1/social-media-settings").key(ADMIN_KEY, &id).json(&body).ok().await;
        Site { id }
    }

    pub async fn member(&self, site: &Site, external_id: &str) -> Member {
        let body = json!({"member": {"externalId": external_id, "email": "member@example.com", "name": "Example Member"}});
        let created = self.call("POST", "/admin/v1/members").key(ADMIN_KEY, &site.id).json(&body).ok().await;
        let id = text(&created["member"]["id"]);
        let path = format!("/admin/v1/members/{id}/tokens");
        let tokens = self.call("POST", &path).key(ADMIN_KEY, &site.id).ok().await;
        Member {
            id,
            contact_id: text(&created["member"]["contactId"]),
            token: text(&tokens["access_token"]),
            refresh_token: text(&tokens["refresh_token"]),
        }
    }

    /// An app of the operator, installed on `site`.
    pub async fn installed_app(&self, site: &Site) -> InstalledApp {
        let body = json!({"app": {"name": "CRM sync"}});
        let created = self.call("POST", "/admin/v1/apps").auth(ADMIN_KEY).json(&body).ok().await;
        let id = text(&created["app"]["id"]);
        let body = json!({"appInstance": {"appId": id}});
        let installed =
            self.call("POST", "/admin/v1/app-instances").key(ADMIN_KEY, &site.id).json(&body).ok().await;
        InstalledApp {
            secret: text(&created["appSecret"]),
            key_id: text(&created["app"]["keyId"]),
            public_key: text(&created["app"]["publicKey"]),
            instance_id: text(&installed["appInstance"]["id"]),
            id,
        }
    }

    /// An access token of the app on its site.
    pub async fn app_token(&self, app: &InstalledApp) -> String {
        let body = json!({
            "grant_type": "client_credentials", "client_id": app.id,
            "client_secret": app.secret, "instance_id": app.instance_id,
        });
        text(&self.call("POST", "/oauth2/token").json(&body).ok().await["access_token"])
    }

    /// A subscription of `app` on `site` to `event_types` at `url`; gives its id.
    pub async fn subscribe(
        &self,
        site: &Site,
        app: &InstalledApp,
        event_types: &[&str],
        url: &str,
    ) -> String {
        let body = json!({"webhookSubscription": {"appId": app.id, "eventTypes": event_types, "url": url}});
        let call = self.call("POST", "/admin/v1/webhook-subscriptions").key(ADMIN_KEY, &site.id).json(&body);
        text(&call.ok().await["webhookSubscription"]["id"])
    }

    /// `member` follows `channel`, which must succeed.
    pub async fn follow(&self, member: &Member, channel: &str) -> Value {
        let body = json!({"followedChannel": {"channel": channel}});
        let path = "/loyalty-social-media/v1/followed-channels";
        self.call("POST", path).auth(&member.token).json(&body).ok().await["followedChannel"].clone()
    }

    /// The account of `member`.
    pub async fn account(&self, member: &Member) -> Value {
        let path = "/loyalty-accounts/v1/accounts/my-account";
        self.call("GET", path).auth(&member.token).ok().await["account"].clone()
    }

    /// A list of the admin API under its name.
    pub async fn admin_list(&self, site: &Site, path: &str, name: &str) -> Vec<Value> {
        let body = self.call("GET", path).key(ADMIN_KEY, &site.id).ok().await;
        body[name].as_array().cloned().unwrap_or_else(|| panic!("no {name} in {body}"))
    }
}
