//! The Graph API: one call at a time, with its token, its proof and its limits.
//!
//! Facebook Login and Instagram Login have a host each, and the latter knows less: no mentions, no business discovery.

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use aws_lc_rs::hmac;
use bytes::Bytes;
use entity::id::{ConnectionId, Timestamp};
use entity::kinds::ConnectionLogin;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderValue, Method};
use serde_json::{Value, json};
use url::Url;

use super::answers::{self, Comment, Media, OwnAccount, Profile, Story, TagsPage};
use super::graph_error::{self, GraphError};
use super::usage::Gate;
use crate::clock::Clock;
use crate::outbound::{Client, OutboundRequest};
use crate::profiles::attributes::Facts;
use crate::sources::settings::MetaSettings;

/// One deadline for a call.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(5);
/// Bytes of an answer; a longer one is none.
pub const ANSWER_BYTES_MAX: usize = 1024 * 1024;
/// Media objects of a page of `/tags`.
pub const TAGS_PAGE_ITEMS: usize = 50;
/// How long it is remembered that a field is refused which is not documented, in milliseconds.
const REFUSED_FOR_MS: i64 = 3_600_000;

const PROFILE_FIELDS: &str = "name,username,profile_pic,follower_count,is_user_follow_business,is_business_follow_user,\
     is_verified_user";
const MEDIA_FIELDS: &str = "id,caption,media_type,media_url,timestamp,username,like_count,comments_count";
const COMMENT_FIELDS: &str = "id,text,timestamp,like_count,media{id,media_url}";
const STORY_FIELDS: &str = "story,from,created_time";
const DISCOVERY_FIELDS: &str =
    "username,name,biography,profile_picture_url,followers_count,follows_count,media_count";
const TAGS_FIELDS: &str =
    "id,caption,media_type,media_url,permalink,timestamp,username,like_count,comments_count";

/// What a call is made with.
#[derive(Clone)]
pub struct Access {
    /// Whose limits count.
    pub connection: ConnectionId,
    /// Which host it goes to.
    pub login: ConnectionLogin,
    /// The platform's id of the brand's account.
    pub account: String,
    /// The token.
    pub token: String,
}

impl std::fmt::Debug for Access {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Access({}, {})", self.account, self.login)
    }
}

/// Calls the Graph API. Cheap to clone; clones share the gates.
#[derive(Clone)]
pub struct Graph(Arc<Inner>);

struct Inner {
    client: Client,
    settings: MetaSettings,
    clock: Arc<dyn Clock>,
    gate: Gate,
    /// Until when the undocumented field of mentioned media, and that of mentioned comments, are not asked for.
    plain_until: [AtomicI64; 2],
}

/// A lookup behind a field of the brand's account, with the field that is asked for although it is not documented.
struct Behind<'a> {
    name: &'a str,
    key: (&'a str, &'a str),
    fields: &'a str,
    undocumented: Option<(usize, &'a str)>,
}

impl Graph {
    /// Calls through `client`, as the operator's apps.
    #[must_use]
    pub fn new(client: Client, settings: MetaSettings, clock: Arc<dyn Clock>) -> Self {
        let (gate, plain_until) = (Gate::default(), [AtomicI64::new(0), AtomicI64::new(0)]);
        Self(Arc::new(Inner { client, settings, clock, gate, plain_until }))
    }

    /// The gates of the connections.
    #[must_use]
    pub fn gate(&self) -> &Gate {
        &self.0.gate
    }

    fn now(&self) -> Timestamp {
        self.0.clock.now()
    }

    /// Who a person is that wrote to the brand.
    pub async fn profile(&self, access: &Access, person: &str) -> Result<Profile, GraphError> {
        let answer = self.get(access, &[person], &[("fields", PROFILE_FIELDS)]).await?;
        Ok(Profile::read(&answer))
    }

    /// A post or reel whose text mentions the brand. Facebook Login only.
    pub async fn mentioned_media(&self, access: &Access, media: &str) -> Result<Media, GraphError> {
        let (key, undocumented) = (("media_id", media), Some((0, "media_product_type")));
        let behind = Behind { name: "mentioned_media", key, fields: MEDIA_FIELDS, undocumented };
        Ok(Media::read(&self.behind(access, &behind).await?))
    }

    /// A comment that mentions the brand. Facebook Login only.
    pub async fn mentioned_comment(&self, access: &Access, comment: &str) -> Result<Comment, GraphError> {
        let (key, undocumented) = (("comment_id", comment), Some((1, "username")));
        let behind = Behind { name: "mentioned_comment", key, fields: COMMENT_FIELDS, undocumented };
        Ok(Comment::read(&self.behind(access, &behind).await?))
    }

