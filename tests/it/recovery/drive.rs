//! Members who follow channel after channel through a service that goes away and comes back: each repeats its call until
//! it is answered, and remembers the answer.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;

use crate::support::ADMIN_KEY;
use crate::support::process::{Http, LOOK, NoAnswer, WAIT};
use crate::support::world::text;

/// What each member follows, one after the other; each gives 50 points.
pub const CHANNELS: [&str; 5] = ["X", "INSTAGRAM", "FACEBOOK", "LINKEDIN", "TIKTOK"];
/// Calls at once.
const CALLS: usize = 16;
/// After which a member repeats a call that nobody answers: else all would wait at a node that sleeps.
const PATIENCE: Duration = Duration::from_secs(8);
const SECRET: &str = "a shared secret of the site, 32 bytes or more";

/// A site of a service, wherever that is at the moment.
pub struct Shop {
    http: Http,
    urls: watch::Sender<Vec<String>>,
    /// Which of them is called next.
    turn: AtomicUsize,
    /// Whether an answer may say that the service failed; the call is then repeated.
    may_fail: AtomicBool,
    site: String,
    app: String,
}

impl Shop {
    /// Makes an active site whose own tokens are trusted, with an installed app.
    pub async fn open(url: &str) -> Self {
        let mut shop = Self {
            http: Http::new(),
            urls: watch::Sender::new(vec![url.to_owned()]),
            turn: AtomicUsize::new(0),
            may_fail: AtomicBool::new(false),
            site: String::new(),
            app: String::new(),
        };
        let body = json!({"site": {"name": "Nordbrew"}});
        shop.site = text(&shop.admin("POST", "/admin/v1/sites", Some(&body)).await["site"]["id"]);
        let channels =
            CHANNELS.map(|channel| json!({"type": channel, "enabled": true, "id": "nordbrew", "points": 50}));
        let body = json!({"socialMediaSettings": {"channels": channels}});
        shop.admin("PATCH", "/admin/v1/social-media-settings", Some(&body)).await;
        shop.admin("POST", "/loyalty-programs/v1/program/activate", None).await;
        let issuer =
            json!({"issuer": "https://nordbrew.example", "audience": "points", "hmacSecret": SECRET});
        let body = json!({"siteAuth": {"trustedIssuers": [issuer]}});
        shop.admin("PATCH", "/admin/v1/site-auth", Some(&body)).await;
        let body = json!({"app": {"name": "CRM sync"}});
        shop.app = text(&shop.admin("POST", "/admin/v1/apps", Some(&body)).await["app"]["id"]);
        let body = json!({"appInstance": {"appId": shop.app}});
        shop.admin("POST", "/admin/v1/app-instances", Some(&body)).await;
        shop
    }

    /// A subscription that only a dead receiver would time out.
    pub async fn subscribe(&self, event_types: &[&str], url: &str) {
        self.subscribe_with(event_types, url, json!({"timeoutMs": 15_000})).await;
    }

    /// A subscription with more fields; gives the answer.
    pub async fn subscribe_with(&self, event_types: &[&str], url: &str, more: Value) -> Value {
        let mut new = json!({"appId": self.app, "eventTypes": event_types, "url": url});
        new.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let body = json!({"webhookSubscription": new});
        self.admin("POST", "/admin/v1/webhook-subscriptions", Some(&body)).await
    }

    /// The service is gone until [`Shop::is_at`].
    pub fn is_away(&self) {
        self.is_at_all(&[]);
    }

    pub fn is_at(&self, url: &str) {
        self.is_at_all(&[url]);
    }

    /// The service has several nodes, which are called in turn.
    pub fn is_at_all(&self, urls: &[&str]) {
        self.urls.send_replace(urls.iter().map(|url| (*url).to_owned()).collect());
    }

    /// Whether a member may be told that the service failed, for what a database does.
    pub fn may_fail(&self, may_fail: bool) {
        self.may_fail.store(may_fail, Ordering::SeqCst);
    }

    async fn url(&self) -> String {
        let mut urls = self.urls.subscribe();
        let urls = urls.wait_for(|urls| !urls.is_empty()).await.unwrap();
        urls[self.turn.fetch_add(1, Ordering::SeqCst) % urls.len()].clone()
    }

    /// Status and body of the answer, which must come.
    async fn call(
        &self,
        (method, url): (&str, &str),
        headers: &[(&str, &str)],
        body: Option<&Value>,
    ) -> (u16, Value) {
        let answer = self.http.send((method, url), headers, body).await;
        answer.unwrap_or_else(|NoAnswer(reason)| panic!("{method} {url}: {reason}"))
    }

    /// A call with the instance key that must succeed.
    pub async fn admin(&self, method: &str, path: &str, body: Option<&Value>) -> Value {
        let mut headers = vec![("authorization", ADMIN_KEY)];
        if !self.site.is_empty() {
            headers.push(("wix-site-id", self.site.as_str()));
        }
        let url = format!("{}{path}", self.url().await);
        let (status, answer) = self.call((method, &url), &headers, body).await;
        assert_eq!(status, 200, "{method} {path}: {answer}");
        answer
    }

