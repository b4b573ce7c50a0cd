//! A stand-in for TikTok on a free port: Login Kit with its rotating tokens, API for Business, oEmbed. What it answers otherwise, a test says.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, LazyLock, Mutex};

use entity::id::{MemberId, SiteId};
use entity::kinds::Platform;
use followpoints::profiles::handles;
use poem::http::{HeaderMap, StatusCode};
use poem::listener::{Acceptor as _, Listener as _, TcpListener};
use poem::{Endpoint, Request, Response};
use serde_json::{Value, json};
use uuid::Uuid;

use super::world::{Member, Site};
use super::{Options, TestApp};

/// The client key of the developer app.
pub const CLIENT_KEY: &str = "awtest0client0key0";
/// Its secrets: the current one, and the one before.
pub const DEVELOPER_SECRET: &str = "tt-test-client-secret-000000000001";
pub const OLD_DEVELOPER_SECRET: &str = "tt-test-client-secret-000000000000";
/// The secret of the app of API for Business.
pub const BUSINESS_SECRET: &str = "tt-business-test-secret-00000000001";
/// Who logs in.
pub const OPEN_ID: &str = "-000pXLlKtMHfsQscKhGS39I37HA631lOozL";
/// The only code that the token endpoint takes.
pub const CODE: &str = "code*1!0";

/// One call that came.
#[derive(Debug, Clone)]
pub struct Asked {
    pub path: String,
    pub query: String,
    pub headers: HeaderMap,
    pub body: String,
}

#[derive(Default)]
struct State {
    asked: Vec<Asked>,
    /// Answers to the next calls of a path.
    next: HashMap<String, VecDeque<(u16, Value)>>,
    /// Answers to all others.
    always: HashMap<String, (u16, Value)>,
    /// How often tokens were given; the last ones are good.
    serial: u32,
    scopes: String,
}

/// The stand-in.
#[derive(Clone)]
pub struct Tiktok {
    pub url: String,
    state: Arc<Mutex<State>>,
}

static ALL: LazyLock<Mutex<HashMap<String, Tiktok>>> = LazyLock::new(Mutex::default);

/// A fixture.
pub fn payload(name: &str) -> Value {
    serde_json::from_str(&payload_text(name)).unwrap()
}

