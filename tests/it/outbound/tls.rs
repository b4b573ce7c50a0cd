//! Encryption, and who is trusted.

use std::io::{Read, Write};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use followpoints::outbound::{Client, Setup};

use crate::support::certificates::{CERTIFICATE, KEY, ROOT};

use super::{ENOUGH, Names, OK, Receiver, ask, client, post, setup};

/// A client that trusts the root of these tests and takes every name for 127.0.0.1.
pub(super) fn trusting_client() -> Client {
    let setup =
        Setup { extra_roots: ROOT.as_bytes(), ..setup("127.0.0.0/8", Names::scripted(&[&["127.0.0.1"]])) };
    Client::new(setup).expect("the client can be set up")
}

/// A TLS receiver on a thread of its own, since the TLS library alone is blocking; answers one request per connection.
fn start_tls_receiver() -> u16 {
    let certificate = CertificateDer::from_pem_slice(CERTIFICATE.as_bytes()).expect("a certificate");
    let key = PrivateKeyDer::from_pem_slice(KEY.as_bytes()).expect("a key");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("the provider offers TLS")
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .expect("the key fits");
    let config = Arc::new(config);
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("loopback can be bound");
    let port = listener.local_addr().expect("a bound listener has an address").port();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let session = rustls::ServerConnection::new(Arc::clone(&config)).expect("a valid configuration");
            let mut stream = rustls::StreamOwned::new(session, stream);
            // The request is small enough for one read; a client that refuses the certificate makes it fail.
            if stream.read(&mut [0; 4096]).is_ok_and(|count| count > 0) {
                let _ = stream.write_all(OK.as_bytes());
                stream.conn.send_close_notify();
                let _ = stream.flush();
            }
        }
    });
    port
}

#[tokio::test]
async fn https_needs_a_trusted_certificate_for_the_right_name() {
    let port = start_tls_receiver();
    for host in ["hooks.test", "127.0.0.1"] {
        let answer =
            ask(&trusting_client(), post(&format!("https://{host}:{port}/"), ENOUGH)).await.expect(host);
        assert_eq!((answer.status, &answer.body[..]), (200, &b"ok"[..]), "{host}");
    }
    let wrong_name = ask(&trusting_client(), post(&format!("https://other.test:{port}/"), ENOUGH)).await;
    assert_eq!(wrong_name.expect_err("the wrong name").class(), "TLS_FAILED");
    let untrusting = client("127.0.0.0/8", &[&["127.0.0.1"]]);
    let unknown_root = ask(&untrusting, post(&format!("https://hooks.test:{port}/"), ENOUGH)).await;
    assert_eq!(unknown_root.expect_err("an unknown root").class(), "TLS_FAILED");

    for answer in ["HTTP/1.1 400 Bad Request\r\n\r\n", ""] {
        let plain = Receiver::start(move |_, mut stream| async move {
            let _ = stream.read(&mut [0; 4096]).await;
            let _ = stream.write_all(answer.as_bytes()).await;
        })
        .await;
        let error = ask(&trusting_client(), post(&plain.url("https", "127.0.0.1"), ENOUGH)).await;
        assert_eq!(error.expect_err("no TLS").class(), "TLS_FAILED", "{answer}");
    }
}