    /// The story that `message` mentions the brand in, while it lasts.
    pub async fn message_story(&self, access: &Access, message: &str) -> Result<Story, GraphError> {
        Ok(Story::read(&self.get(access, &[message], &[("fields", STORY_FIELDS)]).await?))
    }

    /// What is public of a professional account. Facebook Login only.
    pub async fn business_discovery(&self, access: &Access, handle: &str) -> Result<Facts, GraphError> {
        let key = ("username", handle);
        let behind = Behind { name: "business_discovery", key, fields: DISCOVERY_FIELDS, undocumented: None };
        Ok(answers::discovered(&self.behind(access, &behind).await?))
    }

    /// A page of the media that the brand is tagged in.
    pub async fn tags(&self, access: &Access, after: Option<&str>) -> Result<TagsPage, GraphError> {
        let limit = TAGS_PAGE_ITEMS.to_string();
        let mut query = vec![("fields", TAGS_FIELDS), ("limit", limit.as_str())];
        query.extend(after.map(|after| ("after", after)));
        Ok(TagsPage::read(self.get(access, &[&access.account, "tags"], &query).await?))
    }

    /// Comments below `media`, or answers `comment` there, with `message`; gives the comment's id. Facebook Login only.
    pub async fn reply_to_mention(
        &self,
        access: &Access,
        (media, comment): (&str, Option<&str>),
        message: &str,
    ) -> Result<String, GraphError> {
        let mut body = json!({"media_id": media, "message": message});
        if let Some(comment) = comment {
            body["comment_id"] = comment.into();
        }
        let answer = self.post(access, &[&access.account, "mentions"], &[], &body).await?;
        answers::id(&answer["id"]).ok_or_else(|| GraphError::Temporary("an answer without an id".to_owned()))
    }

    /// Sends `text` to a person who wrote within 24 hours; gives the message's id.
    pub async fn send_message(
        &self,
        access: &Access,
        person: &str,
        text: &str,
    ) -> Result<String, GraphError> {
        let body = json!({"recipient": {"id": person}, "message": {"text": text}});
        let answer = self.post(access, &["me", "messages"], &[], &body).await?;
        answers::id(&answer["message_id"])
            .ok_or_else(|| GraphError::Temporary("an answer without an id".to_owned()))
    }

    /// The account that the token belongs to.
    pub async fn own_account(&self, access: &Access) -> Result<OwnAccount, GraphError> {
        let (path, fields) = match access.login {
            ConnectionLogin::Instagram => ("me", "user_id,username"),
            _ => (access.account.as_str(), "id,username"),
        };
        Ok(OwnAccount::read(&self.get(access, &[path], &[("fields", fields)]).await?))
    }

    /// The fields that the app is subscribed to on a page, or on an account of Instagram Login.
    pub async fn subscribed_fields(&self, access: &Access, on: &str) -> Result<Vec<String>, GraphError> {
        let answer = self.get(access, &[on, "subscribed_apps"], &[]).await?;
        let apps = answer["data"].as_array().cloned().unwrap_or_default();
        let fields = apps.iter().filter_map(|app| app["subscribed_fields"].as_array()).flatten();
        Ok(fields.filter_map(|field| field.as_str().map(str::to_owned)).collect())
    }

    /// Subscribes the app to `fields` there.
    pub async fn subscribe(&self, access: &Access, on: &str, fields: &[&str]) -> Result<(), GraphError> {
        let fields = fields.join(",");
        let query = [("subscribed_fields", fields.as_str())];
        let answer = self.post(access, &[on, "subscribed_apps"], &query, &Value::Null).await?;
        if answer["success"] == true {
            return Ok(());
        }
        Err(GraphError::Temporary("an answer without success".to_owned()))
    }

    /// Looks something up behind a field of the brand's account. A field that is not documented is left out for a while once
    /// it was refused.
    async fn behind(&self, access: &Access, behind: &Behind<'_>) -> Result<Value, GraphError> {
        let (name, (key_name, key)) = (behind.name, behind.key);
        let is_id = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
        if key.is_empty() || !key.bytes().all(is_id) {
            return Err(GraphError::Gone);
        }
        let ask = async |fields: &str| {
            let fields = format!("{name}.{key_name}({key}){{{fields}}}");
            let mut answer = self.get(access, &[&access.account], &[("fields", &fields)]).await?;
            Ok(answer[name].take())
        };
        if let Some((index, more)) = behind.undocumented
            && let Some(plain_until) = self.0.plain_until.get(index)
            && plain_until.load(Ordering::Relaxed) <= self.now().0
        {
            match ask(&format!("{},{more}", behind.fields)).await {
                Err(GraphError::Refused(code)) if code.starts_with("100") => {
                    let answer = ask(behind.fields).await;
                    // Whatever else came of it, the field was to blame unless that is refused, too.
                    if !matches!(answer, Err(GraphError::Refused(_))) {
                        plain_until.store(self.now().plus_ms(REFUSED_FOR_MS).0, Ordering::Relaxed);
                    }
                    return answer;
                }
                answer => return answer,
            }
        }
        ask(behind.fields).await
    }

