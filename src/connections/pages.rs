//! The pages that people see while they connect an account: plain, without scripts, without anything from elsewhere.

use std::fmt::Write as _;
use std::sync::LazyLock;

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use entity::deletion_request;
use entity::id::Timestamp;
use entity::kinds::ConnectionLogin;

use super::flow::{Choice, Outcome, Shown};

const STYLE: &str = "body{font:17px/1.5 system-ui,sans-serif;max-width:34em;margin:12vh auto;padding:0 1.2em;color:#1c1c1e;\
    background:#fff;overflow-wrap:anywhere}h1{font-size:1.4em}button{font:inherit;padding:.6em 1.2em;border:0;border-radius:.5em;background:#0a66c2;\
    color:#fff;cursor:pointer;margin:.3em 0}small{color:#5f6368}";

/// What the browser is allowed to do with a page: show it with this very style, and send its form to us.
static POLICY: LazyLock<String> = LazyLock::new(|| {
    let hash = STANDARD.encode(digest::digest(&digest::SHA256, STYLE.as_bytes()));
    format!("default-src 'none'; style-src 'sha256-{hash}'; base-uri 'none'; frame-ancestors 'none'")
});

/// A page.
#[derive(Debug, Clone)]
pub(super) struct Page {
    pub(super) status: u16,
    pub(super) html: String,
}

/// The policy of a page whose form may lead to us and on to these.
pub(super) fn policy(form_targets: &[String]) -> String {
    let targets: String = form_targets.iter().fold(String::new(), |text, target| text + " " + target);
    format!("{}; form-action 'self'{targets}", *POLICY)
}

/// Where a platform may send somebody on within its own names: browsers count redirects as targets of the form.
pub(super) fn targets(host: &str) -> Vec<String> {
    let Ok(url) = url::Url::parse(host) else { return Vec::new() };
    let origin = url.origin().ascii_serialization();
    let wide = url.host_str().and_then(|host| host.strip_prefix("www."));
    let wide = wide.map(|domain| format!("{}://*.{domain}", url.scheme()));
    std::iter::once(origin).chain(wide).collect()
}

/// Text as it stands in a page, also within an attribute.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            c if c.is_control() => escaped.push(' '),
            c => escaped.push(c),
        }
    }
    escaped
}

/// A page of a title and a body that is HTML already.
fn page(status: u16, title: &str, body: &str) -> Page {
    let title = escape(title);
    let html = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" \
         content=\"width=device-width\"><meta name=\"robots\" content=\"noindex\"><title>{title}</title>\
         <style>{STYLE}</style></head><body><h1>{title}</h1>\n{body}\n</body></html>\n"
    );
    Page { status, html }
}

fn says(status: u16, title: &str, text: &str) -> Page {
    page(status, title, &format!("<p>{}</p>", escape(text)))
}

/// How the account is reached, in words.
const fn way(login: ConnectionLogin) -> (&'static str, &'static str) {
    match login {
        ConnectionLogin::Facebook => ("an Instagram account", "Facebook"),
        ConnectionLogin::Instagram => ("an Instagram account", "Instagram"),
        ConnectionLogin::TiktokBusiness => ("a TikTok account", "TikTok"),
    }
}

/// A form with one button and what it sends along.
fn form(action: &str, fields: &[(&str, &str)], label: &str) -> String {
    let mut html = format!("<form method=\"post\" action=\"{}\">", escape(action));
    for (name, value) in fields {
        let _ = write!(html, "<input type=\"hidden\" name=\"{name}\" value=\"{}\">", escape(value));
    }
    let _ = write!(html, "<button>{}</button></form>", escape(label));
    html
}

/// What an invitation is for, with the button that begins.
pub(super) fn invitation(shown: &Shown, action: &str, nonce: &str) -> Page {
    let (account, platform) = way(shown.login);
    let body = format!(
        "<p><b>{}</b> asks you to connect {account}, so that its loyalty program learns when members mention, message or \
         follow that account.</p><p>You log in at {platform}; we never see your password. Leave everything ticked there that \
         you are asked for.</p>{}<p><small>This link works once. If you did not expect it, close this page.</small></p>",
        escape(&shown.site),
        form(action, &[("nonce", nonce)], &format!("Continue to {platform}")),
    );
    page(200, "Connect an account", &body)
}

