//! Client certificates: who they are shown to, and that connections are not shared between them.

use std::sync::Arc;

use followpoints::outbound::{Answer, Client, ClientIdentity, IdentityError, OutboundRequest, SendError};

use super::tls::trusting_client;
use super::{ENOUGH, ask, post};
use crate::support::certificates::{
    CERTIFICATE, ClientAuth, ClientPair, ENCRYPTED_KEY, EXPIRED, KEY, KnowingReceiver, LOYALTY, OTHER,
};

fn identity(pair: ClientPair) -> Arc<ClientIdentity> {
    Arc::new(ClientIdentity::from_pem(pair.certificate, pair.private_key).expect("the pair is valid"))
}

async fn ask_as(client: &Client, url: &str, pair: Option<ClientPair>) -> Result<Answer, SendError> {
    ask(client, OutboundRequest { identity: pair.map(identity), ..post(url, ENOUGH) }).await
}

#[tokio::test]
async fn a_receiver_that_demands_a_certificate_gets_it() {
    let receiver = KnowingReceiver::start(ClientAuth::Required, false).await;
    let client = trusting_client();
    for _ in 0..2 {
        let answer = ask_as(&client, &receiver.url, Some(LOYALTY)).await.expect("an answer");
        assert_eq!(answer.status, 200);
    }
    assert_eq!((receiver.callers(), receiver.connections()), (vec![Some(LOYALTY.subject); 2], 1));
    for pair in [None, Some(EXPIRED)] {
        let error = ask_as(&client, &receiver.url, pair).await.expect_err("it is not let in");
        assert_eq!(error.class(), "TLS_FAILED", "{error}");
    }
    assert_eq!(receiver.callers().len(), 2);
}

#[tokio::test]
async fn kept_connections_are_not_shared_between_certificates() {
    let receiver = KnowingReceiver::start(ClientAuth::Optional, false).await;
    let client = trusting_client();
    let order = [Some(LOYALTY), Some(OTHER), None, Some(OTHER), Some(LOYALTY), None];
    for pair in order {
        assert_eq!(ask_as(&client, &receiver.url, pair).await.expect("an answer").status, 200);
    }
    assert_eq!(receiver.callers(), order.map(|pair| pair.map(|pair| pair.subject)));
    assert_eq!(receiver.connections(), 3);
}

#[tokio::test]
async fn encrypted_sessions_are_not_resumed_as_somebody_else() {
    let receiver = KnowingReceiver::start(ClientAuth::Optional, true).await;
    let client = trusting_client();
    let order = [Some(LOYALTY), Some(LOYALTY), Some(OTHER), None, Some(LOYALTY), None];
    for pair in order {
        assert_eq!(ask_as(&client, &receiver.url, pair).await.expect("an answer").status, 200);
    }
    assert_eq!(receiver.callers(), order.map(|pair| pair.map(|pair| pair.subject)));
    assert_eq!(receiver.connections(), order.len());
}

#[test]
fn a_certificate_says_whose_it_is_and_how_long_it_is_good() {
    let identity = identity(LOYALTY);
    let facts = identity.facts();
    assert_eq!(facts.subject.as_deref(), Some(LOYALTY.subject));
    assert_eq!(facts.sha256_fingerprint, LOYALTY.fingerprint);
    // 2020-01-01 and 2120-01-01.
    assert_eq!((facts.not_before_ms, facts.not_after_ms), (1_577_836_800_000, 4_733_510_400_000));
    assert_eq!(ClientIdentity::facts_of_pem(LOYALTY.certificate).as_ref(), Some(facts));
    assert!(!format!("{identity:?}").contains("PRIVATE"));
}

#[test]
fn what_is_no_certificate_with_its_key_is_refused() {
    let chain = format!("{}\n{}\n", LOYALTY.certificate, CERTIFICATE);
    assert!(ClientIdentity::from_pem(&chain, LOYALTY.private_key).is_ok());
    let long = chain.repeat(5);
    let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let truncated = "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n";
    for (certificate, what) in [
        ("", "contains no certificate in PEM form"),
        ("hello", "contains no certificate in PEM form"),
        (LOYALTY.private_key, "contains no certificate in PEM form"),
        (truncated, "is not a certificate in PEM form"),
        (broken, "cannot be read"),
        (long.as_str(), "contains more than 8 certificates"),
    ] {
        let refused = ClientIdentity::from_pem(certificate, LOYALTY.private_key).expect_err(what);
        assert_eq!(refused, IdentityError::Certificate(what));
    }
    let broken = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
    let unsupported = "is not a key of a supported kind: RSA, P-256, P-384, P-521 or Ed25519";
    for (key, what) in [
        ("", "is not an unencrypted private key in PEM form"),
        (LOYALTY.certificate, "is not an unencrypted private key in PEM form"),
        (ENCRYPTED_KEY, "is not an unencrypted private key in PEM form"),
        (broken, unsupported),
        (OTHER.private_key, "does not belong to the certificate"),
        (KEY, "does not belong to the certificate"),
    ] {
        let refused = ClientIdentity::from_pem(LOYALTY.certificate, key).expect_err(what);
        assert_eq!(refused, IdentityError::Key(what));
    }
}
