//! G8: links, states and tokens are hashed or sealed, shown once or never, and never in the log.

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::{Value, json};

use super::{Browser, INVITATIONS, agree, hidden, parameter};
use crate::support::ADMIN_KEY;
use crate::support::dump::dump;
use crate::support::graph::{Graph, PAGE_TOKEN, payload};
use crate::support::process::Installation;
use crate::support::world::text;
use crate::{on_both, on_both_databases};

/// The ways in which a secret may be written in a table.
fn spellings(secret: &str) -> Vec<String> {
    let hex = |upper: bool| -> String {
        let byte = |byte: u8| if upper { format!("{byte:02X}") } else { format!("{byte:02x}") };
        secret.bytes().map(byte).collect()
    };
    vec![secret.to_owned(), hex(false), hex(true)]
}

on_both! {
    options: Graph::options().await,
    async fn g8_no_answer_page_or_table_holds_a_token_or_a_link(app: &TestApp) {
        let (graph, site) = (Graph::of(app), app.site().await);
        graph.token("fb", "EAAP-second-page");
        let mut accounts = payload("graph_me_accounts.json")["data"].as_array().cloned().unwrap();
        accounts[0]["access_token"] = json!(PAGE_TOKEN);
        accounts[1]["access_token"] = json!("EAAP-second-page");
        accounts[1]["instagram_business_account"] = json!({"id": "17841460998870002", "username": "second"});
        graph.accounts(accounts);
        let invitation = app.invite(&site, "FACEBOOK").await;
        let link = invitation.path.strip_prefix("/connect/").unwrap().to_owned();
        let browser = Browser::new(app);
        let dialog = browser.begin(&invitation).await;
        let state = parameter(&dialog, "state").unwrap();
        let choice = browser.get(&agree(&graph, &dialog)).await;
        let session = browser.cookies.borrow()["followpoints_connect"].clone();
        let mut tokens: Vec<String> = graph.calls().into_iter().filter_map(|call| call.token).collect();
        tokens.extend([PAGE_TOKEN.to_owned(), "EAAP-second-page".to_owned()]);
        assert!(tokens.len() >= 4, "{tokens:?}");
        let stored = tokens.iter().chain([&link, &state, &session]);
        let stored: Vec<String> = stored.flat_map(|secret| spellings(secret)).collect();
        // While somebody chooses, and afterwards.
        let state = hidden(&choice.text, "state").remove(0);
        let mut pages = vec![choice.text.clone()];
        for is_done in [false, true] {
            if is_done {
                let form = [("state", state.as_str()), ("account", "17841460998870002")];
                let done = browser.post("/connect/choose", &form).await;
                assert!(done.text.contains("<h1>Done</h1>"), "{}", done.text);
                pages.push(done.text);
            }
            for row in dump(&app.app.db).await {
                assert!(stored.iter().all(|secret| !row.contains(secret.as_str())), "{row}");
            }
        }
        let id = text(&app.connections(&site).await[0]["id"]);
        for path in [
            INVITATIONS.to_owned(),
            format!("{INVITATIONS}/{}", invitation.id),
            "/admin/v1/connections".to_owned(),
            format!("/admin/v1/connections/{id}"),
        ] {
            let answer = app.call("GET", &path).key(ADMIN_KEY, &site.id).ok().await.to_string();
            assert!(!answer.contains(&link), "{path}: the link is shown once: {answer}");
            assert!(!answer.contains("\"url\"") && !answer.to_lowercase().contains("hash"), "{path}: {answer}");
            pages.push(answer);
        }
        for page in pages {
            assert!(tokens.iter().all(|token| !page.contains(token.as_str())), "{page}");
            assert!(!page.contains(&session), "{page}");
        }
    }
}

/// A request to a real service.
struct Sent {
    status: u16,
    headers: http::HeaderMap,
    text: String,
}

async fn send(request: http::Request<Full<Bytes>>) -> Sent {
    let client: Client<HttpConnector, Full<Bytes>> = Client::builder(TokioExecutor::new()).build_http();
    let response = client.request(request).await.unwrap();
    let (head, body) = response.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let text = String::from_utf8(body.to_vec()).unwrap();
    Sent { status: head.status.as_u16(), headers: head.headers, text }
}

fn request(method: &str, url: &str, headers: &[(&str, &str)], body: String) -> http::Request<Full<Bytes>> {
    let mut request = http::Request::builder().method(method).uri(url);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(Full::new(Bytes::from(body))).unwrap()
}

on_both_databases! {
    async fn g8_the_log_at_its_loudest_holds_no_link_state_code_or_token(database: TestDatabase) {
        let graph = Graph::start().await;
        let settings: Vec<String> =
            graph.settings().iter().map(|(name, text)| format!("export {name}='{text}'")).collect();
        let installation = Installation::new(database);
        let setting = format!("export FOLLOWPOINTS_LOG=trace; {}", settings.join("; "));
        let service = installation.serve_under(&setting).await;
        let json_type = ("content-type", "application/json");
        let post = |path: &str, site: &str, body: &Value| {
            let url = format!("{}{path}", service.url);
            let site = if site.is_empty() { ("x-none", "1") } else { ("wix-site-id", site) };
            send(request("POST", &url, &[("authorization", ADMIN_KEY), json_type, site], body.to_string()))
        };
        let site = post("/admin/v1/sites", "", &json!({"site": {"name": "Nordbrew"}})).await;
        let site = text(&serde_json::from_str::<Value>(&site.text).unwrap()["site"]["id"]);
        let body = json!({"invitation": {"platform": "INSTAGRAM", "login": "FACEBOOK"}});
        let made = post("/admin/v1/connection-invitations", &site, &body).await;
        let made: Value = serde_json::from_str(&made.text).unwrap();
        let link = text(&made["invitation"]["url"]).rsplit('/').next().unwrap().to_owned();
        let url = format!("{}/connect/{link}", service.url);

        let page = send(request("GET", &url, &[], String::new())).await;
        assert_eq!(page.status, 200, "{}", page.text);
        let cookie = page.headers["set-cookie"].to_str().unwrap().split(';').next().unwrap().to_owned();
        let nonce = hidden(&page.text, "nonce").remove(0);
        let form = ("content-type", "application/x-www-form-urlencoded");
        let sent = send(request("POST", &url, &[("cookie", &cookie), form], format!("nonce={nonce}"))).await;
        assert_eq!(sent.status, 303, "{}", sent.text);
        let dialog = sent.headers["location"].to_str().unwrap().to_owned();
        let back = agree(&graph, &dialog);
        let state = parameter(&dialog, "state").unwrap();
        let code = parameter(&back, "code").unwrap();
        let done =
            send(request("GET", &format!("{}{back}", service.url), &[("cookie", &cookie)], String::new())).await;
        assert!(done.text.contains("<h1>Done</h1>"), "{}", done.text);
        // Everything of the request is in the log by now: the service logs before it answers.
        let log = service.kill_and_read();
        assert!(log.contains("/connect/callback/facebook"), "the log is loud enough");
        assert_eq!(log.lines().filter(|line| line.contains("/connect/***")).count(), 2);
        let session = cookie.split('=').nth(1).unwrap().to_owned();
        let secret = graph.settings()[1].1.clone();
        let mut secrets = vec![link, state, session, nonce, PAGE_TOKEN.to_owned(), secret, format!("code={code}")];
        secrets.extend(graph.calls().into_iter().filter_map(|call| call.token));
        for secret in secrets {
            assert!(!log.contains(&secret), "{secret} is in the log");
        }
    }
}
