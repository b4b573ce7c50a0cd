//! The pages of `/connect`: for people, so they are no part of the document of operations.

use std::sync::Arc;

use entity::kinds::ConnectionLogin;
use poem::http::{StatusCode, header};
use poem::web::{Data, Path};
use poem::{Body, Request, Response, Route, get, handler, post};

use super::Connections;
use super::flow::{Answered, Bound, Outcome, is_token};
use super::pages::{self, Page};
use super::{StoreError, withdrawal_api};
use crate::app::App;
use crate::http;
use crate::http::named::named;
use crate::http::problem::Problem;
use crate::seal;

/// The cookie of a browser's session.
const COOKIE: &str = "followpoints_connect";
/// How long it lives, in seconds.
const COOKIE_LIFE_S: u32 = 24 * 3_600;
/// Bytes of a form.
const FORM_BYTES_MAX: usize = 16 * 1024;

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Store(error) => error.into(),
            StoreError::Seal(error) => error.into(),
        }
    }
}

/// Adds the pages and the callbacks of people who withdraw.
#[must_use]
pub fn routes(route: Route) -> Route {
    let route = route
        .at(
            "/connect/:token",
            get(named("showConnectionInvitation", show)).post(named("beginConnecting", begin)),
        )
        .at("/connect/again", post(named("beginConnectingAgain", again)))
        .at("/connect/choose", post(named("chooseAccountToConnect", choose)))
        .at("/connect/callback/:login", get(named("finishConnecting", callback)));
    withdrawal_api::routes(route)
}

/// What an invitation is for. Nothing happens yet: whatever looks at links before people do uses nothing up.
#[handler]
async fn show(
    app: Data<&Arc<App>>,
    Path(token): Path<String>,
    request: &Request,
) -> Result<Response, Problem> {
    let connections = &app.connections;
    let shown = match connections.look(&token).await? {
        Ok(shown) => shown,
        Err(outcome) => return Ok(answer(connections, &pages::outcome(&outcome, "", ""))),
    };
    let (session, is_new) = match session(request) {
        Some(session) => (session, false),
        None => (seal::new_secret("")?, true),
    };
    let nonce = nonce(&session, &token, &seal::new_secret("")?);
    let action = format!("{}/connect/{token}", connections.public_url());
    let page = pages::invitation(&shown, &action, &nonce);
    let mut response = respond(&page, &pages::targets(connections.login_host(shown.login)));
    if is_new {
        let cookie = cookie(connections.public_url(), &session);
        response.headers_mut().insert(header::SET_COOKIE, cookie.parse().map_err(Problem::internal)?);
    }
    Ok(response)
}

/// The button: on to the platform.
#[handler]
async fn begin(
    app: Data<&Arc<App>>,
    Path(token): Path<String>,
    request: &Request,
    body: Body,
) -> Result<Response, Problem> {
    let connections = &app.connections;
    let form = form(body).await?;
    let given = field(&form, "nonce");
    let Some(session) = session(request).filter(|session| is_nonce(session, &token, given)) else {
        // Whether there is such an invitation is said here as there.
        let page = match connections.look(&token).await? {
            Ok(_) => pages::stale(),
            Err(outcome) => pages::outcome(&outcome, "", ""),
        };
        return Ok(answer(connections, &page));
    };
    let outcome = connections.begin(&token, &session).await?;
    Ok(step(connections, &outcome, ""))
}

/// Another try where one has failed.
#[handler]
async fn again(app: Data<&Arc<App>>, request: &Request, body: Body) -> Result<Response, Problem> {
    let form = form(body).await?;
    let (session, state) = (session(request).unwrap_or_default(), field(&form, "state"));
    let outcome = app.connections.begin_again(Bound { session: &session, state }).await?;
    Ok(step(&app.connections, &outcome, state))
}

/// One of several accounts.
#[handler]
async fn choose(app: Data<&Arc<App>>, request: &Request, body: Body) -> Result<Response, Problem> {
    let form = form(body).await?;
    let (session, state) = (session(request).unwrap_or_default(), field(&form, "state"));
    let outcome = app.connections.choose(Bound { session: &session, state }, field(&form, "account")).await?;
    Ok(step(&app.connections, &outcome, state))
}