/// The button that tries once more.
fn again(base: &str, state: &str) -> String {
    form(&format!("{base}/connect/again"), &[("state", state)], "Try again")
}

/// What came of a step; `state` is that of the login, `base` the address of this service.
pub(super) fn outcome(outcome: &Outcome, base: &str, state: &str) -> Page {
    match outcome {
        Outcome::Begun(_) => says(200, "On the way", "You are being sent to the platform."),
        Outcome::Done { username, missing } => done(username.as_deref(), missing),
        Outcome::Choose(choices) => choose(choices, base, state),
        Outcome::Denied => page(
            200,
            "Nothing was connected",
            &format!("<p>You declined at the platform, so nothing was connected.</p>{}", again(base, state)),
        ),
        Outcome::Failed(problem) => page(
            200,
            "The account could not be connected",
            &format!("<p>Reason: {}.</p>{}", escape(problem), again(base, state)),
        ),
        Outcome::Elsewhere => says(
            409,
            "The account is connected elsewhere",
            "This account is connected to another site of this installation. It must be disconnected there first.",
        ),
        Outcome::Unknown => unknown(),
        Outcome::Used => says(
            410,
            "This link was already used",
            "An account was connected with it. Ask for a new link to connect another one.",
        ),
        Outcome::Expired => says(410, "This link has expired", "Ask for a new one."),
        Outcome::Strange => says(
            400,
            "This login was not begun here",
            "It was begun in another browser, or another login was begun since. Open the link that you were given again.",
        ),
        Outcome::Repeated => says(
            409,
            "This login was answered before",
            "If no account was connected, open the link that you were given again.",
        ),
    }
}

/// There is nothing of that kind, of whichever site.
pub(super) fn unknown() -> Page {
    says(404, "There is no such link", "Check that it is complete, or ask for a new one.")
}

/// A page whose button no longer works.
pub(super) fn stale() -> Page {
    says(400, "This page is too old", "Open the link that you were given again, and allow cookies for it.")
}

fn done(username: Option<&str>, missing: &[String]) -> Page {
    let who = username.map_or_else(|| "The account".to_owned(), |name| format!("@{}", escape(name)));
    let mut body = format!("<p>{who} is connected. You can close this page.</p>");
    if !missing.is_empty() {
        let _ = write!(
            body,
            "<p>Some permissions were not granted, and what needs them will not work: {}. To grant them, connect the account \
             again with a new link.</p>",
            escape(&missing.join(", "))
        );
    }
    page(200, "Done", &body)
}

fn choose(choices: &[Choice], base: &str, state: &str) -> Page {
    let action = format!("{base}/connect/choose");
    let mut body = "<p>Which account shall be connected?</p>".to_owned();
    for choice in choices {
        let name = choice.username.as_ref().map_or_else(|| choice.id.clone(), |name| format!("@{name}"));
        let label = match &choice.page {
            Some(page) => format!("{name} ({page})"),
            None => name,
        };
        body.push_str(&form(&action, &[("state", state), ("account", &choice.id)], &label));
    }
    page(200, "Choose an account", &body)
}

/// An instant for people: `22 November 2026, 22:54 UTC`.
fn instant(at: Timestamp) -> String {
    let at = chrono::DateTime::from_timestamp_millis(at.0).unwrap_or_default();
    at.format("%-d %B %Y, %H:%M UTC").to_string()
}

