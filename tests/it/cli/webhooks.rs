//! `webhooks verify` on bodies that the service really delivered: what it prints, and the one line that says what is wrong.

use std::io::Write as _;
use std::process::Stdio;

use serde_json::Value;

use super::{Ended, Sandbox};
use crate::support::delivered::{Delivered, deliver, header, tampered, unsigned, with_head};
use crate::support::receiver::{Received, Receiver, Reply};
use crate::webhooks::unfold;

/// A folder with everything in files, as an author of a receiver would have it.
async fn folder() -> (Sandbox, Delivered) {
    let delivered = deliver().await;
    let sandbox = Sandbox::new();
    for (name, text) in [
        ("app.pem", &delivered.public_key),
        ("keys.json", &delivered.jwks),
        ("secret.txt", &format!("{}\n", delivered.secret)),
        ("fresh.txt", &format!("{}\n", delivered.fresh.body)),
        ("expired.txt", &delivered.expired.body),
        ("foreign.txt", &delivered.foreign.body),
    ] {
        std::fs::write(sandbox.path(name), text).unwrap();
    }
    (sandbox, delivered)
}

fn verify(sandbox: &Sandbox, arguments: &[&str]) -> Ended {
    sandbox.run(&[&["webhooks", "verify"], arguments].concat())
}

/// What is printed of the webhook in `body`.
fn told(body: &str) -> Ended {
    Ended::with(format!("{:#}\n", unfold(body)))
}