/// Where platforms send people back to.
#[handler]
async fn callback(
    app: Data<&Arc<App>>,
    Path(login): Path<String>,
    request: &Request,
) -> Result<Response, Problem> {
    let connections = &app.connections;
    let login = match login.as_str() {
        "facebook" => ConnectionLogin::Facebook,
        "instagram" => ConnectionLogin::Instagram,
        "tiktok" => ConnectionLogin::TiktokBusiness,
        _ => return Ok(answer(connections, &pages::unknown())),
    };
    let query = request.uri().query().unwrap_or_default();
    let query: Vec<(String, String)> = url::form_urlencoded::parse(query.as_bytes()).into_owned().collect();
    let given = |name: &str| query.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
    let session = session(request).unwrap_or_default();
    let state = given("state").unwrap_or_default();
    // Facebook puts `#_=_` behind the address, which browsers keep to themselves.
    let answered = Answered { code: given("code").or_else(|| given("auth_code")), error: given("error") };
    let outcome = connections.finish(login, Bound { session: &session, state }, answered).await?;
    Ok(step(connections, &outcome, state))
}

/// On to the platform, or the page that says what came of a step.
fn step(connections: &Connections, outcome: &Outcome, state: &str) -> Response {
    if let Outcome::Begun(address) = outcome {
        return Response::builder()
            .status(StatusCode::SEE_OTHER)
            .header(header::LOCATION, address)
            .header(header::CACHE_CONTROL, "no-store")
            .header(header::REFERRER_POLICY, "no-referrer")
            .finish();
    }
    answer(connections, &pages::outcome(outcome, connections.public_url(), state))
}

/// A page whose forms, if it has any, may lead to any platform.
fn answer(connections: &Connections, page: &Page) -> Response {
    let targets: Vec<String> = ConnectionLogin::ALL
        .iter()
        .flat_map(|login| pages::targets(connections.login_host(*login)))
        .collect();
    respond(page, &targets)
}

pub(super) fn respond(page: &Page, form_targets: &[String]) -> Response {
    Response::builder()
        .status(StatusCode::from_u16(page.status).unwrap_or(StatusCode::OK))
        .content_type("text/html; charset=utf-8")
        .header(header::CONTENT_SECURITY_POLICY, pages::policy(form_targets))
        .header(header::CACHE_CONTROL, "no-store")
        .header(header::REFERRER_POLICY, "no-referrer")
        .header(header::X_CONTENT_TYPE_OPTIONS, "nosniff")
        .header(header::X_FRAME_OPTIONS, "DENY")
        .body(page.html.clone())
}

pub(super) async fn form(body: Body) -> Result<Vec<(String, String)>, Problem> {
    let bytes = http::body::read(body, FORM_BYTES_MAX).await?;
    Ok(url::form_urlencoded::parse(&bytes).into_owned().collect())
}

pub(super) fn field<'a>(form: &'a [(String, String)], name: &str) -> &'a str {
    form.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value.as_str())
}

/// The session of the browser that asks.
fn session(request: &Request) -> Option<String> {
    let cookies = request.headers().get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut pairs = cookies.flat_map(|text| text.split(';')).filter_map(|pair| pair.trim().split_once('='));
    let found = pairs.find(|(name, value)| *name == COOKIE && is_token(value));
    found.map(|(_, value)| value.to_owned())
}

fn cookie(public_url: &str, session: &str) -> String {
    let path = url::Url::parse(public_url).map(|url| url.path().trim_end_matches('/').to_owned());
    let secure = if public_url.starts_with("https:") { "; Secure" } else { "" };
    format!(
        "{COOKIE}={session}; Path={}/connect; Max-Age={COOKIE_LIFE_S}; HttpOnly; SameSite=Lax{secure}",
        path.unwrap_or_default()
    )
}

/// What shows that a form was sent from the page that this session was given: something random and its mark.
fn nonce(session: &str, token: &str, random: &str) -> String {
    use base64::Engine as _;
    let mark = seal::hash(&format!("nonce.{session}.{token}.{random}"));
    format!("{random}.{}", base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(mark))
}

fn is_nonce(session: &str, token: &str, given: &str) -> bool {
    given
        .split_once('.')
        .is_some_and(|(random, _)| seal::same(nonce(session, token, random).as_bytes(), given.as_bytes()))
}
