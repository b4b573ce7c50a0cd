//! `webhooks`: what a receiver's author needs. Nothing here opens a database.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use clap::{Args, Subcommand};
use entity::id::Timestamp;
use followpoints::clock::{Clock as _, SystemClock};
use followpoints::config;
use followpoints::outbound::{Client, OutboundRequest, Setup, SystemResolver, UrlProblem};
use followpoints::webhooks::signing::WEBHOOK_ISSUER;
use followpoints::webhooks::standard::{HMAC_PREFIX, Headers, PUBLIC_KEY_PREFIX, VerifyingKey};
use http::{HeaderValue, Method, header};
use jsonwebtoken::jwk::{Jwk, JwkSet};
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde_json::{Map, Value};
use uuid::Uuid;

/// The largest body or file that is read.
const INPUT_BYTES_MAX: u64 = 1024 * 1024;
/// One deadline for fetching a key set.
const FETCH_TIMEOUT: Duration = Duration::from_secs(10);
/// The variable with the shared secret.
const SECRET_VARIABLE: &str = "FOLLOWPOINTS_WEBHOOK_SECRET";

const EXAMPLES: &str = "\
Examples:
  followpoints webhooks verify body.txt --public-key app.pem --app-id 01a1fafb-1d89-7734-a510-8c552cff2885
  followpoints webhooks verify body.txt --jwks https://points.example/.well-known/jwks.json
  followpoints webhooks verify body.txt --secret-file secret.txt --id 01a1fafb-221e-71b9-b149-517a95457641 \\
    --timestamp 1795212124 --signature 'v1,K5oZfzN95Z9UVu1EsfQmfVNQhnkZ2pj9o9NDN/H/pI4='

The body must be the very bytes that arrived; white space around them is ignored. A key set's URL follows the rules of
webhook URLs: https, or a network in FOLLOWPOINTS_WEBHOOK_ALLOW_NETS. The exit status is 0 only if everything that was
given fits.";

#[derive(Subcommand)]
pub(super) enum WebhooksCommand {
    /// Check a webhook as its receiver would; prints the event as JSON, or says what is wrong
    #[command(after_help = EXAMPLES)]
    Verify(VerifyArguments),
}

#[derive(Args)]
pub(super) struct VerifyArguments {
    /// The body as it arrived; standard input without it or with -
    body: Option<PathBuf>,
    /// The app's public key, a PEM file; or for the headers the subscription's signingPublicKey
    #[arg(long, value_name = "FILE|whpk_…")]
    public_key: Option<String>,
    /// The published keys: a file or a URL
    #[arg(long, value_name = "FILE|URL")]
    jwks: Option<String>,
    /// The app that the webhook must be for
    #[arg(long, value_name = "ID")]
    app_id: Option<Uuid>,
    /// The instant to judge by, RFC 3339; now by default
    #[arg(long, value_name = "INSTANT", value_parser = instant)]
    at: Option<Timestamp>,
    /// The header webhook-id; the three headers go together
    #[arg(long)]
    id: Option<String>,
    /// The header webhook-timestamp; 5 minutes off are allowed
    #[arg(long)]
    timestamp: Option<String>,
    /// The header webhook-signature
    #[arg(long)]
    signature: Option<String>,
    #[arg(
        long,
        value_name = "FILE",
        help = "A file with the signingSecret whsec_… for the headers; an argument would be seen by others [env: FOLLOWPOINTS_WEBHOOK_SECRET, the secret itself]"
    )]
    secret_file: Option<PathBuf>,
}

fn instant(text: &str) -> Result<Timestamp, String> {
    chrono::DateTime::parse_from_rfc3339(text)
        .map(|at| Timestamp(at.timestamp_millis()))
        .map_err(|_| "must be an instant like 2024-08-01T11:51:41.431Z".to_owned())
}

/// What the token is verified with.
enum TokenKeys {
    Pem(DecodingKey),
    Set(JwkSet),
}

pub(super) async fn run(command: WebhooksCommand) -> Result<(), String> {
    let WebhooksCommand::Verify(arguments) = command;
    let claims = verify(arguments).await?;
    println!("{claims:#}");
    Ok(())
}

/// The claims of the webhook with the JSON texts in them unfolded.
async fn verify(arguments: VerifyArguments) -> Result<Value, String> {
    let header_key = header_key(&arguments)?;
    let token_keys = token_keys(&arguments).await?;
    if header_key.is_none() && token_keys.is_none() {
        return Err(format!(
            "nothing to verify with: give --public-key or --jwks, or --id, --timestamp and --signature with --secret-file, {SECRET_VARIABLE} or --public-key whpk_…"
        ));
    }
    let body = match arguments.body.as_deref() {
        None => read("standard input", std::io::stdin())?,
        Some(path) if path == Path::new("-") => read("standard input", std::io::stdin())?,
        Some(path) => read_file(path)?,
    };
    let (body, now) = (body.trim(), arguments.at.unwrap_or_else(|| SystemClock::default().now()));
    if let Some((key, headers)) = &header_key {
        key.verify(*headers, body.as_bytes(), now).map_err(|error| error.to_string())?;
    }
    let claims = claims(body, token_keys.as_ref())?;
    check(&claims, &arguments, now)?;
    unfold(claims)
}

