//! The token endpoint: its grants, what its tokens are good for and when they end.

mod app_secrets;
mod endings;
mod front_ends;
mod grants;
mod member_login;
mod nodes;
mod rotation;
mod sign_out;
mod whose;

use serde_json::{Value, json};

use crate::support::TestApp;
use crate::support::client::Answer;

const FOLLOWED: &str = "/loyalty-social-media/v1/followed-channels";
const PROGRAM: &str = "/loyalty-programs/v1/program";

/// Status of a harmless call with this token.
async fn status(app: &TestApp, token: &str) -> u16 {
    app.call("GET", PROGRAM).auth(token).send().await.status.as_u16()
}

/// Uses a refresh token; `client` is the front-end that says it is calling.
async fn refresh(app: &TestApp, token: &str, client: Option<&str>) -> Answer {
    let mut body = json!({"grantType": "refresh_token", "refreshToken": token});
    if let Some(client) = client {
        body["clientId"] = json!(client);
    }
    app.token(&body).await
}

/// Uses a refresh token, which must succeed; gives its successor.
async fn rotate(app: &TestApp, token: &str, client: Option<&str>) -> String {
    let answer = refresh(app, token, client).await;
    assert_eq!(answer.status.as_u16(), 200, "{}", answer.text);
    answer.json()["refresh_token"].as_str().unwrap().to_owned()
}

/// Status and body of a refused refresh.
fn refused() -> (u16, Value) {
    let body = json!({
        "error": "invalid_grant", "error_description": "the refresh token is unknown, expired or revoked",
    });
    (400, body)
}

fn both(answer: &Answer) -> (u16, Value) {
    (answer.status.as_u16(), answer.json())
}
