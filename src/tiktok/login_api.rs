//! The page to which `TikTok` sends a member back. It is no part of the document.

use poem::http::{HeaderValue, StatusCode, header};
use poem::{Endpoint, Request, Response};
use url::form_urlencoded;

use super::logins::LoginError;
use crate::app::App;

/// The end of a member's login.
pub struct CallbackEndpoint {
    /// The running service.
    pub app: App,
}

impl Endpoint for CallbackEndpoint {
    type Output = Response;

    async fn call(&self, request: Request) -> poem::Result<Response> {
        let query = request.uri().query().unwrap_or_default();
        let parameter = |name: &str| {
            let mut pairs = form_urlencoded::parse(query.as_bytes());
            pairs.find(|(given, _)| given == name).map(|(_, value)| value.into_owned()).unwrap_or_default()
        };
        if !parameter("error").is_empty() {
            return Ok(page(
                StatusCode::OK,
                "Nothing was connected",
                "You did not allow it. You can begin again at any time.",
            ));
        }
        let (state, code) = (parameter("state"), parameter("code"));
        if state.is_empty() || code.is_empty() {
            return Ok(page(
                StatusCode::BAD_REQUEST,
                "Nothing was connected",
                "This is not the end of a login.",
            ));
        }
        Ok(match self.app.tiktok.finish_login(&state, &code).await {
            Ok(()) => page(
                StatusCode::OK,
                "Your TikTok account is connected",
                "Your posts are found by themselves from now on. You can close this window.",
            ),
            Err(LoginError::State) => page(
                StatusCode::BAD_REQUEST,
                "Nothing was connected",
                "This login is unknown or took too long. Please begin again.",
            ),
            Err(LoginError::Store(error)) => {
                tracing::error!(%error, "a login with TikTok could not be stored");
                page(
                    StatusCode::SERVICE_UNAVAILABLE,
                    "Nothing was connected",
                    "Please try again in a moment.",
                )
            }
            Err(error) => {
                tracing::info!(%error, "a login with TikTok failed");
                page(
                    StatusCode::BAD_REQUEST,
                    "Nothing was connected",
                    "TikTok did not confirm the login. Please begin again.",
                )
            }
        })
    }
}

/// A page of fixed words: nothing that came with the request is on it.
fn page(status: StatusCode, title: &str, text: &str) -> Response {
    let html = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head><meta charset=\"utf-8\"><meta name=\"viewport\" \
         content=\"width=device-width\"><title>{title}</title></head>\n<body><h1>{title}</h1><p>{text}</p></body>\n</html>\n"
    );
    let mut response = Response::builder().status(status).content_type("text/html; charset=utf-8").body(html);
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(
        header::CONTENT_SECURITY_POLICY,
        HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'"),
    );
    response
}