/// The headers and what they are verified with, if they were given.
fn header_key(arguments: &VerifyArguments) -> Result<Option<(VerifyingKey, Headers<'_>)>, String> {
    let public_key = arguments.public_key.as_deref().filter(|text| text.starts_with(PUBLIC_KEY_PREFIX));
    if arguments.public_key.as_deref().is_some_and(|text| text.starts_with(HMAC_PREFIX)) {
        return Err(format!(
            "--public-key is a secret, which others can see; use --secret-file or {SECRET_VARIABLE}"
        ));
    }
    let headers = match (&arguments.id, &arguments.timestamp, &arguments.signature) {
        (Some(id), Some(timestamp), Some(signature)) => Headers { id, timestamp, signature },
        (None, None, None) if public_key.is_none() && arguments.secret_file.is_none() => return Ok(None),
        _ => {
            return Err(
                "--id, --timestamp and --signature go together, with a secret or a whpk_ key".to_owned()
            );
        }
    };
    let key = match (public_key, &arguments.secret_file) {
        (Some(_), Some(_)) => return Err("give --secret-file or --public-key whpk_…, not both".to_owned()),
        (Some(text), None) => VerifyingKey::parse(text).map_err(|error| format!("--public-key {error}"))?,
        (None, Some(path)) => VerifyingKey::parse(read_file(path)?.trim())
            .map_err(|error| format!("--secret-file: what is in it {error}"))?,
        (None, None) => {
            let text = std::env::var(SECRET_VARIABLE).map_err(|_| {
                format!("the headers need a key: --secret-file, {SECRET_VARIABLE} or --public-key whpk_…")
            })?;
            VerifyingKey::parse(text.trim()).map_err(|error| format!("{SECRET_VARIABLE} {error}"))?
        }
    };
    Ok(Some((key, headers)))
}

async fn token_keys(arguments: &VerifyArguments) -> Result<Option<TokenKeys>, String> {
    let pem = arguments.public_key.as_deref().filter(|text| !text.starts_with(PUBLIC_KEY_PREFIX));
    match (pem, arguments.jwks.as_deref()) {
        (None, None) => Ok(None),
        (Some(_), Some(_)) => Err("give --public-key or --jwks, not both".to_owned()),
        (Some(path), None) => {
            let key = DecodingKey::from_rsa_pem(read_file(Path::new(path))?.as_bytes());
            let key = key.map_err(|_| format!("{path} is not an RSA public key in PEM"))?;
            Ok(Some(TokenKeys::Pem(key)))
        }
        (None, Some(source)) => {
            let text =
                if source.contains("://") { fetch(source).await? } else { read_file(Path::new(source))? };
            let set: Value =
                serde_json::from_str(&text).map_err(|error| format!("{source} is not JSON: {error}"))?;
            let keys =
                set["keys"].as_array().ok_or_else(|| format!("{source} is not a key set: it has no keys"))?;
            // One key of a kind that is not supported must not spoil the rest of the set.
            let keys = keys.iter().filter_map(|key| serde_json::from_value::<Jwk>(key.clone()).ok());
            Ok(Some(TokenKeys::Set(JwkSet { keys: keys.collect() })))
        }
    }
}

async fn fetch(url: &str) -> Result<String, String> {
    let failed = |what: &dyn std::fmt::Display| format!("cannot fetch {url}: {what}");
    let (guard, extra_roots, proxy) = config::outgoing().map_err(|error| error.to_string())?;
    let setup = Setup {
        guard,
        resolver: Arc::new(SystemResolver),
        clock: Arc::<SystemClock>::default(),
        extra_roots: &extra_roots,
        proxy,
    };
    let client = Client::new(setup).map_err(|error| error.to_string())?;
    let request = OutboundRequest {
        method: Method::GET,
        url: client.guard().check_url(url).map_err(|error| failed(&with_advice(&error)))?,
        headers: vec![(header::ACCEPT, HeaderValue::from_static("application/json"))],
        body: Bytes::new(),
        timeout: FETCH_TIMEOUT,
        body_max: usize::try_from(INPUT_BYTES_MAX).unwrap_or(usize::MAX),
        identity: None,
    };
    let answer = client.send(request).await.result.map_err(|error| failed(&error))?;
    if answer.status != 200 {
        return Err(failed(&format_args!("it answered {}", answer.status)));
    }
    if answer.truncated || answer.body_error.is_some() {
        return Err(failed(&"the answer is too long or broke off"));
    }
    String::from_utf8(answer.body.to_vec()).map_err(|_| failed(&"the answer is not text"))
}