fn headers(request: &Received) -> [&str; 6] {
    [
        "--id",
        header(request, "webhook-id"),
        "--timestamp",
        header(request, "webhook-timestamp"),
        "--signature",
        header(request, "webhook-signature"),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_delivered_token_is_verified_by_file_key_set_or_url_and_its_event_printed() {
    let (mut sandbox, delivered) = folder().await;
    let expected = told(&delivered.fresh.body);
    let app = delivered.app_id.as_str();
    assert_eq!(verify(&sandbox, &["fresh.txt", "--public-key", "app.pem"]), expected);
    assert_eq!(verify(&sandbox, &["fresh.txt", "--public-key", "app.pem", "--app-id", app]), expected);
    assert_eq!(verify(&sandbox, &["--jwks", "keys.json", "--app-id", app, "fresh.txt"]), expected);
    let printed: Value = serde_json::from_str(&expected.stdout).unwrap();
    assert_eq!(printed["data"]["data"]["createdEvent"]["entity"]["channel"], "X");

    for arguments in [
        &["webhooks", "verify", "--jwks", "keys.json"][..],
        &["webhooks", "verify", "-", "--jwks", "keys.json"],
    ] {
        let mut child = sandbox.command(arguments).stdin(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(delivered.fresh.body.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        assert_eq!(String::from_utf8(output.stdout).unwrap(), expected.stdout);
        assert!(output.status.success());
    }
    assert_eq!(
        verify(&sandbox, &["expired.txt", "--public-key", "app.pem", "--at", "2024-08-02T00:00:00+02:00"]),
        told(&delivered.expired.body)
    );

    let server = Receiver::start().await;
    server.answer([Reply::status(200).body(delivered.jwks.clone()), Reply::status(404)]);
    let url = server.url.as_str();
    let refused = format!(
        "cannot fetch {url}: the address 127.0.0.1 is not publicly reachable and must not be called; FOLLOWPOINTS_WEBHOOK_ALLOW_NETS can allow its network"
    );
    assert_eq!(verify(&sandbox, &["fresh.txt", "--jwks", url]), Ended::refused(refused));
    sandbox.set("FOLLOWPOINTS_WEBHOOK_ALLOW_NETS", "127.0.0.0/8");
    assert_eq!(verify(&sandbox, &["fresh.txt", "--jwks", url]), expected);
    let refused = Ended::refused(format!("cannot fetch {url}: it answered 404"));
    assert_eq!(verify(&sandbox, &["fresh.txt", "--jwks", url]), refused);
    assert!(!sandbox.path("followpoints.db").exists(), "no database is needed or made");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn delivered_headers_are_verified_with_the_secret_or_the_public_key() {
    let (mut sandbox, delivered) = folder().await;
    let expected = told(&delivered.fresh.body);
    let with = |sandbox: &Sandbox, more: &[&str]| {
        verify(sandbox, &[&["fresh.txt"], &headers(&delivered.fresh)[..], more].concat())
    };
    assert_eq!(with(&sandbox, &["--secret-file", "secret.txt"]), expected);
    assert_eq!(with(&sandbox, &["--public-key", &delivered.signing_public_key]), expected);
    assert_eq!(with(&sandbox, &["--secret-file", "secret.txt", "--public-key", "app.pem"]), expected);
    assert_eq!(
        with(&sandbox, &["--public-key", &delivered.signing_public_key, "--jwks", "keys.json"]),
        expected
    );
    let nothing = "the headers need a key: --secret-file, FOLLOWPOINTS_WEBHOOK_SECRET or --public-key whpk_…";
    assert_eq!(with(&sandbox, &[]), Ended::refused(nothing));
    sandbox.set("FOLLOWPOINTS_WEBHOOK_SECRET", delivered.secret.clone());
    assert_eq!(with(&sandbox, &[]), expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_wrong_with_a_token_is_said_in_one_line() {
    let (sandbox, delivered) = folder().await;
    let (own, other) = (&delivered.app_id, &delivered.foreign_app_id);
    let fresh = delivered.fresh.body.as_str();
    let kid = |token: &str| crate::webhooks::unfold_head(token)["kid"].as_str().unwrap().to_owned();
    let changed = "the signature does not fit: the token was changed, or another key signed it";
    let not_a_token = "the body is not a compact JWS: three parts in base64url with dots between them";
    let expired = "the token expired at 2024-08-04T23:11:41.000Z; --at judges by another instant than now";
    let foreign = format!("the token is for app \"{other}\", not for \"{own}\"");
    let hs256 = with_head(fresh, r#"{"alg":"HS256","typ":"JWT"}"#);
    let unknown = with_head(fresh, r#"{"alg":"RS256","kid":"nobody's","typ":"JWT"}"#);
    let alien = with_head(fresh, &format!(r#"{{"alg":"RS256","kid":"{}"}}"#, kid(&delivered.foreign.body)));
    let none = "the token's algorithm is \"none\"; only \"RS256\" is acceptable";
    let hmac = "the token's algorithm is \"HS256\"; only \"RS256\" is acceptable";
    for (body, key, said) in [
        (&tampered(fresh, &delivered.expired.body)[..], "both", changed),
        (&format!("{fresh}A"), "both", changed),
        (&unsigned(fresh), "both", none),
        (&hs256, "both", hmac),
        (&delivered.expired.body, "both", expired),
        (&delivered.foreign.body, "--public-key", changed),
        (&delivered.foreign.body, "--jwks", &foreign),
        (&unknown, "--jwks", "the key set has no key \"nobody's\""),
        (&alien, "--jwks", changed),
        ("", "both", not_a_token),
        ("hello", "both", not_a_token),
        ("a.b.c", "both", not_a_token),
        ("{\"id\": 1}", "both", not_a_token),
    ] {
        std::fs::write(sandbox.path("body.txt"), body).unwrap();
        for (name, file) in [("--public-key", "app.pem"), ("--jwks", "keys.json")] {
            if key == name || key == "both" {
                let ended = verify(&sandbox, &["body.txt", name, file, "--app-id", own]);
                assert_eq!(ended, Ended::refused(said), "{name} {body}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_wrong_with_headers_is_said_in_one_line() {
    let (sandbox, delivered) = folder().await;
    let fresh = &delivered.fresh;
    let secret = ["--secret-file", "secret.txt"];
    let with = |body: &str, id: &str, timestamp: &str, signature: &str| {
        let given = [body, "--id", id, "--timestamp", timestamp, "--signature", signature];
        verify(&sandbox, &[&given, &secret[..]].concat())
    };
    let [_, id, _, timestamp, _, signature] = headers(fresh);
    let mismatch = Ended::refused(
        "no v1 signature in webhook-signature fits: id, timestamp or body were changed, or the key is another",
    );
    assert_eq!(with("expired.txt", id, timestamp, signature), mismatch);
    assert_eq!(with("fresh.txt", "another", timestamp, signature), mismatch);
    assert_eq!(with("fresh.txt", id, timestamp, "v1,AAAA"), mismatch);
    assert_eq!(
        with("fresh.txt", id, timestamp, "v1a,AAAA"),
        Ended::refused("webhook-signature has no v1 signature")
    );
    assert_eq!(
        with("fresh.txt", id, "today", signature),
        Ended::refused("webhook-timestamp is not a number of seconds")
    );
    let at: i64 = timestamp.parse().unwrap();
    let verify_at = |seconds: i64| {
        let instant = entity::id::Timestamp((at + seconds) * 1_000).to_rfc3339();
        verify(&sandbox, &[&["fresh.txt"], &headers(fresh)[..], &secret, &["--at", &instant]].concat())
    };
    assert_eq!(verify_at(300), told(&fresh.body));
    assert_eq!(
        verify_at(301),
        Ended::refused(
            "webhook-timestamp is 301 s before the receiver's clock; 300 s are allowed, so this is a replay or a clock is wrong"
        )
    );
    assert_eq!(
        verify_at(-301),
        Ended::refused(
            "webhook-timestamp is 301 s after the receiver's clock; 300 s are allowed, so a clock is wrong"
        )
    );
    // The headers fit, but the token that they vouch for is for another app.
    let other = ["--app-id", delivered.foreign_app_id.as_str()];
    let foreign =
        format!("the token is for app \"{}\", not for \"{}\"", delivered.app_id, delivered.foreign_app_id);
    assert_eq!(
        verify(&sandbox, &[&["fresh.txt"], &headers(fresh)[..], &secret, &other].concat()),
        Ended::refused(foreign)
    );
}

#[test]
fn what_cannot_be_used_to_verify_is_told() {
    let sandbox = Sandbox::new();
    std::fs::write(sandbox.path("text"), "hello").unwrap();
    std::fs::write(sandbox.path("empty.json"), "{}").unwrap();
    std::fs::write(sandbox.path("long"), "x".repeat(1024 * 1024 + 1)).unwrap();
    let together = "--id, --timestamp and --signature go together, with a secret or a whpk_ key";
    let all = ["--id", "i", "--timestamp", "1", "--signature", "v1,A"];
    let with_headers = |more: [&'static str; 2]| [&["text"], &all[..], &more].concat();
    for (arguments, said) in [
        (
            vec!["text"],
            "nothing to verify with: give --public-key or --jwks, or --id, --timestamp and --signature with \
             --secret-file, FOLLOWPOINTS_WEBHOOK_SECRET or --public-key whpk_…",
        ),
        (vec!["none", "--jwks", "none"], "cannot read none: No such file or directory (os error 2)"),
        (vec!["text", "--public-key", "text"], "text is not an RSA public key in PEM"),
        (vec!["text", "--jwks", "text"], "text is not JSON: expected value at line 1 column 1"),
        (vec!["text", "--jwks", "empty.json"], "empty.json is not a key set: it has no keys"),
        (vec!["text", "--jwks", "long"], "long is longer than 1048576 bytes"),
        (vec!["text", "--jwks", "text", "--public-key", "text"], "give --public-key or --jwks, not both"),
        (vec!["text", "--jwks", "ftp://a/"], "cannot fetch ftp://a/: a URL must start with https://"),
        (vec!["text", "--id", "i"], together),
        (vec!["text", "--secret-file", "text"], together),
        (vec!["text", "--public-key", "whpk_AAAA"], together),
        (
            with_headers(["--public-key", "whpk_AAAA"]),
            "--public-key must be whsec_ or whpk_ and a key in base64",
        ),
        (
            with_headers(["--secret-file", "text"]),
            "--secret-file: what is in it must be whsec_ or whpk_ and a key in base64",
        ),
        (
            with_headers(["--public-key", "whsec_hunter2"]),
            "--public-key is a secret, which others can see; use --secret-file or FOLLOWPOINTS_WEBHOOK_SECRET",
        ),
    ] {
        assert_eq!(verify(&sandbox, &arguments), Ended::refused(said), "{arguments:?}");
    }
    let wrong = verify(&sandbox, &["text", "--jwks", "text", "--at", "yesterday"]);
    assert_eq!((wrong.code, wrong.stdout.as_str()), (Some(2), ""));
    assert!(wrong.stderr.contains("must be an instant like 2024-08-01T11:51:41.431Z"), "{}", wrong.stderr);
}
