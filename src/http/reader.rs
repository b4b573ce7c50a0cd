//! The page at `/docs` that shows the document. Everything it needs is in the page itself, and the browser is told that it needs nothing
//! else: whoever reads it may type an admin key there.

use std::sync::LazyLock;

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use poem::http::{StatusCode, header};
use poem::{Endpoint, Request, Response, handler};
use serde_json::json;

use super::openapi;

/// The page, made once.
struct Page {
    html: String,
    /// What the browser may do with it.
    policy: String,
    /// Names this very page.
    tag: String,
}

static PAGE: LazyLock<Page> = LazyLock::new(Page::make);

impl Page {
    fn make() -> Self {
        let service = openapi::described();
        let mut document = openapi::document().clone();
        // Calls go to where the page itself came from, below whatever path a proxy has put before ours.
        document["servers"] = json!([{"url": ".", "description": "The service that this page is from"}]);
        // Nothing in it may end the script that it stands in.
        let document = document.to_string().replace('<', "\\u003c");
        let html = service.swagger_ui_html().replace(&service.spec(), &document);
        let html = html.replace("<title>Swagger UI", "<title>Followpoints API");
        let before_scripts = html.split("<script").next().unwrap_or_default();
        let policy = format!(
            "default-src 'none'; script-src{}; style-src{}; img-src data:; connect-src 'self'; base-uri 'none'; \
             form-action 'none'; frame-ancestors 'none'",
            hashes(&html, "script"),
            hashes(before_scripts, "style")
        );
        let tag = format!("\"{}\"", hash(&html));
        Self { html, policy, tag }
    }
}

fn hash(text: &str) -> String {
    STANDARD.encode(digest::digest(&digest::SHA256, text.as_bytes()))
}

/// The hashes of what stands in the elements `name` of `html`, as a policy lists them.
fn hashes(html: &str, name: &str) -> String {
    let (begin, end) = (format!("<{name}"), format!("</{name}>"));
    let (mut hashes, mut rest) = (String::new(), html);
    while let Some((_, found)) = rest.split_once(&begin) {
        let content = found.split_once('>').and_then(|(_, content)| content.split_once(&end));
        let Some((content, after)) = content else { break };
        hashes = format!("{hashes} 'sha256-{}'", hash(content));
        rest = after;
    }
    hashes
}

/// Shows the page, unless the browser has it.
pub(super) fn endpoint() -> impl Endpoint + 'static {
    #[handler]
    fn show(request: &Request) -> Response {
        let known = request.headers().get_all(header::IF_NONE_MATCH).iter();
        let mut known = known.filter_map(|value| value.to_str().ok()).flat_map(|list| list.split(','));
        // What a proxy compresses, it marks as only alike.
        let is_known = known.any(|tag| tag.trim().trim_start_matches("W/") == PAGE.tag);
        let response = Response::builder()
            .header(header::ETAG, PAGE.tag.as_str())
            .header(header::CACHE_CONTROL, "no-cache")
            .header(header::CONTENT_SECURITY_POLICY, PAGE.policy.as_str())
            .header(header::REFERRER_POLICY, "no-referrer")
            .header(header::X_CONTENT_TYPE_OPTIONS, "nosniff")
            .header(header::X_FRAME_OPTIONS, "DENY");
        if is_known {
            return response.status(StatusCode::NOT_MODIFIED).finish();
        }
        response.content_type("text/html; charset=utf-8").body(PAGE.html.as_str())
    }
    show
}
