//! Encryption, and who is trusted.

use std::io::{Read, Write};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use followpoints::outbound::{Client, Setup};

use super::{ENOUGH, Names, OK, Receiver, ask, client, post, setup};

// A root and a certificate for hooks.test and 127.0.0.1, valid from 2020 to 2120, made for these tests alone.
pub(super) const ROOT: &str = "-----BEGIN CERTIFICATE-----
MIIBiDCCAS6gAwIBAgIUATKmSsmzme1DfE+eXEzZZfSIen0wCgYIKoZIzj0EAwIw
ITEfMB0GA1UEAwwWRm9sbG93cG9pbnRzIHRlc3Qgcm9vdDAgFw0yNjExMjAyMDUz
NDNaGA8yMTI2MTAyNzIwNTM0M1owITEfMB0GA1UEAwwWRm9sbG93cG9pbnRzIHRl
c3Qgcm9vdDBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABB+XGNlpRuGBbDNZH+kJ
xGgt1lYKkINplnihfZfmgVsrwzn/W+tLxkJLKxnzYBU7GoSuNlT3UNG6rpuSylGh
j8OjQjBAMA8GA1UdEwEB/wQFMAMBAf8wDgYDVR0PAQH/BAQDAgEGMB0GA1UdDgQW
BBRMdKmBjvO73LDgWP0fkcsCM6Y1VTAKBggqhkjOPQQDAgNIADBFAiEA59WHleLg
YAy1/VvaqiApxBIap6/UfE5qbg8z1mkyBgwCIBIYz/40EJ36YCWTqLsT4BrRIcUQ
uXGMH+vcqp2lv2Fn
-----END CERTIFICATE-----";
pub(super) const CERTIFICATE: &str = "-----BEGIN CERTIFICATE-----
MIIBrDCCAVGgAwIBAgIBATAKBggqhkjOPQQDAjAhMR8wHQYDVQQDDBZGb2xsb3dw
b2ludHMgdGVzdCByb290MCAXDTIwMDEwMTAwMDAwMFoYDzIxMjAwMTAxMDAwMDAw
WjAVMRMwEQYDVQQDDApob29rcy50ZXN0MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcD
QgAEUgto8HJUI1pVvu5RZfQtQnEIVwMGWS/hOOwk8ntzKsa20Pk9QwEVW34vGFhc
5RID8C+sxSTft9Up/aoUR6UOTqOBgzCBgDAMBgNVHRMBAf8EAjAAMBsGA1UdEQQU
MBKCCmhvb2tzLnRlc3SHBH8AAAEwEwYDVR0lBAwwCgYIKwYBBQUHAwEwHwYDVR0j
BBgwFoAUTHSpgY7zu9yw4Fj9H5HLAjOmNVUwHQYDVR0OBBYEFHsgoq7KgiLztmU/
CA1DhK2q1TNmMAoGCCqGSM49BAMCA0kAMEYCIQDE9QGiDEL1xSSS8q65LBzf/b/M
q06l4M4MTusbiR4aoQIhAIhlnu+mV/5U/yYwGaXO3qKCgRG93juh65JcCKS063cz
-----END CERTIFICATE-----";
pub(super) const KEY: &str = "-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgi26M934fBu8MQc6N
XU6mHPvPv7aL05n9DAbFWIIsoROhRANCAARSC2jwclQjWlW+7lFl9C1CcQhXAwZZ
L+E47CTye3MqxrbQ+T1DARVbfi8YWFzlEgPwL6zFJN+31Sn9qhRHpQ5O
-----END PRIVATE KEY-----";

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
