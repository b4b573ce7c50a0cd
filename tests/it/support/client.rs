//! A client that speaks to the service in process, without a port.

use followpoints::app::App;
use followpoints::http;
use poem::endpoint::BoxEndpoint;
use poem::http::{HeaderMap, Method, StatusCode};
use poem::{Body, Endpoint as _, EndpointExt as _, Request, Response};
use serde_json::Value;

use super::document::expect_documented;

pub struct Client {
    endpoint: BoxEndpoint<'static, Response>,
}

/// A request being put together.
pub struct Call<'a> {
    client: &'a Client,
    method: String,
    path: String,
    request: poem::RequestBuilder,
    body: Option<Vec<u8>>,
}

/// An answer.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub text: String,
}

impl Client {
    pub fn new(app: &App) -> Self {
        Self { endpoint: http::endpoint(app).boxed() }
    }

    pub fn call(&self, method: &str, path: &str) -> Call<'_> {
        let request = Request::builder().method(method.parse::<Method>().unwrap()).uri(path.parse().unwrap());
        Call { client: self, method: method.to_owned(), path: path.to_owned(), request, body: None }
    }
}

impl Call<'_> {
    /// A raw token or key in `Authorization`.
    pub fn auth(self, token: &str) -> Self {
        self.header("authorization", token)
    }

    /// An API key with the site that it is about.
    pub fn key(self, key: &str, site: &str) -> Self {
        self.auth(key).header("wix-site-id", site)
    }

    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.request = self.request.header(name, value);
        self
    }

    pub fn json(mut self, body: &Value) -> Self {
        self.request = self.request.content_type("application/json");
        self.body = Some(body.to_string().into_bytes());
        self
    }

    pub fn text(self, content_type: &str, body: impl Into<Vec<u8>>) -> Self {
        self.header("content-type", content_type).bytes(body)
    }

    /// A body without a content type.
    pub fn bytes(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = Some(body.into());
        self
    }

    /// Sends. The answer must be one of those that the document lists for the operation.
    pub async fn send(self) -> Answer {
        let request = match self.body {
            Some(body) => self.request.body(Body::from(body)),
            None => self.request.finish(),
        };
        let mut response = self.client.endpoint.get_response(request).await;
        let text = response.take_body().into_string().await.unwrap();
        let answer = Answer { status: response.status(), headers: response.headers().clone(), text };
        expect_documented(&self.method, &self.path, &answer);
        answer
    }

    /// Sends and gives the body of a 200.
    pub async fn ok(self) -> Value {
        let answer = self.send().await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
        answer.json()
    }
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }

    /// Status and application error code.
    pub fn error(&self) -> (u16, String) {
        let body = self.json();
        let code = body["details"]["applicationError"]["code"].as_str().unwrap_or("").to_owned();
        (self.status.as_u16(), code)
    }

    /// Fields and rules of a validation error.
    pub fn violations(&self) -> Vec<(String, String)> {
        assert_eq!(self.status.as_u16(), 400, "{}", self.text);
        let body = self.json();
        let violations = body["details"]["validationError"]["fieldViolations"].as_array().cloned();
        let text = |value: &Value| value.as_str().unwrap_or("").to_owned();
        violations
            .unwrap_or_default()
            .iter()
            .map(|violation| (text(&violation["field"]), text(&violation["violatedRule"])))
            .collect()
    }
}