fn with_advice(problem: &UrlProblem) -> String {
    match problem {
        UrlProblem::ForbiddenAddress(_) | UrlProblem::HttpsRequired => {
            format!("{problem}; FOLLOWPOINTS_WEBHOOK_ALLOW_NETS can allow its network")
        }
        _ => problem.to_string(),
    }
}

fn read_file(path: &Path) -> Result<String, String> {
    let name = path.display().to_string();
    let file = std::fs::File::open(path).map_err(|error| format!("cannot read {name}: {error}"))?;
    read(&name, file)
}

fn read(name: &str, from: impl std::io::Read) -> Result<String, String> {
    let mut text = String::new();
    from.take(INPUT_BYTES_MAX + 1)
        .read_to_string(&mut text)
        .map_err(|error| format!("cannot read {name}: {error}"))?;
    if text.len() as u64 > INPUT_BYTES_MAX {
        return Err(format!("{name} is longer than {INPUT_BYTES_MAX} bytes"));
    }
    Ok(text)
}

fn json_part(part: &str) -> Option<Map<String, Value>> {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).ok()?).ok()
}

/// The claims of the token, which `keys` must have signed. Without them the headers have vouched for it.
fn claims(token: &str, keys: Option<&TokenKeys>) -> Result<Map<String, Value>, String> {
    let not_a_token = "the body is not a compact JWS: three parts in base64url with dots between them";
    let parts: Vec<&str> = token.split('.').collect();
    let [head, claims, _] = parts.as_slice() else { return Err(not_a_token.to_owned()) };
    let (head, claims) = json_part(head).zip(json_part(claims)).ok_or(not_a_token)?;
    let algorithm = &head.get("alg").cloned().unwrap_or_default();
    if algorithm != "RS256" {
        return Err(format!("the token's algorithm is {algorithm}; only \"RS256\" is acceptable"));
    }
    let from_set;
    let key = match keys {
        None => return Ok(claims),
        Some(TokenKeys::Pem(key)) => key,
        Some(TokenKeys::Set(set)) => {
            let kid = head.get("kid").and_then(Value::as_str).unwrap_or_default();
            let jwk = set.find(kid).ok_or_else(|| format!("the key set has no key {kid:?}"))?;
            from_set = DecodingKey::from_jwk(jwk).map_err(|_| format!("the key {kid:?} cannot be used"))?;
            &from_set
        }
    };
    let mut validation = Validation::new(Algorithm::RS256);
    // What is in the claims is checked in words of our own, and by the instant that was asked for.
    (validation.validate_exp, validation.validate_aud) = (false, false);
    validation.required_spec_claims.clear();
    jsonwebtoken::decode::<Map<String, Value>>(token, key, &validation)
        .map(|token| token.claims)
        .map_err(|_| "the signature does not fit: the token was changed, or another key signed it".to_owned())
}

fn check(claims: &Map<String, Value>, arguments: &VerifyArguments, now: Timestamp) -> Result<(), String> {
    let claim = |name: &str| claims.get(name).cloned().unwrap_or_default();
    if claim("iss") != WEBHOOK_ISSUER {
        return Err(format!("the token's issuer is {}, not \"{WEBHOOK_ISSUER}\"", claim("iss")));
    }
    let app = arguments.app_id.map(|id| id.to_string());
    if app.as_ref().is_some_and(|app| claim("aud") != app.as_str()) {
        return Err(format!("the token is for app {}, not for {:?}", claim("aud"), app.unwrap_or_default()));
    }
    let end = claim("exp").as_i64().ok_or("the token does not say when it expires")?;
    if end <= now.seconds() {
        let expired = Timestamp(end.saturating_mul(1_000)).to_rfc3339();
        return Err(format!("the token expired at {expired}; --at judges by another instant than now"));
    }
    match &arguments.id {
        Some(id) if claim("jti") != id.as_str() => {
            Err(format!("the headers are about event {id:?}, the token about {}", claim("jti")))
        }
        _ => Ok(()),
    }
}

/// `data`, `data.data` and `data.identity` are JSON texts; in the answer they are what they say.
fn unfold(mut claims: Map<String, Value>) -> Result<Value, String> {
    let inner = |object: &mut Map<String, Value>, name: &str| {
        let text = object.get(name).and_then(Value::as_str);
        let value: Option<Value> = text.and_then(|text| serde_json::from_str(text).ok());
        let value = value.ok_or_else(|| format!("this is no webhook: its {name} is not JSON in a text"))?;
        object.insert(name.to_owned(), value);
        Ok::<_, String>(())
    };
    inner(&mut claims, "data")?;
    let envelope = claims.get_mut("data").and_then(Value::as_object_mut);
    let envelope = envelope.ok_or("this is no webhook: its data holds no envelope")?;
    inner(envelope, "data")?;
    inner(envelope, "identity")?;
    Ok(Value::Object(claims))
}
