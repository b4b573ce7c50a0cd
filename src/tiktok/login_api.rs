//! Where `TikTok` sends a member back to. It is no part of the document.

use poem::http::{HeaderValue, StatusCode, header};
use poem::{Endpoint, Request, Response};
use url::form_urlencoded;

use crate::app::App;

/// What says, on the page of the site, that the member declined.
const ERROR: &str = "tiktokError";

/// Leads a member who comes back from `TikTok` on to the page of the site, which ends the login in the member's name.
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
        let (state, code) = (parameter("state"), parameter("code"));
        let Some(mut back) = self.app.tiktok.return_url(&state) else {
            return Ok(unknown());
        };
        if !parameter("error").is_empty() {
            back.query_pairs_mut().append_pair(ERROR, "access_denied");
        } else if code.is_empty() {
            return Ok(unknown());
        } else {
            back.query_pairs_mut().append_pair("tiktokState", &state).append_pair("tiktokCode", &code);
        }
        let Ok(location) = HeaderValue::try_from(back.as_str()) else { return Ok(unknown()) };
        let mut response = Response::builder().status(StatusCode::SEE_OTHER).finish();
        response.headers_mut().insert(header::LOCATION, location);
        Ok(guarded(response))
    }
}

/// A page of fixed words: nothing that came with the request is on it.
fn unknown() -> Response {
    let html = "<!doctype html>\n<html lang=\"en\">\n<head><meta charset=\"utf-8\"><meta name=\"viewport\" \
         content=\"width=device-width\"><title>Nothing was connected</title></head>\n<body><h1>Nothing was connected</h1>\
         <p>This login is unknown or took too long. Please begin again.</p></body>\n</html>\n";
    let response = Response::builder().status(StatusCode::BAD_REQUEST);
    guarded(response.content_type("text/html; charset=utf-8").body(html))
}

fn guarded(mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(
        header::CONTENT_SECURITY_POLICY,
        HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'"),
    );
    response
}