    async fn get(&self, access: &Access, path: &[&str], query: &[(&str, &str)]) -> Result<Value, GraphError> {
        self.call(access, (Method::GET, path), query, &Value::Null).await
    }

    async fn post(
        &self,
        access: &Access,
        path: &[&str],
        query: &[(&str, &str)],
        body: &Value,
    ) -> Result<Value, GraphError> {
        self.call(access, (Method::POST, path), query, body).await
    }

    async fn call(
        &self,
        access: &Access,
        (method, path): (Method, &[&str]),
        query: &[(&str, &str)],
        body: &Value,
    ) -> Result<Value, GraphError> {
        let request = self.request(access, (method, path), query, body)?;
        self.gate().pass(access.connection, self.now())?;
        let sent = self.0.client.send(request).await;
        let answer = sent.result.map_err(|error| GraphError::Temporary(error.class().to_owned()))?;
        let usage = graph_error::usage(&answer.headers);
        if ["x-app-usage", "x-business-use-case-usage"].iter().any(|name| answer.headers.contains_key(*name))
        {
            self.gate().note(access.connection, self.now(), usage);
        }
        let is_whole = !answer.truncated && answer.body_error.is_none();
        let body: Option<Value> = serde_json::from_slice(&answer.body).ok().filter(|_| is_whole);
        match graph_error::problem(answer.status, body.as_ref(), usage) {
            None => Ok(body.unwrap_or_default()),
            Some(error) => {
                if let GraphError::Throttled(ms) = error {
                    self.gate().close(access.connection, self.now(), ms);
                }
                Err(error)
            }
        }
    }

    fn request(
        &self,
        access: &Access,
        (method, path): (Method, &[&str]),
        query: &[(&str, &str)],
        body: &Value,
    ) -> Result<OutboundRequest, GraphError> {
        let settings = &self.0.settings;
        let (base, app) = match access.login {
            ConnectionLogin::Instagram => (&settings.urls.instagram_graph, &settings.instagram),
            _ => (&settings.urls.graph, &settings.facebook),
        };
        let unusable = || GraphError::Refused("FOLLOWPOINTS_META_GRAPH_URL".to_owned());
        let mut url = Url::parse(base).map_err(|_| unusable())?;
        url.path_segments_mut().map_err(|()| unusable())?.push(&settings.version).extend(path);
        url.query_pairs_mut().extend_pairs(query);
        if let Some(secret) = app.secrets.first() {
            url.query_pairs_mut().append_pair("appsecret_proof", &app_secret_proof(secret, &access.token));
        }
        let url = self.0.client.guard().check_url(url.as_str()).map_err(|_| unusable())?;
        let mut bearer = HeaderValue::try_from(format!("Bearer {}", access.token))
            .map_err(|_| GraphError::Dead { code: "none".to_owned(), why: "it cannot stand in a request" })?;
        bearer.set_sensitive(true);
        let mut headers =
            vec![(AUTHORIZATION, bearer), (ACCEPT, HeaderValue::from_static("application/json"))];
        let mut bytes = Bytes::new();
        if !body.is_null() {
            headers.push((CONTENT_TYPE, HeaderValue::from_static("application/json")));
            bytes = body.to_string().into();
        }
        Ok(OutboundRequest {
            method,
            url,
            headers,
            body: bytes,
            timeout: CALL_TIMEOUT,
            body_max: ANSWER_BYTES_MAX,
            identity: None,
        })
    }
}

/// The proof that whoever sends `token` has the app's secret: HMAC-SHA256 in lower-case hexadecimal.
#[must_use]
pub fn app_secret_proof(secret: &str, token: &str) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    hmac::sign(&key, token.as_bytes()).as_ref().iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_proof_is_that_of_the_published_vectors() {
        // RFC 4231, test case 2.
        assert_eq!(
            app_secret_proof("Jefe", "what do ya want for nothing?"),
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
        );
        assert_eq!(
            app_secret_proof("key", "The quick brown fox jumps over the lazy dog"),
            "f7bc83f430538424b13298e6aa6fb143ef4d59a14946175997479dbc2d1a3cd8"
        );
    }

    #[test]
    fn an_access_prints_no_token() {
        let access = Access {
            connection: ConnectionId(uuid::Uuid::nil()),
            login: ConnectionLogin::Facebook,
            account: "17841460998877001".to_owned(),
            token: "EAAP-secret".to_owned(),
        };
        assert!(!format!("{access:?}").contains("secret"));
    }
}
