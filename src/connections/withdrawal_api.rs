//! What Meta calls when a person has removed the app or wants to be forgotten, and the page that says what became of it.

use std::sync::Arc;

use entity::kinds::ConnectionLogin;
use poem::web::Data;
use poem::{Body, Request, Response, Route, get, handler, post};
use serde_json::json;

use super::connect_api::{field, form, respond};
use super::pages;
use super::signed_request::Signed;
use crate::app::App;
use crate::http::named::named;
use crate::http::problem::Problem;

/// Adds the callbacks and the page.
pub(super) fn routes(route: Route) -> Route {
    route
        .at(
            "/ingest/instagram/facebook-login/deauthorize",
            post(named("deauthorizeFacebookLogin", facebook_deauthorize)),
        )
        .at(
            "/ingest/instagram/instagram-login/deauthorize",
            post(named("deauthorizeInstagramLogin", instagram_deauthorize)),
        )
        .at(
            "/ingest/instagram/facebook-login/data-deletion",
            post(named("deleteDataOfFacebookLogin", facebook_deletion)),
        )
        .at(
            "/ingest/instagram/instagram-login/data-deletion",
            post(named("deleteDataOfInstagramLogin", instagram_deletion)),
        )
        .at("/privacy/deletion", get(named("showDeletion", deletion_page)))
}

#[handler]
async fn facebook_deauthorize(app: Data<&Arc<App>>, body: Body) -> Result<Response, Problem> {
    deauthorize(&app, ConnectionLogin::Facebook, body).await
}

#[handler]
async fn instagram_deauthorize(app: Data<&Arc<App>>, body: Body) -> Result<Response, Problem> {
    deauthorize(&app, ConnectionLogin::Instagram, body).await
}

#[handler]
async fn facebook_deletion(app: Data<&Arc<App>>, body: Body) -> Result<Response, Problem> {
    forget(&app, ConnectionLogin::Facebook, body).await
}

#[handler]
async fn instagram_deletion(app: Data<&Arc<App>>, body: Body) -> Result<Response, Problem> {
    forget(&app, ConnectionLogin::Instagram, body).await
}

/// What became of a person's demand.
#[handler]
async fn deletion_page(app: Data<&Arc<App>>, request: &Request) -> Result<Response, Problem> {
    let query = request.uri().query().unwrap_or_default();
    let query: Vec<(String, String)> = url::form_urlencoded::parse(query.as_bytes()).into_owned().collect();
    let found = app.connections.deletion(field(&query, "code")).await?;
    Ok(respond(&pages::deletion(found.as_ref()), &[]))
}

async fn deauthorize(app: &App, login: ConnectionLogin, body: Body) -> Result<Response, Problem> {
    let signed = signed(app, login, body).await?;
    let count = app.connections.deauthorize(login, &signed).await?;
    tracing::info!(login = login.as_str(), count, "a person has removed the app");
    Ok(Response::builder().content_type("application/json").body("{}"))
}

async fn forget(app: &App, login: ConnectionLogin, body: Body) -> Result<Response, Problem> {
    let signed = signed(app, login, body).await?;
    let code = app.connections.forget(login, &signed).await?;
    let url = app.connections.deletion_url(&code);
    let answer = json!({"url": url, "confirmation_code": code});
    Ok(Response::builder().content_type("application/json").body(answer.to_string()))
}

async fn signed(app: &App, login: ConnectionLogin, body: Body) -> Result<Signed, Problem> {
    let form = form(body).await?;
    let text = field(&form, "signed_request");
    if text.is_empty() {
        return Err(Problem::invalid("signed_request", "REQUIRED_FIELD", "must not be empty"));
    }
    app.connections
        .signed(login, text)
        .ok_or_else(|| Problem::forbidden("the request is not signed by the platform"))
}
