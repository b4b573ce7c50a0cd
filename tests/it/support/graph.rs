//! A stand-in for the Graph API in both flavours, with the pages where people log in: a real HTTP server on loopback that
//! answers as Meta documents it, and records what it was asked.
//!
//! One server stands for five hosts, told apart by the first part of the path: `fb` (graph.facebook.com), `ig`
//! (graph.instagram.com), `api` (api.instagram.com), `facebook` and `instagram` (www). Tokens are refused in URLs, where Meta
//! would take them, save where its documentation knows no other way: they end up in logs.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard};

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use poem::http::{Method, StatusCode, header};
use poem::listener::{Acceptor as _, Listener as _, TcpListener};
use poem::{Endpoint, Request, Response};
use serde_json::{Map, Value, json};

use super::{Options, TestApp};

/// The version that it speaks; any other is refused.
pub const VERSION: &str = "v26.0";
/// The brand's Instagram account, `entry.id` of its webhooks.
pub const BRAND: &str = "17841460998877001";
/// Its Facebook page.
pub const PAGE: &str = "104500112233445";
/// Whoever connects it, as the Facebook app sees them.
pub const OWNER: &str = "10223344556677889";
/// The brand as the app of Instagram Login sees it.
pub const SCOPED_BRAND: &str = "8823456701234567";
/// The app of Facebook Login.
pub const APP: (&str, &str) = ("1122334455667788", "facebook-app-secret-0123456789abcdef");
/// The app of Instagram Login.
pub const INSTAGRAM_APP: (&str, &str) = ("9988776655443322", "instagram-app-secret-0123456789abcde");
/// Tokens of the brand that are good from the start: of its page, and of Instagram Login.
pub const PAGE_TOKEN: &str = "EAAP-page-token";
pub const INSTAGRAM_TOKEN: &str = "IGAA-brand-token";
/// How long a long-lived token lasts, in seconds.
pub const LONG_LIVED_S: i64 = 5_183_944;
/// Items of a page, unless `limit` says otherwise.
const PAGE_ITEMS: usize = 25;

static ALL: LazyLock<Mutex<HashMap<String, Graph>>> = LazyLock::new(Mutex::default);

