//! The brand's accounts: connected by whoever opens an invitation's link, looked after, taken away.

mod flow;
mod guards;
mod health;
mod secrets;
mod state;
mod tiktok;
mod withdrawal;

use std::cell::RefCell;
use std::collections::BTreeMap;

use entity::id::{ConnectionId, SiteId};
use entity::kinds::{ConnectionLogin, Platform};
use entity::{connection, connection_invitation};
use followpoints::connections::{REFRESH_PURPOSE, TOKEN_PURPOSE};
use sea_orm::EntityTrait as _;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::client::Answer;
use crate::support::graph::Graph;
use crate::support::world::{Site, text};
use crate::support::{ADMIN_KEY, TestApp};

/// Where the service says that it is.
const PUBLIC_URL: &str = "http://127.0.0.1";
const INVITATIONS: &str = "/admin/v1/connection-invitations";

/// An invitation as its maker knows it.
struct Invitation {
    id: String,
    /// The path of its link.
    path: String,
}

impl TestApp {
    async fn invite(&self, site: &Site, login: &str) -> Invitation {
        let platform = if login == "TIKTOK_BUSINESS" { "TIKTOK" } else { "INSTAGRAM" };
        let body = json!({"invitation": {"platform": platform, "login": login}});
        let made = self.call("POST", INVITATIONS).key(ADMIN_KEY, &site.id).json(&body).ok().await;
        let url = text(&made["invitation"]["url"]);
        let path = url.strip_prefix(PUBLIC_URL).unwrap().to_owned();
        Invitation { id: text(&made["invitation"]["id"]), path }
    }

    /// The invitation as it is listed.
    async fn invited(&self, site: &Site, invitation: &Invitation) -> Value {
        let path = format!("{INVITATIONS}/{}", invitation.id);
        self.call("GET", &path).key(ADMIN_KEY, &site.id).ok().await["invitation"].clone()
    }

    /// The site's connections, newest first.
    async fn connections(&self, site: &Site) -> Vec<Value> {
        self.admin_list(site, "/admin/v1/connections", "connections").await
    }

    /// Every connection as it is stored.
    async fn stored_connections(&self) -> Vec<connection::Model> {
        connection::Entity::find().all(self.app.db.read()).await.unwrap()
    }

    async fn stored_invitations(&self) -> Vec<connection_invitation::Model> {
        connection_invitation::Entity::find().all(self.app.db.read()).await.unwrap()
    }

    /// The access token of a stored connection.
    fn token_of(&self, row: &connection::Model) -> Option<String> {
        let sealed = row.token.as_deref()?;
        Some(String::from_utf8(self.app.sealer.open(TOKEN_PURPOSE, sealed).unwrap()).unwrap())
    }

    fn refresh_token_of(&self, row: &connection::Model) -> Option<String> {
        let sealed = row.refresh_token.as_deref()?;
        Some(String::from_utf8(self.app.sealer.open(REFRESH_PURPOSE, sealed).unwrap()).unwrap())
    }

    /// A connection that nobody had to log in for, with an account of its own.
    pub async fn stored_connection(&self, site: &Site) -> connection::Model {
        let id = self.app.db.new_id();
        self.store(self.blank_connection(site, &id.simple().to_string())).await
    }

    /// One of Facebook Login, connected now.
    fn blank_connection(&self, site: &Site, external_id: &str) -> connection::Model {
        let now = self.app.db.now();
        connection::Model {
            id: ConnectionId(self.app.db.new_id()),
            site_id: SiteId(Uuid::parse_str(&site.id).unwrap()),
            platform: Platform::Instagram,
            login: ConnectionLogin::Facebook,
            external_id: external_id.to_owned(),
            username: Some("nordbrew.coffee".to_owned()),
            page_id: Some("104500112233445".to_owned()),
            owner_id: Some("10223344556677889".to_owned()),
            token: Some(self.app.sealer.seal(TOKEN_PURPOSE, b"EAAP-stored-token").unwrap()),
            refresh_token: None,
            token_issued_at: Some(now),
            token_expires_at: None,
            missing_permissions: "[]".to_owned(),
            dead_since: None,
            problem: None,
            limited_until: None,
            last_item_at: None,
            poll_due_at: now,
            has_polled: false,
            check_due_at: now,
            created_at: now,
            updated_at: now,
        }
    }