    /// Reads `path` as the member; must succeed.
    pub async fn as_member(&self, member: usize, path: &str) -> Value {
        let url = format!("{}{path}", self.url().await);
        let token = token(member);
        let (status, answer) = self.call(("GET", &url), &[("authorization", &token)], None).await;
        assert_eq!(status, 200, "{path}: {answer}");
        answer
    }

    /// Follows until there is an answer; gives the follow's id.
    async fn follow(&self, member: usize, channel: &str) -> String {
        let body = json!({"followedChannel": {"channel": channel}});
        let token = token(member);
        let mut tries = tokio::time::interval(LOOK);
        let mut is_repeat = false;
        loop {
            tries.tick().await;
            let url = format!("{}/loyalty-social-media/v1/followed-channels", self.url().await);
            let headers = [("authorization", token.as_str())];
            let call = self.http.send(("POST", &url), &headers, Some(&body));
            let Ok(answer) = tokio::time::timeout(PATIENCE, call).await else {
                is_repeat = true;
                continue;
            };
            match answer {
                Ok((200, answer)) => return text(&answer["followedChannel"]["id"]),
                Ok((409, answer)) if is_repeat => {
                    return text(&answer["details"]["applicationError"]["data"]["followedChannel"]["id"]);
                }
                Ok((503, _)) | Err(_) => is_repeat = true,
                Ok((500 | 504, _)) if self.may_fail.load(Ordering::SeqCst) => is_repeat = true,
                Ok((status, answer)) => panic!("member {member} follows {channel}: {status} {answer}"),
            }
        }
    }
}

/// A token of the site for one of its members.
fn token(member: usize) -> String {
    // The year 2100: the machine's clock is of no interest here.
    let claims = json!({
        "iss": "https://nordbrew.example", "aud": "points", "sub": format!("u-{member}"), "exp": 4_102_444_800_u32,
    });
    let key = EncodingKey::from_secret(SECRET.as_bytes());
    jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &key).unwrap()
}

/// The members at work.
pub struct Drive {
    pub shop: Arc<Shop>,
    state: Arc<State>,
    workers: tokio::sync::Mutex<JoinSet<()>>,
}

#[derive(Default)]
struct State {
    next: AtomicUsize,
    /// How many are made.
    limit: AtomicUsize,
    acknowledged: Mutex<BTreeMap<usize, String>>,
    grown: Notify,
    is_over: AtomicBool,
}

impl Drive {
    /// Starts; number n is member n / 5 following channel n % 5.
    pub fn start(shop: Shop) -> Self {
        Self::start_with(shop, usize::MAX)
    }

    /// The same with so many follows and no more.
    pub fn start_with(shop: Shop, count: usize) -> Self {
        let (shop, state) = (Arc::new(shop), Arc::new(State::default()));
        state.limit.store(count, Ordering::SeqCst);
        let mut workers = JoinSet::new();
        for _ in 0..CALLS {
            workers.spawn(work(Arc::clone(&shop), Arc::clone(&state)));
        }
        Self { shop, state, workers: tokio::sync::Mutex::new(workers) }
    }

    /// Makes so many follows more, after all were answered.
    pub async fn go_on(&self, more: usize) {
        let total = self.count() + more;
        self.state.limit.store(total, Ordering::SeqCst);
        self.state.next.store(self.count(), Ordering::SeqCst);
        self.state.is_over.store(false, Ordering::SeqCst);
        let mut workers = self.workers.lock().await;
        for _ in 0..CALLS {
            workers.spawn(work(Arc::clone(&self.shop), Arc::clone(&self.state)));
        }
        drop(workers);
        self.wait_for(total).await;
        self.stop().await;
    }

    /// Follows that were answered so far.
    pub fn count(&self) -> usize {
        self.state.acknowledged.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Every follow that was answered: its number and its id.
    pub fn acknowledged(&self) -> BTreeMap<usize, String> {
        self.state.acknowledged.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits until so many follows were answered.
    pub async fn wait_for(&self, count: usize) {
        let wait = async {
            loop {
                let grown = self.state.grown.notified();
                if self.count() >= count {
                    return;
                }
                grown.await;
            }
        };
        let waited = tokio::time::timeout(WAIT, wait).await;
        assert!(waited.is_ok(), "{} of {count} follows were answered", self.count());
    }

    /// Lets every worker end its call, and begin no other.
    pub async fn stop(&self) {
        self.state.is_over.store(true, Ordering::SeqCst);
        let mut workers = self.workers.lock().await;
        while let Some(worker) = workers.join_next().await {
            worker.unwrap();
        }
    }
}

async fn work(shop: Arc<Shop>, state: Arc<State>) {
    while !state.is_over.load(Ordering::SeqCst) {
        let number = state.next.fetch_add(1, Ordering::SeqCst);
        if number >= state.limit.load(Ordering::SeqCst) {
            return;
        }
        let follow = shop.follow(number / CHANNELS.len(), CHANNELS[number % CHANNELS.len()]);
        let id = tokio::time::timeout(2 * WAIT, follow).await.expect("an answer comes in time");
        let mut acknowledged = state.acknowledged.lock().unwrap_or_else(PoisonError::into_inner);
        assert_eq!(acknowledged.insert(number, id), None);
        drop(acknowledged);
        state.grown.notify_waiters();
    }
}