/// A sample of what Meta sends, by its file's name.
pub fn payload(name: &str) -> Value {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/payloads/instagram");
    let text = std::fs::read_to_string(folder.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
    serde_json::from_str(&text).unwrap()
}

/// The HTTP status that comes with a sample.
pub fn status_of(name: &str) -> u16 {
    let index = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/payloads/index.json");
    let index: Value = serde_json::from_str(&std::fs::read_to_string(index).unwrap()).unwrap();
    let file = format!("instagram/{name}");
    let found = index["fixtures"].as_array().unwrap().iter().find(|fixture| fixture["file"] == *file);
    let status = found.unwrap_or_else(|| panic!("{name} is not in the index"))["http_status"].as_u64();
    status.map_or(200, |status| u16::try_from(status).unwrap())
}

/// One request that came.
#[derive(Debug, Clone)]
pub struct GraphCall {
    pub method: String,
    /// `fb`, `ig`, `api`, `facebook` or `instagram`.
    pub host: String,
    /// Without the version: `17841460998877001/tags`.
    pub path: String,
    pub query: BTreeMap<String, String>,
    pub token: Option<String>,
    /// JSON or a form, as an object; null for none.
    pub body: Value,
}

impl GraphCall {
    pub fn fields(&self) -> &str {
        self.query.get("fields").map_or("", String::as_str)
    }
}

/// How a call is answered out of turn.
#[derive(Debug, Clone)]
pub enum Fault {
    /// So, with these headers.
    Answer { status: u16, headers: Vec<(String, String)>, body: String },
    /// Not at all.
    Hang,
}

impl Fault {
    /// As the sample says, `graph_error_….json`.
    pub fn sample(name: &str) -> Self {
        Self::answer(status_of(name), payload(name).to_string())
    }

    pub fn answer(status: u16, body: impl Into<String>) -> Self {
        Self::Answer { status, headers: Vec::new(), body: body.into() }
    }

    /// An error by its code, and subcode unless 0.
    pub fn code(status: u16, code: i64, subcode: i64) -> Self {
        Self::answer(status, error(code, subcode, "made up").1.to_string())
    }
}

struct Planned {
    /// Occurs in the path or in the fields that are asked for.
    about: String,
    /// How many such calls go well before.
    after: usize,
    /// How often it still happens; none for ever.
    left: Option<usize>,
    fault: Fault,
}

struct Token {
    /// `fb` or `ig`.
    host: &'static str,
    /// Subcode of the error 190 that it gets now.
    dead: Option<i64>,
}

#[derive(Default)]
struct State {
    tokens: HashMap<String, Token>,
    /// Codes that were not exchanged yet, with their redirect URI.
    codes: HashMap<String, String>,
    made: usize,
    people: HashMap<String, Value>,
    media: HashMap<String, Value>,
    comments: HashMap<String, Value>,
    stories: HashMap<String, Value>,
    discovered: HashMap<String, Value>,
    tags: Vec<Value>,
    permissions: Vec<(String, String)>,
    accounts: Vec<Value>,
    me: Value,
    /// Fields by page or account.
    subscribed: HashMap<String, Vec<String>>,
    knows_product_type: bool,
    headers: Vec<(String, String)>,
    faults: Vec<Planned>,
    sent: HashSet<String>,
    calls: Vec<GraphCall>,
}

/// The stand-in. Cheap to clone.
#[derive(Clone)]
pub struct Graph {
    /// `http://127.0.0.1:…`.
    pub url: String,
    state: Arc<Mutex<State>>,
}

impl Graph {
    /// Starts one that knows the people, media and accounts of the samples, with every permission granted.
    pub async fn start() -> Self {
        let acceptor = TcpListener::bind("127.0.0.1:0").into_acceptor().await.unwrap();
        let address = *acceptor.local_addr()[0].as_socket_addr().unwrap();
        let graph = Self { url: format!("http://{address}"), state: Arc::default() };
        graph.fill();
        let endpoint = GraphEndpoint(graph.clone());
        tokio::spawn(poem::Server::new_with_acceptor(acceptor).run(endpoint));
        ALL.lock().unwrap().insert(graph.url.clone(), graph.clone());
        graph
    }

    /// Starts one, and says how a service is started that uses it: `on_both!(options: Graph::options().await, …)`.
    pub async fn options() -> Options {
        let platforms = Self::start().await.settings();
        Options { platforms, ..Options::default() }
    }

    /// The one that `app` uses.
    pub fn of(app: &TestApp) -> Self {
        let url = app.config.platforms.meta.urls.graph.trim_end_matches("/fb").to_owned();
        ALL.lock().unwrap().get(&url).expect("the service was started with a stand-in").clone()
    }

    /// The service's settings that lead here.
    pub fn settings(&self) -> Vec<(&'static str, String)> {
        let at = |host: &str| format!("{}/{host}", self.url);
        vec![
            ("FOLLOWPOINTS_META_APP_ID", APP.0.to_owned()),
            ("FOLLOWPOINTS_META_APP_SECRETS", APP.1.to_owned()),
            ("FOLLOWPOINTS_META_VERIFY_TOKEN", "facebook-verify-token".to_owned()),
            ("FOLLOWPOINTS_META_INSTAGRAM_APP_ID", INSTAGRAM_APP.0.to_owned()),
            ("FOLLOWPOINTS_META_INSTAGRAM_APP_SECRETS", INSTAGRAM_APP.1.to_owned()),
            ("FOLLOWPOINTS_META_INSTAGRAM_VERIFY_TOKEN", "instagram-verify-token".to_owned()),
            ("FOLLOWPOINTS_META_VERSION", VERSION.to_owned()),
            ("FOLLOWPOINTS_META_GRAPH_URL", at("fb")),
            ("FOLLOWPOINTS_META_INSTAGRAM_GRAPH_URL", at("ig")),
            ("FOLLOWPOINTS_META_INSTAGRAM_API_URL", at("api")),
            ("FOLLOWPOINTS_META_FACEBOOK_URL", at("facebook")),
            ("FOLLOWPOINTS_META_INSTAGRAM_URL", at("instagram")),
        ]
    }

    fn fill(&self) {
        let mut state = self.state();
        for (host, token) in [("fb", PAGE_TOKEN), ("ig", INSTAGRAM_TOKEN)] {
            state.tokens.insert(token.to_owned(), Token { host, dead: None });
        }
        let mia = payload("graph_user_profile_following.json");
        state.people.insert("5512034987760112".to_owned(), mia);
        for name in ["graph_mentioned_media.json", "graph_mentioned_media_reel.json"] {
            let media = payload(name)["mentioned_media"].clone();
            state.media.insert(text(&media["id"]), media);
        }
        let comment = payload("graph_mentioned_comment.json")["mentioned_comment"].clone();
        state.comments.insert(text(&comment["id"]), comment);
        let found = payload("graph_business_discovery.json")["business_discovery"].clone();
        state.discovered.insert(text(&found["username"]), found);
        state.permissions = [
            "instagram_basic",
            "instagram_manage_comments",
            "instagram_manage_messages",
            "instagram_manage_insights",
            "pages_show_list",
            "pages_manage_metadata",
            "pages_read_engagement",
            "pages_messaging",
            "business_management",
        ]
        .map(|name| (name.to_owned(), "granted".to_owned()))
        .to_vec();
        let mut accounts = payload("graph_me_accounts.json")["data"].as_array().cloned().unwrap();
        accounts[0]["access_token"] = PAGE_TOKEN.into();
        state.accounts = accounts;
        state.me = payload("graph_ig_user_me.json");
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Everything that it was asked.
    pub fn calls(&self) -> Vec<GraphCall> {
        self.state().calls.clone()
    }

    /// What it was asked whose path and query hold `about`.
    pub fn calls_about(&self, about: &str) -> Vec<GraphCall> {
        let holds = |call: &GraphCall| call.path.contains(about) || call.fields().contains(about);
        self.calls().into_iter().filter(holds).collect()
    }

    /// Forgets what it was asked.
    pub fn forget_calls(&self) {
        self.state().calls.clear();
    }

    /// Answers calls whose path or fields hold `about` so, `times` times or for ever.
    pub fn fail(&self, about: &str, times: Option<usize>, fault: Fault) {
        self.state().faults.push(Planned { about: about.to_owned(), after: 0, left: times, fault });
    }

    /// The same for ever, after `after` such calls went well.
    pub fn fail_after(&self, about: &str, after: usize, fault: Fault) {
        self.state().faults.push(Planned { about: about.to_owned(), after, left: None, fault });
    }

    /// Ends every fault.
    pub fn recover(&self) {
        self.state().faults.clear();
    }

    /// Sends this header with every answer from now on.
    pub fn header(&self, name: &str, value: &str) {
        let mut state = self.state();
        state.headers.retain(|(known, _)| known != name);
        state.headers.push((name.to_owned(), value.to_owned()));
    }

    /// Sends no such headers any more.
    pub fn no_headers(&self) {
        self.state().headers.clear();
    }

    /// The profile of somebody who has agreed to it, by their id.
    pub fn person(&self, id: &str, profile: Value) {
        self.state().people.insert(id.to_owned(), profile);
    }

    /// A media object that mentions the brand.
    pub fn media(&self, id: &str, media: Value) {
        self.state().media.insert(id.to_owned(), media);
    }

    /// A comment that mentions the brand.
    pub fn comment(&self, id: &str, comment: Value) {
        self.state().comments.insert(id.to_owned(), comment);
    }

    /// A message that mentions the brand in a story.
    pub fn story(&self, mid: &str, message: Value) {
        self.state().stories.insert(mid.to_owned(), message);
    }

    /// What is tagged with the brand, in the order of the pages.
    pub fn tags(&self, tags: Vec<Value>) {
        self.state().tags = tags;
    }

    /// Whether `media_product_type` may be asked for on a mention; it is not documented there, so not by default.
    pub fn knows_product_type(&self, knows: bool) {
        self.state().knows_product_type = knows;
    }

    /// What the person granted or declined.
    pub fn permission(&self, name: &str, status: &str) {
        let mut state = self.state();
        state.permissions.retain(|(known, _)| known != name);
        state.permissions.push((name.to_owned(), status.to_owned()));
    }

    /// The pages of whoever connects.
    pub fn accounts(&self, accounts: Vec<Value>) {
        self.state().accounts = accounts;
    }

    /// Refuses `token` from now on with error 190 and this subcode: 463 expired, 458 app removed.
    pub fn kill(&self, token: &str, subcode: i64) {
        if let Some(token) = self.state().tokens.get_mut(token) {
            token.dead = Some(subcode);
        }
    }

    /// A token that is good on `host`, `fb` or `ig`.
    pub fn token(&self, host: &'static str, token: &str) {
        self.state().tokens.insert(token.to_owned(), Token { host, dead: None });
    }

    /// A code as the login pages give it, good once for this redirect URI.
    pub fn login_code(&self, redirect_uri: &str) -> String {
        let mut state = self.state();
        state.made += 1;
        let code = format!("code-{}", state.made);
        state.codes.insert(code.clone(), redirect_uri.to_owned());
        code
    }

    /// The fields to which a page or account is subscribed.
    pub fn subscribed(&self, id: &str) -> Option<Vec<String>> {
        self.state().subscribed.get(id).cloned()
    }

    fn answer(&self, call: &GraphCall, version: Option<&str>) -> Reply {
        if version.is_some_and(|version| version != VERSION) {
            return error(2635, 0, "You are calling a deprecated version of the Ads API.");
        }
        match (call.host.as_str(), call.path.as_str()) {
            ("facebook", "dialog/oauth") | ("instagram", "oauth/authorize") => self.dialog(call),
            ("fb", "oauth/access_token") => self.facebook_token(call),
            ("api", "oauth/access_token") => self.instagram_code(call),
            ("ig", "access_token" | "refresh_access_token") => self.instagram_token(call),
            ("fb" | "ig", _) => self.graph(call),
            _ => (404, json!({"error": "no such address"})),
        }
    }

    /// The page where people log in: everybody agrees at once.
    fn dialog(&self, call: &GraphCall) -> Reply {
        let app = if call.host == "facebook" { APP.0 } else { INSTAGRAM_APP.0 };
        if call.query.get("client_id").map(String::as_str) != Some(app) {
            return (400, json!({"error": "no such app"}));
        }
        let query = |name: &str| call.query.get(name).cloned().unwrap_or_default();
        let code = self.login_code(&query("redirect_uri"));
        let mut location = url::Url::parse(&query("redirect_uri")).unwrap();
        location.query_pairs_mut().append_pair("code", &code).append_pair("state", &query("state"));
        let end = if call.host == "instagram" { "#_" } else { "" };
        (302, json!(format!("{location}{end}")))
    }

    fn new_token(&self, host: &'static str, kind: &str) -> String {
        let mut state = self.state();
        state.made += 1;
        let token = format!("{}-{kind}-{}", if host == "fb" { "EAAP" } else { "IGAA" }, state.made);
        state.tokens.insert(token.clone(), Token { host, dead: None });
        token
    }

    fn facebook_token(&self, call: &GraphCall) -> Reply {
        let given = |name: &str| call.query.get(name).map_or("", String::as_str);
        if (given("client_id"), given("client_secret")) != APP {
            return error(1, 0, "Error validating client secret.");
        }
        if given("grant_type") == "fb_exchange_token" {
            return match self.refused("fb", given("fb_exchange_token")) {
                Some(refused) => refused,
                None => (200, token_answer(&self.new_token("fb", "long"), LONG_LIVED_S)),
            };
        }
        let redirect_uri = self.state().codes.remove(given("code"));
        if redirect_uri.as_deref() != Some(given("redirect_uri")) {
            return error(100, 36009, "This authorization code has been used.");
        }
        (200, token_answer(&self.new_token("fb", "short"), 5_182))
    }

    fn instagram_code(&self, call: &GraphCall) -> Reply {
        let given = |name: &str| call.body[name].as_str().unwrap_or("");
        let redirect_uri = self.state().codes.remove(given("code"));
        let is_known = (given("client_id"), given("client_secret")) == INSTAGRAM_APP
            && given("grant_type") == "authorization_code"
            && redirect_uri.as_deref() == Some(given("redirect_uri"));
        if !is_known {
            return (400, payload("oauth_ig_error.json"));
        }
        let mut answer = payload("oauth_ig_short_token_flat.json");
        answer["access_token"] = self.new_token("ig", "short").into();
        answer["user_id"] = json!(8_823_456_701_234_567_u64);
        (200, answer)
    }

    fn instagram_token(&self, call: &GraphCall) -> Reply {
        let given = |name: &str| call.query.get(name).map_or("", String::as_str);
        let token = call.token.as_deref().unwrap_or(given("access_token"));
        if let Some(refused) = self.refused("ig", token) {
            return refused;
        }
        let is_exchange = call.path == "access_token";
        let grant = if is_exchange { "ig_exchange_token" } else { "ig_refresh_token" };
        if given("grant_type") != grant || (is_exchange && given("client_secret") != INSTAGRAM_APP.1) {
            return error(100, 0, "Invalid parameter");
        }
        (200, token_answer(&self.new_token("ig", "long"), LONG_LIVED_S))
    }

    /// Why a token is not accepted on `host`.
    fn refused(&self, host: &str, token: &str) -> Option<Reply> {
        match self.state().tokens.get(token) {
            Some(known) if known.host != host => Some(error(190, 0, "Cannot parse access token")),
            Some(Token { dead: Some(subcode), .. }) => {
                Some(error(190, *subcode, "Error validating access token"))
            }
            Some(_) => None,
            None => Some(error(190, 0, "Invalid OAuth access token")),
        }
    }

    fn graph(&self, call: &GraphCall) -> Reply {
        if call.query.contains_key("access_token") {
            return error(100, 0, "this stand-in takes no token in a URL");
        }
        let Some(token) = &call.token else { return error(104, 0, "An access token is required") };
        if let Some(refused) = self.refused(&call.host, token) {
            return refused;
        }
        let secret = if call.host == "fb" { APP.1 } else { INSTAGRAM_APP.1 };
        match call.query.get("appsecret_proof") {
            Some(proof) if *proof == app_secret_proof(secret, token) => {}
            Some(_) => return error(100, 0, "Invalid appsecret_proof provided in the API argument"),
            None => return error(100, 0, "API calls from the server require an appsecret_proof argument"),
        }
        let parts: Vec<&str> = call.path.split('/').collect();
        let is_get = call.method == "GET";
        match parts[..] {
            ["me"] if is_get && call.host == "fb" => (200, pick(&json!({"id": OWNER}), call.fields())),
            ["me"] if is_get => (200, pick(&self.state().me, call.fields())),
            ["me", "permissions"] if is_get => self.permissions(),
            ["me", "accounts"] if is_get => {
                let accounts = self.state().accounts.clone();
                (200, page(&accounts, call, true))
            }
            [id, "subscribed_apps"] => self.subscription(id, call),
            [BRAND, "tags"] if is_get => {
                let tags = self.state().tags.clone();
                (200, page(&tags, call, false))
            }
            [_, "mentions"] if !is_get && call.host == "fb" => self.reply(call),
            ["me" | BRAND | PAGE, "messages"] if !is_get => self.message(call),
            [BRAND | PAGE] if is_get => self.account(call),
            [id] if is_get => self.person_or_message(id, call),
            _ => missing(&call.path),
        }
    }

    fn permissions(&self) -> Reply {
        let state = self.state();
        let rows = state.permissions.iter();
        let rows: Vec<_> = rows.map(|(name, status)| json!({"permission": name, "status": status})).collect();
        (200, json!({"data": rows}))
    }

    fn subscription(&self, id: &str, call: &GraphCall) -> Reply {
        let mut state = self.state();
        match call.method.as_str() {
            "POST" => {
                let given = call.query.get("subscribed_fields").cloned();
                let given = given.or_else(|| call.body["subscribed_fields"].as_str().map(str::to_owned));
                let fields: Vec<String> =
                    given.unwrap_or_default().split(',').map(|field| field.trim().to_owned()).collect();
                let is_page_field = |field: &String| {
                    ["feed", "mention", "name", "messages", "conversations"].contains(&field.as_str())
                };
                if call.host == "fb" && !fields.iter().all(is_page_field) {
                    return (400, payload("graph_error_100_invalid_parameter.json"));
                }
                state.subscribed.insert(id.to_owned(), fields);
                (200, json!({"success": true}))
            }
            "DELETE" => {
                state.subscribed.remove(id);
                (200, json!({"success": true}))
            }
            _ => {
                let app = if call.host == "fb" { APP.0 } else { INSTAGRAM_APP.0 };
                let row = |fields: &Vec<String>| json!({"id": app, "name": "Loyalty Social", "subscribed_fields": fields});
                (200, json!({"data": state.subscribed.get(id).map(row).into_iter().collect::<Vec<_>>()}))
            }
        }
    }

    /// `POST /{ig-user}/mentions`.
    fn reply(&self, call: &GraphCall) -> Reply {
        let given = |name: &str| call.body[name].as_str().or(call.query.get(name).map(String::as_str));
        let state = self.state();
        let Some(media) = given("media_id").filter(|id| {
            state.media.contains_key(*id) || state.comments.values().any(|row| row["media"]["id"] == **id)
        }) else {
            return missing(given("media_id").unwrap_or(""));
        };
        if given("message").is_none_or(str::is_empty) {
            return error(100, 0, "The parameter message is required");
        }
        drop(state);
        (200, json!({"id": format!("1791149998887{}", &media[media.len().saturating_sub(4)..])}))
    }

    /// `POST /me/messages`.
    fn message(&self, call: &GraphCall) -> Reply {
        let Some(person) = call.body["recipient"]["id"].as_str() else {
            return error(100, 0, "The parameter recipient is required");
        };
        let mut state = self.state();
        if !state.people.contains_key(person) {
            return error(100, 2_534_014, "The requested user cannot be found");
        }
        let mid = format!("mid-of-brand-{}", state.sent.len() + 1);
        state.sent.insert(mid.clone());
        (200, json!({"recipient_id": person, "message_id": mid}))
    }

    /// `GET /{ig-user}` with one of the fields that look at others.
    fn account(&self, call: &GraphCall) -> Reply {
        let fields = call.fields();
        let Some((name, key, wanted)) = nested(fields) else {
            let state = self.state();
            let mut own = state.me.clone();
            own["id"] = BRAND.into();
            return (200, pick(&own, fields));
        };
        if call.host == "ig" {
            return error(100, 0, &format!("Tried accessing nonexisting field ({name})"));
        }
        let state = self.state();
        let found = match name {
            "mentioned_media" if wanted.contains("media_product_type") && !state.knows_product_type => {
                return error(100, 0, "Tried accessing nonexisting field (media_product_type)");
            }
            "mentioned_media" => state.media.get(key),
            "mentioned_comment" => state.comments.get(key),
            "business_discovery" => match state.discovered.get(key) {
                Some(found) => Some(found),
                None => return (400, payload("graph_error_business_discovery_not_found.json")),
            },
            _ => return error(100, 0, "Tried accessing nonexisting field"),
        };
        match found {
            Some(found) => (200, json!({name: pick(found, wanted), "id": BRAND})),
            None => missing(key),
        }
    }

    fn person_or_message(&self, id: &str, call: &GraphCall) -> Reply {
        let state = self.state();
        if let Some(message) = state.stories.get(id) {
            return (200, pick(message, call.fields()));
        }
        match state.people.get(id) {
            Some(person) => (200, pick(person, call.fields())),
            None if id.bytes().all(|byte| byte.is_ascii_digit()) => {
                let name = "graph_error_230_user_consent.json";
                (status_of(name), payload(name))
            }
            None => missing(id),
        }
    }
}

type Reply = (u16, Value);

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

fn error(code: i64, subcode: i64, message: &str) -> Reply {
    let mut error = json!({
        "message": message, "type": "OAuthException", "code": code, "fbtrace_id": "AFFsIINr81B52PTf0DrbJq1",
    });
    if subcode != 0 {
        error["error_subcode"] = subcode.into();
    }
    (400, json!({"error": error}))
}

fn missing(id: &str) -> Reply {
    error(100, 33, &format!("Unsupported get request. Object with ID '{id}' does not exist"))
}

fn token_answer(token: &str, expires_in: i64) -> Value {
    json!({"access_token": token, "token_type": "bearer", "expires_in": expires_in})
}

/// The proof that whoever has the token has the app's secret too.
pub fn app_secret_proof(secret: &str, token: &str) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    hmac::sign(&key, token.as_bytes())
        .as_ref()
        .iter()
        .fold(String::new(), |text, byte| format!("{text}{byte:02x}"))
}

/// `name.key_name(key){fields}`: the name, the key and the fields.
fn nested(fields: &str) -> Option<(&str, &str, &str)> {
    let (name, rest) = fields.split_once('.')?;
    let (key, rest) = rest.split_once('(')?.1.split_once("){")?;
    Some((name, key, rest.strip_suffix('}')?))
}

/// The fields of `found` that were asked for, and its id. Fields of fields come whole.
fn pick(found: &Value, fields: &str) -> Value {
    let (mut names, mut depth, mut name) = (vec!["id".to_owned()], 0_usize, String::new());
    for letter in fields.chars() {
        match letter {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => names.push(std::mem::take(&mut name)),
            _ if depth == 0 => name.push(letter),
            _ => {}
        }
    }
    names.push(name);
    let is_wanted = |(key, _): &(&String, &Value)| names.contains(key);
    let fields = found.as_object().into_iter().flatten().filter(is_wanted);
    Value::Object(fields.map(|(key, value)| (key.clone(), value.clone())).collect())
}

/// A page of `rows` with cursors; `next` only where it is documented.
fn page(rows: &[Value], call: &GraphCall, has_next: bool) -> Value {
    let limit = call.query.get("limit").and_then(|limit| limit.parse().ok()).unwrap_or(PAGE_ITEMS);
    let decoded = call.query.get("after").and_then(|after| URL_SAFE_NO_PAD.decode(after).ok());
    let start: usize =
        decoded.and_then(|start| String::from_utf8(start).ok()?.parse().ok()).unwrap_or(0).min(rows.len());
    let end = (start + limit).min(rows.len());
    let data: Vec<Value> = rows[start..end].iter().map(|row| pick(row, call.fields())).collect();
    if data.is_empty() {
        return json!({"data": []});
    }
    let cursor = |at: usize| URL_SAFE_NO_PAD.encode(at.to_string());
    let mut answer =
        json!({"data": data, "paging": {"cursors": {"before": cursor(start), "after": cursor(end)}}});
    if has_next && end < rows.len() {
        answer["paging"]["next"] = format!("https://graph.facebook.com/next?after={}", cursor(end)).into();
    }
    answer
}

struct GraphEndpoint(Graph);

impl GraphEndpoint {
    async fn read(mut request: Request) -> (GraphCall, Option<String>) {
        let body = request.take_body().into_string().await.unwrap();
        let form = |text: &str| -> BTreeMap<String, String> {
            url::form_urlencoded::parse(text.as_bytes()).into_owned().collect()
        };
        let body = match serde_json::from_str(&body) {
            _ if body.is_empty() => Value::Null,
            Ok(body) => body,
            Err(_) => {
                Value::Object(form(&body).into_iter().map(|(k, v)| (k, v.into())).collect::<Map<_, _>>())
            }
        };
        let path = request.uri().path().trim_start_matches('/').to_owned();
        let (host, rest) = path.split_once('/').unwrap_or((&path, ""));
        let is_version =
            |text: &str| text.starts_with('v') && text[1..].starts_with(|c: char| c.is_ascii_digit());
        let (version, path) = match rest.split_once('/') {
            Some((version, rest)) if is_version(version) => (Some(version.to_owned()), rest),
            _ => (None, rest),
        };
        let token = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let call = GraphCall {
            method: request.method().to_string(),
            host: host.to_owned(),
            path: path.to_owned(),
            query: form(request.uri().query().unwrap_or("")),
            token: token.and_then(|token| token.strip_prefix("Bearer ")).map(str::to_owned),
            body,
        };
        (call, version)
    }

    fn planned(&self, call: &GraphCall) -> Option<Fault> {
        let mut state = self.0.state();
        let about =
            |planned: &Planned| call.path.contains(&planned.about) || call.fields().contains(&planned.about);
        let index = state.faults.iter().position(about)?;
        if state.faults[index].after > 0 {
            state.faults[index].after -= 1;
            return None;
        }
        let fault = state.faults[index].fault.clone();
        match &mut state.faults[index].left {
            None => {}
            Some(1) => drop(state.faults.remove(index)),
            Some(left) => *left -= 1,
        }
        Some(fault)
    }
}

impl Endpoint for GraphEndpoint {
    type Output = Response;

    async fn call(&self, request: Request) -> poem::Result<Response> {
        let is_head = request.method() == Method::HEAD;
        let (call, version) = Self::read(request).await;
        self.0.state().calls.push(call.clone());
        let (status, headers, body) = match self.planned(&call) {
            Some(Fault::Hang) => std::future::pending().await,
            Some(Fault::Answer { status, headers, body }) => (status, headers, body),
            None => {
                let (status, body) = self.0.answer(&call, version.as_deref());
                if status == 302 {
                    let location = ("location".to_owned(), text(&body));
                    (status, vec![location], String::new())
                } else {
                    (status, Vec::new(), body.to_string())
                }
            }
        };
        let mut response = Response::builder().status(StatusCode::from_u16(status).unwrap());
        let of_all = self.0.state().headers.clone();
        for (name, value) in headers.into_iter().chain(of_all) {
            response = response.header(name, value);
        }
        let response = response.content_type("application/json; charset=UTF-8");
        Ok(if is_head { response.finish() } else { response.body(body) })
    }
}