    async fn store(&self, row: connection::Model) -> connection::Model {
        let tx = self.app.db.write().await.unwrap();
        connection::Entity::insert(connection::ActiveModel::from(row.clone()))
            .exec_without_returning(tx.conn())
            .await
            .unwrap();
        tx.commit().await.unwrap();
        row
    }
}

/// A browser: it keeps its cookies and sends forms.
struct Browser<'a> {
    app: &'a TestApp,
    cookies: RefCell<BTreeMap<String, String>>,
}

impl<'a> Browser<'a> {
    fn new(app: &'a TestApp) -> Self {
        Self { app, cookies: RefCell::default() }
    }

    async fn send(&self, method: &str, path: &str, form: Option<&[(&str, &str)]>) -> Answer {
        let mut call = self.app.call(method, path);
        let cookies: Vec<_> =
            self.cookies.borrow().iter().map(|(name, value)| format!("{name}={value}")).collect();
        if !cookies.is_empty() {
            call = call.header("cookie", &cookies.join("; "));
        }
        if let Some(form) = form {
            let body: String =
                url::form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish();
            call = call.text("application/x-www-form-urlencoded", body);
        }
        let answer = call.send().await;
        for cookie in answer.headers.get_all("set-cookie") {
            let (name, value) = cookie.to_str().unwrap().split(';').next().unwrap().split_once('=').unwrap();
            self.cookies.borrow_mut().insert(name.to_owned(), value.to_owned());
        }
        answer
    }

    async fn get(&self, path: &str) -> Answer {
        self.send("GET", path, None).await
    }

    async fn post(&self, path: &str, form: &[(&str, &str)]) -> Answer {
        self.send("POST", path, Some(form)).await
    }

    /// Opens the link and presses the button; gives the address of the platform's dialog.
    async fn begin(&self, invitation: &Invitation) -> String {
        let page = self.get(&invitation.path).await;
        assert_eq!(page.status.as_u16(), 200, "{}", page.text);
        let nonce = hidden(&page.text, "nonce").remove(0);
        let sent = self.post(&invitation.path, &[("nonce", &nonce)]).await;
        assert_eq!(sent.status.as_u16(), 303, "{}", sent.text);
        sent.headers["location"].to_str().unwrap().to_owned()
    }

    /// The whole way with one account.
    async fn connect(&self, graph: &Graph, invitation: &Invitation) -> Answer {
        let dialog = self.begin(invitation).await;
        self.get(&agree(graph, &dialog)).await
    }
}

/// Agrees at the platform; gives the path with query that it sends people back to.
fn agree(graph: &Graph, dialog: &str) -> String {
    let redirect = parameter(dialog, "redirect_uri").unwrap();
    let state = parameter(dialog, "state").unwrap();
    let code = graph.login_code(&redirect);
    let path = url::Url::parse(&redirect).unwrap().path().to_owned();
    // Instagram puts `#_` behind the code, which some browsers send along.
    let end = if path.ends_with("/instagram") { "%23_" } else { "" };
    format!("{path}?code={code}{end}&state={state}")
}

/// The values of every hidden field of this name.
fn hidden(html: &str, name: &str) -> Vec<String> {
    let field = format!("name=\"{name}\" value=\"");
    html.split(&field).skip(1).map(|rest| rest.split('"').next().unwrap().to_owned()).collect()
}

/// The value of a parameter of an address.
fn parameter(address: &str, name: &str) -> Option<String> {
    let url = url::Url::parse("http://127.0.0.1").unwrap().join(address).unwrap();
    url.query_pairs().find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
}