/// A fixture byte for byte.
pub fn payload_text(name: &str) -> String {
    let path = format!("{}/tests/it/payloads/tiktok/{name}.json", env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(path).unwrap()
}

/// Options of a service whose TikTok is a stand-in of its own.
pub async fn options() -> Options {
    let url = Tiktok::start().await.url;
    let secrets = format!("{DEVELOPER_SECRET},{OLD_DEVELOPER_SECRET}");
    let settings = [
        ("FOLLOWPOINTS_TIKTOK_CLIENT_KEY", CLIENT_KEY),
        ("FOLLOWPOINTS_TIKTOK_CLIENT_SECRETS", &secrets),
        ("FOLLOWPOINTS_TIKTOK_BUSINESS_APP_ID", "7412345678901234567"),
        ("FOLLOWPOINTS_TIKTOK_BUSINESS_SECRETS", BUSINESS_SECRET),
        ("FOLLOWPOINTS_TIKTOK_API_URL", &url),
        ("FOLLOWPOINTS_TIKTOK_BUSINESS_URL", &url),
        ("FOLLOWPOINTS_TIKTOK_URL", &url),
    ];
    let platforms = settings.into_iter().map(|(name, text)| (name, text.to_owned())).collect();
    Options { platforms, ..Options::default() }
}

impl Tiktok {
    async fn start() -> Self {
        let acceptor = TcpListener::bind("127.0.0.1:0").into_acceptor().await.unwrap();
        let address = *acceptor.local_addr()[0].as_socket_addr().unwrap();
        let tiktok = Self { url: format!("http://{address}"), state: Arc::default() };
        for (path, name) in [
            ("/v2/user/info/", "user_info"),
            ("/v2/video/list/", "video_list_empty"),
            ("/oembed", "oembed"),
            ("/open_api/v1.3/business/mention/video/list/", "business_mention_video_list"),
            ("/open_api/v1.3/business/mention/hashtag/video/list/", "business_mention_hashtag_video_list"),
            ("/open_api/v1.3/business/mention/video/get/", "business_mention_video_get"),
            ("/open_api/v1.3/business/mention/comment/get/", "business_mention_comment_list"),
        ] {
            tiktok.always(path, 200, payload(name));
        }
        tiktok.allow("user.info.basic,user.info.profile,user.info.stats,video.list");
        tokio::spawn(poem::Server::new_with_acceptor(acceptor).run(StandIn(tiktok.clone())));
        ALL.lock().unwrap().insert(tiktok.url.clone(), tiktok.clone());
        tiktok
    }

    /// The stand-in of `app`, which was started with [`options`].
    pub fn of(app: &TestApp) -> Self {
        ALL.lock().unwrap()[&app.config.platforms.tiktok.urls.api].clone()
    }

    /// Answers the next call of `path` so.
    pub fn next(&self, path: &str, status: u16, body: Value) {
        self.state.lock().unwrap().next.entry(path.to_owned()).or_default().push_back((status, body));
    }

    /// Answers every other call of `path` so.
    pub fn always(&self, path: &str, status: u16, body: Value) {
        self.state.lock().unwrap().always.insert(path.to_owned(), (status, body));
    }

    /// The scopes that the person leaves ticked.
    pub fn allow(&self, scopes: &str) {
        scopes.clone_into(&mut self.state.lock().unwrap().scopes);
    }

    /// The calls of `path` so far.
    pub fn asked(&self, path: &str) -> Vec<Asked> {
        let state = self.state.lock().unwrap();
        state.asked.iter().filter(|asked| asked.path == path).cloned().collect()
    }

    fn answer(&self, asked: &Asked) -> (u16, Value) {
        let mut state = self.state.lock().unwrap();
        state.asked.push(asked.clone());
        if let Some(next) = state.next.get_mut(&asked.path).and_then(VecDeque::pop_front) {
            return next;
        }
        if asked.path == "/v2/oauth/token/" {
            return state.tokens(&asked.body);
        }
        let bearer = format!("Bearer act.{}", state.serial);
        let is_bearer = asked.headers.get("authorization").is_some_and(|value| *value == *bearer);
        if asked.path.starts_with("/v2/") && !is_bearer {
            return (401, payload("error_access_token_invalid"));
        }
        let is_business = asked.headers.get("access-token").is_some_and(|value| value == "act.business");
        if asked.path.starts_with("/open_api/") && !is_business {
            return (200, payload("business_error"));
        }
        state.always.get(&asked.path).cloned().unwrap_or((404, json!({})))
    }
}

impl State {
    /// A code or the last refresh token gives the next tokens; a refresh token works once.
    fn tokens(&mut self, form: &str) -> (u16, Value) {
        let form: HashMap<String, String> =
            url::form_urlencoded::parse(form.as_bytes()).into_owned().collect();
        let field = |name: &str| form.get(name).map(String::as_str).unwrap_or_default();
        let is_ours = field("client_key") == CLIENT_KEY && field("client_secret") == DEVELOPER_SECRET;
        let is_good = match field("grant_type") {
            "authorization_code" => field("code") == CODE && !field("code_verifier").is_empty(),
            "refresh_token" => field("refresh_token") == format!("rft.{}", self.serial),
            _ => false,
        };
        if !is_ours || !is_good {
            return (400, payload("oauth_error"));
        }
        self.serial += 1;
        let mut tokens = payload("oauth_token");
        tokens["access_token"] = format!("act.{}", self.serial).into();
        tokens["refresh_token"] = format!("rft.{}", self.serial).into();
        tokens["scope"] = self.scopes.as_str().into();
        (200, tokens)
    }
}

impl TestApp {
    /// `member` says which handle on TikTok is theirs.
    pub async fn claim_on_tiktok(&self, site: &Site, member: &Member, handle: &str) {
        let id = |text: &str| Uuid::parse_str(text).unwrap();
        let tx = self.app.db.write().await.unwrap();
        let (site, member) = (SiteId(id(&site.id)), MemberId(id(&member.id)));
        handles::claim(&tx, site, member, Platform::Tiktok, Some(handle)).await.unwrap();
        tx.commit().await.unwrap();
    }

    /// Shows everybody a post that was made an hour ago.
    pub fn show_a_new_post_on_tiktok(&self) {
        let seconds = u64::try_from(self.app.db.now().seconds() - 3600).unwrap();
        let mut shown = payload("oembed");
        shown["embed_product_id"] = (seconds << 32).to_string().into();
        Tiktok::of(self).always("/oembed", 200, shown);
    }
}

struct StandIn(Tiktok);

impl Endpoint for StandIn {
    type Output = Response;

    async fn call(&self, mut request: Request) -> poem::Result<Response> {
        let asked = Asked {
            path: request.uri().path().to_owned(),
            query: request.uri().query().unwrap_or_default().to_owned(),
            headers: request.headers().clone(),
            body: request.take_body().into_string().await?,
        };
        let (status, body) = self.0.answer(&asked);
        let response = Response::builder().status(StatusCode::from_u16(status).unwrap());
        Ok(response.content_type("application/json").body(body.to_string()))
    }
}