/// What became of a person's demand to be forgotten.
pub(super) fn deletion(request: Option<&deletion_request::Model>) -> Page {
    let Some(request) = request else {
        return says(404, "There is no such request", "Check that the code is complete.");
    };
    let asked = instant(request.created_at);
    let text = match (request.done_at, request.deleted_count) {
        (None, _) => format!("Your request of {asked} is being carried out."),
        (Some(at), 0) => format!(
            "Your request of {asked} was carried out on {}. Nothing was connected with your login.",
            instant(at)
        ),
        (Some(at), 1) => format!(
            "Your request of {asked} was carried out on {}. The account that was connected with your login was deleted, with \
             its tokens and the content that came with it.",
            instant(at)
        ),
        (Some(at), count) => format!(
            "Your request of {asked} was carried out on {}. The {count} accounts that were connected with your login were \
             deleted, with their tokens and the content that came with them.",
            instant(at)
        ),
    };
    let body =
        format!("<p>{}</p><p><small>Confirmation code: {}</small></p>", escape(&text), escape(&request.code));
    page(200, "Deletion of your data", &body)
}

#[cfg(test)]
mod tests {
    use entity::kinds::Platform;

    use super::*;

    #[test]
    fn whatever_comes_in_is_text() {
        let hostile = "<script>\"'&</script>\u{0}\u{8}";
        assert_eq!(escape(hostile), "&lt;script&gt;&quot;&#39;&amp;&lt;/script&gt;  ");
        let choice = Choice {
            id: hostile.to_owned(),
            username: Some(hostile.to_owned()),
            page: Some(hostile.to_owned()),
        };
        let shown = Shown { site: hostile.to_owned(), login: ConnectionLogin::Facebook };
        let done = Outcome::Done { username: Some(hostile.to_owned()), missing: vec![hostile.to_owned()] };
        for page in [
            invitation(&shown, hostile, hostile),
            outcome(&Outcome::Choose(vec![choice]), hostile, hostile),
            outcome(&Outcome::Failed(hostile.to_owned()), hostile, hostile),
            outcome(&done, hostile, hostile),
        ] {
            assert!(!page.html.contains("<script"), "{}", page.html);
            assert!(page.html.contains("&lt;script&gt;"), "{}", page.html);
        }
    }

    #[test]
    fn what_became_of_a_demand_is_told_in_words() {
        let told = |done_at, deleted_count| {
            let request = deletion_request::Model {
                code: "dl_code".to_owned(),
                platform: Platform::Instagram,
                owner_id: "1".to_owned(),
                deleted_count,
                accounts: "[]".to_owned(),
                created_at: Timestamp(1_795_388_040_000),
                done_at,
            };
            let html = deletion(Some(&request)).html;
            let text = html.split_once("<p>").and_then(|(_, text)| text.split_once("</p>"));
            text.map(|(text, _)| text.to_owned()).unwrap_or_default()
        };
        let done = Some(Timestamp(1_795_388_159_999));
        let asked = "Your request of 22 November 2026, 22:54 UTC";
        let carried_out = format!("{asked} was carried out on 22 November 2026, 22:55 UTC.");
        assert_eq!(told(None, 1), format!("{asked} is being carried out."));
        assert_eq!(told(done, 0), format!("{carried_out} Nothing was connected with your login."));
        let one = "The account that was connected with your login was deleted, with its tokens and the content that came with it.";
        assert_eq!(told(done, 1), format!("{carried_out} {one}"));
        let two = "The 2 accounts that were connected with your login were deleted, with their tokens and the content that came with them.";
        assert_eq!(told(done, 2), format!("{carried_out} {two}"));
    }

    #[test]
    fn a_form_may_lead_to_the_platform_and_nowhere_else() {
        let www = targets("https://www.facebook.com");
        assert_eq!(www, ["https://www.facebook.com", "https://*.facebook.com"]);
        assert!(policy(&www).ends_with("form-action 'self' https://www.facebook.com https://*.facebook.com"));
        assert_eq!(targets("http://127.0.0.1:4000/dialogs"), ["http://127.0.0.1:4000"]);
        assert!(policy(&[]).ends_with("form-action 'self'"));
        assert!(policy(&[]).starts_with("default-src 'none'; style-src 'sha256-"));
    }
}
