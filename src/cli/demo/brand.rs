//! The brand's account on Instagram as far as the demo needs one: it says about whoever writes to it what the Graph API would say, and
//! signs what Meta would send.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddr};

use aws_lc_rs::hmac;
use entity::connection;
use entity::id::{ConnectionId, SiteId, Timestamp};
use entity::kinds::{ConnectionLogin, Platform};
use followpoints::app::App;
use followpoints::sources::settings::PlatformSettings;
use followpoints::{connections, seal};
use poem::http::StatusCode;
use poem::listener::{Acceptor as _, Listener as _, TcpListener};
use poem::web::Json;
use poem::{IntoResponse as _, Response, Route, handler};
use sea_orm::{DbErr, EntityTrait as _};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

/// The account's id, as webhooks name it.
pub(super) const ACCOUNT: &str = "17841400000000001";
/// The member, as Instagram shows them to the brand.
pub(super) const PERSON: &str = "5512000000000001";
/// The member's handles.
pub(super) const INSTAGRAM_HANDLE: &str = "example.member";
pub(super) const TIKTOK_HANDLE: &str = "examplemember";
/// Where Meta's webhooks come in.
pub(super) const ENTRANCE: &str = "/ingest/instagram/facebook-login";
/// The header of their signature.
pub(super) const SIGNATURE: &str = "x-hub-signature-256";

/// The running stand-in.
pub(super) struct Brand {
    /// The secret of the app that Meta signs with.
    pub(super) secret: String,
    url: String,
    task: JoinHandle<std::io::Result<()>>,
}

impl Brand {
    /// Listens on a free port of this machine.
    pub(super) async fn start() -> Result<Self, String> {
        let failed = |error: std::io::Error| format!("the brand's stand-in cannot listen: {error}");
        let listener = TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
        let acceptor = listener.into_acceptor().await.map_err(failed)?;
        let address = acceptor.local_addr().into_iter().find_map(|at| at.as_socket_addr().copied());
        let address = address.ok_or("the brand's stand-in has no address")?;
        let server = poem::Server::new_with_acceptor(acceptor);
        Ok(Self {
            secret: seal::new_secret("demo-").map_err(|error| error.to_string())?,
            url: format!("http://{address}"),
            task: tokio::spawn(server.run(Route::new().at("/:version/:id", poem::get(person)))),
        })
    }

    /// The settings of a service that takes the stand-in for Instagram.
    pub(super) fn settings(&self) -> Result<PlatformSettings, String> {
        let given = [
            ("FOLLOWPOINTS_META_APP_ID", "1000000000000001"),
            ("FOLLOWPOINTS_META_APP_SECRETS", &self.secret),
            ("FOLLOWPOINTS_META_GRAPH_URL", &self.url),
        ];
        let given = given.map(|(name, value)| (name.to_owned(), value.to_owned()));
        PlatformSettings::new(&given.into_iter().collect()).map_err(|error| error.to_string())
    }

    /// What the header of the signature says for `body`.
    pub(super) fn sign(&self, body: &str) -> String {
        let key = hmac::Key::new(hmac::HMAC_SHA256, self.secret.as_bytes());
        let mut text = "sha256=".to_owned();
        for byte in hmac::sign(&key, body.as_bytes()).as_ref() {
            let _ = write!(text, "{byte:02x}");
        }
        text
    }
}

/// Connects the account to the site, as the end of a login does: the demo has nobody who could log in.
pub(super) async fn connect(app: &App, site: &str) -> Result<(), String> {
    let site = site.parse().map(SiteId).map_err(|error| format!("the site's id: {error}"))?;
    let token = app.sealer.seal(connections::TOKEN_PURPOSE, b"demo").map_err(|error| error.to_string())?;
    let stored = async {
        let tx = app.db.write().await?;
        let row = connection::Model {
            id: ConnectionId(tx.new_id()),
            site_id: site,
            platform: Platform::Instagram,
            login: ConnectionLogin::Facebook,
            external_id: ACCOUNT.to_owned(),
            username: Some("nordbrew".to_owned()),
            page_id: None,
            owner_id: None,
            token: Some(token),
            refresh_token: None,
            token_issued_at: Some(tx.now()),
            token_expires_at: None,
            missing_permissions: "[]".to_owned(),
            dead_since: None,
            problem: None,
            limited_until: None,
            last_item_at: None,
            // The stand-in has no tags, and no health to be checked.
            poll_due_at: Timestamp(i64::MAX),
            has_polled: false,
            check_due_at: Timestamp(i64::MAX),
            created_at: tx.now(),
            updated_at: tx.now(),
        };
        let insert = connection::Entity::insert(connection::ActiveModel::from(row));
        insert.exec_without_returning(tx.conn()).await?;
        tx.commit().await
    };
    stored.await.map_err(|error: DbErr| format!("the account could not be connected: {error}"))
}

impl Drop for Brand {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A direct message of the member to the brand, as Meta would tell it.
pub(super) fn message(id: &str, text: &str, at_ms: i64) -> Value {
    json!({"object": "instagram", "entry": [{"id": ACCOUNT, "time": at_ms, "messaging": [{
        "sender": {"id": PERSON},
        "recipient": {"id": ACCOUNT},
        "timestamp": at_ms,
        "message": {"mid": id, "text": text},
    }]}]})
}

#[handler]
fn person(poem::web::Path((_, id)): poem::web::Path<(String, String)>) -> Response {
    if id != PERSON {
        let error = json!({"error": {
            "message": "Unsupported get request", "type": "GraphMethodException", "code": 100, "error_subcode": 33,
        }});
        return (StatusCode::BAD_REQUEST, Json(error)).into_response();
    }
    let profile = json!({
        "id": PERSON,
        "name": "Example Member",
        "username": INSTAGRAM_HANDLE,
        "follower_count": 1_234,
        "is_user_follow_business": true,
        "is_business_follow_user": false,
        "is_verified_user": false,
    });
    Json(profile).into_response()
}
