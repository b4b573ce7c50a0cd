//! Calls to the service, as they are sent and as `curl` would send them.

use std::fmt::{self, Write as _};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use followpoints::clock::SystemClock;
use followpoints::http::auth::SITE_HEADER;
use followpoints::outbound::{Client, Guard, OutboundRequest, Setup, SystemResolver};
use http::{HeaderName, HeaderValue, Method, header};
use serde_json::Value;

/// How long an answer may take.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// How much of an answer is read.
const ANSWER_BYTES_MAX: usize = 1024 * 1024;
/// How much of an answer an error message quotes.
const QUOTE_CHARS_MAX: usize = 500;

/// Who calls.
pub(super) struct Credentials {
    /// A token or an API key.
    pub(super) authorization: String,
    /// The site that is meant, for a key that is good for all.
    pub(super) site: Option<String>,
}

/// A call of the service.
pub(super) struct Call<'a> {
    method: Method,
    path: String,
    caller: Option<&'a Credentials>,
    body: Option<Value>,
    /// A header with the signature of the body.
    signature: Option<(&'static str, String)>,
}

impl<'a> Call<'a> {
    pub(super) fn get(path: impl Into<String>, caller: &'a Credentials) -> Self {
        Self { caller: Some(caller), ..Self::open(Method::GET, path, None) }
    }

    pub(super) fn post(path: impl Into<String>, caller: &'a Credentials, body: Option<Value>) -> Self {
        Self { caller: Some(caller), ..Self::open(Method::POST, path, body) }
    }

    pub(super) fn patch(path: impl Into<String>, caller: &'a Credentials, body: Value) -> Self {
        Self { caller: Some(caller), ..Self::open(Method::PATCH, path, Some(body)) }
    }

    /// A call that needs no credentials.
    pub(super) fn open(method: Method, path: impl Into<String>, body: Option<Value>) -> Self {
        Self { method, path: path.into(), caller: None, body, signature: None }
    }

    /// A platform's webhook: `body` and the header that signs it.
    pub(super) fn signed(path: impl Into<String>, body: Value, signature: (&'static str, String)) -> Self {
        Self { signature: Some(signature), ..Self::open(Method::POST, path, Some(body)) }
    }

    fn headers(&self) -> Vec<(HeaderName, &str)> {
        let mut headers = Vec::new();
        if self.body.is_some() {
            headers.push((header::CONTENT_TYPE, "application/json"));
        }
        if let Some((name, value)) = &self.signature {
            headers.push((HeaderName::from_static(name), value.as_str()));
        }
        if let Some(caller) = self.caller {
            if let Some(site) = &caller.site {
                headers.push((HeaderName::from_static(SITE_HEADER), site.as_str()));
            }
            headers.push((header::AUTHORIZATION, &caller.authorization));
        }
        headers
    }
}

impl fmt::Display for Call<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.method, self.path)?;
        self.body.as_ref().map_or(Ok(()), |body| write!(f, " {body}"))
    }
}

/// What the service answered.
pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) body: Value,
}

/// The way to the service.
pub(super) struct Api {
    /// Where it is, without a slash at the end.
    pub(super) base: String,
    client: Client,
}

impl Api {
    pub(super) fn new(address: SocketAddr) -> Result<Self, String> {
        // The guard lets nothing but the service through, wherever it was told to listen.
        let guard = Guard::new(address.ip().into());
        let setup = Setup {
            guard,
            resolver: Arc::new(SystemResolver),
            clock: Arc::<SystemClock>::default(),
            extra_roots: &[],
            proxy: None,
        };
        let client = Client::new(setup).map_err(|error| error.to_string())?;
        Ok(Self { base: format!("http://{address}"), client })
    }

    /// The answer, whatever its status.
    pub(super) async fn send(&self, call: &Call<'_>) -> Result<Reply, String> {
        let failed = |error: &dyn fmt::Display| format!("{call}: {error}");
        let url = format!("{}{}", self.base, call.path);
        let mut headers = Vec::new();
        for (name, value) in call.headers() {
            headers.push((name, HeaderValue::from_str(value).map_err(|error| failed(&error))?));
        }
        let request = OutboundRequest {
            method: call.method.clone(),
            url: self.client.guard().check_url(&url).map_err(|error| failed(&error))?,
            headers,
            body: call.body.as_ref().map(Value::to_string).unwrap_or_default().into(),
            timeout: ANSWER_TIMEOUT,
            body_max: ANSWER_BYTES_MAX,
            identity: None,
        };
        let answer = self.client.send(request).await.result.map_err(|error| failed(&error))?;
        if let Some(error) = answer.body_error {
            return Err(failed(&error));
        }
        let body = serde_json::from_slice(&answer.body).map_err(|error| {
            format!("{call}: the answer with status {} is not JSON: {error}", answer.status)
        })?;
        Ok(Reply { status: answer.status, body })
    }

    /// The body of an answer that must be 200.
    pub(super) async fn get_ok(&self, call: &Call<'_>) -> Result<Value, String> {
        let Reply { status, body } = self.send(call).await?;
        if status == 200 {
            return Ok(body);
        }
        let quote: String = body.to_string().chars().take(QUOTE_CHARS_MAX).collect();
        Err(format!("{call}: expected status 200, got {status} {quote}"))
    }

    /// The call as one line for a shell; it prints the body and then the status.
    pub(super) fn curl(&self, call: &Call<'_>) -> String {
        let mut line = "curl -s -w '\\n%{http_code}\\n'".to_owned();
        // curl makes a call with a body a POST by itself.
        let is_plain = call.method == Method::GET || (call.method == Method::POST && call.body.is_some());
        if !is_plain {
            let _ = write!(line, " -X {}", call.method);
        }
        let _ = write!(line, " {}", quoted(&format!("{}{}", self.base, call.path)));
        // Before the long token, where it can be seen.
        if let Some(body) = &call.body {
            let _ = write!(line, " -d {}", quoted(&body.to_string()));
        }
        for (name, value) in call.headers() {
            let _ = write!(line, " -H {}", quoted(&format!("{name}: {value}")));
        }
        line
    }
}

/// `text` as one word of a shell, whatever is in it.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}
