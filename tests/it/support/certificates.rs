//! Certificates for servers and clients, made for these tests alone, and a receiver that asks for the latter.
//!
//! FOR TESTS ONLY: the private keys are published with the source, so nothing real may ever trust them. They were made with
//! `openssl`, as owners make theirs.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// The root of the server's certificate.
pub const ROOT: &str = "-----BEGIN CERTIFICATE-----
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
/// A server's certificate for hooks.test and 127.0.0.1, valid from 2020 to 2120.
pub const CERTIFICATE: &str = "-----BEGIN CERTIFICATE-----
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
/// Its key.
pub const KEY: &str = "-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgi26M934fBu8MQc6N
XU6mHPvPv7aL05n9DAbFWIIsoROhRANCAARSC2jwclQjWlW+7lFl9C1CcQhXAwZZ
L+E47CTye3MqxrbQ+T1DARVbfi8YWFzlEgPwL6zFJN+31Sn9qhRHpQ5O
-----END PRIVATE KEY-----";

/// The root of the clients' certificates.
pub const CLIENT_ROOT: &str = "-----BEGIN CERTIFICATE-----
MIIBtjCCAV2gAwIBAgIUOW+mLNfrnc3GocVJ8ZHhDbBXre0wCgYIKoZIzj0EAwIw
KDEmMCQGA1UEAwwdRm9sbG93cG9pbnRzIHRlc3QgY2xpZW50IHJvb3QwIBcNMjYx
MTIxMDY0MTI0WhgPMjEyNjEwMjgwNjQxMjRaMCgxJjAkBgNVBAMMHUZvbGxvd3Bv
aW50cyB0ZXN0IGNsaWVudCByb290MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE
LYf7ydARmoIaJdXMEEmllsdIhPNzA707Dxk67oooIZhToqBkK5GnFYX/eaLawk2V
UB4QqkFJUihpUHD+PqYcYaNjMGEwHQYDVR0OBBYEFOd9XDEngPaRy7p72lMkeC5f
Ns6WMB8GA1UdIwQYMBaAFOd9XDEngPaRy7p72lMkeC5fNs6WMA8GA1UdEwEB/wQF
MAMBAf8wDgYDVR0PAQH/BAQDAgIEMAoGCCqGSM49BAMCA0cAMEQCIFOQfC9bKjiv
fpx91ADTpkDPp2KoZmEjPbHVPiOo63EuAiBomxSl0KdLgRNIL8hDIU7Kk22Ub1kI
6PQGItmVL2wD2A==
-----END CERTIFICATE-----";

/// A client's certificate with its private key and what it says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientPair {
    pub certificate: &'static str,
    pub private_key: &'static str,
    pub subject: &'static str,
    pub fingerprint: &'static str,
}

/// Valid from 2020 to 2120.
pub const LOYALTY: ClientPair = ClientPair {
    certificate: "-----BEGIN CERTIFICATE-----
MIIBqDCCAU+gAwIBAgIBATAKBggqhkjOPQQDAjAoMSYwJAYDVQQDDB1Gb2xsb3dw
b2ludHMgdGVzdCBjbGllbnQgcm9vdDAgFw0yMDAxMDEwMDAwMDBaGA8yMTIwMDEw
MTAwMDAwMFowKzEaMBgGA1UEAwwRbG95YWx0eS5hY21lLnRlc3QxDTALBgNVBAoM
BEFjbWUwWTATBgcqhkjOPQIBBggqhkjOPQMBBwNCAAQoOA7FhWpxw6Xq9/wRmW0n
RtI9whpJ88iLwR29akLfWMbngIkn/+Co3NFH47FIu2HVLmU9A78hQ6WeeRCsKmqS
o2UwYzAMBgNVHRMBAf8EAjAAMBMGA1UdJQQMMAoGCCsGAQUFBwMCMB0GA1UdDgQW
BBSW+KHmZuQ/vgSbWePz9bEdviEj0zAfBgNVHSMEGDAWgBTnfVwxJ4D2kcu6e9pT
JHguXzbOljAKBggqhkjOPQQDAgNHADBEAiBNVo+RLd9V8VBnxYE6qE8c5hg6Vapp
mw85ZP35hzxdXwIgXw7j6XUayFfwvFVKrP1W3Wbm9N/TgaLdynW5qyjqEeE=
-----END CERTIFICATE-----",
    private_key: "-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgzlhJMeWNz3S5gbI9
c4v491Yrz2bYN7uwQNHvTT38u4ChRANCAAQoOA7FhWpxw6Xq9/wRmW0nRtI9whpJ
88iLwR29akLfWMbngIkn/+Co3NFH47FIu2HVLmU9A78hQ6WeeRCsKmqS
-----END PRIVATE KEY-----",
    subject: "loyalty.acme.test",
    fingerprint: "f17b07d70a0ff4057809f101799f5c0d0ba38ba0ce45bb4612173f466c7a0326",
};

/// The same of somebody else.
pub const OTHER: ClientPair = ClientPair {
    certificate: "-----BEGIN CERTIFICATE-----
MIIBmDCCAT6gAwIBAgIBAjAKBggqhkjOPQQDAjAoMSYwJAYDVQQDDB1Gb2xsb3dw
b2ludHMgdGVzdCBjbGllbnQgcm9vdDAgFw0yMDAxMDEwMDAwMDBaGA8yMTIwMDEw
MTAwMDAwMFowGjEYMBYGA1UEAwwPb3RoZXIuYWNtZS50ZXN0MFkwEwYHKoZIzj0C
AQYIKoZIzj0DAQcDQgAE6KGsSqHpM/1l41ZZRCLgH2m3nvmu4pmiwZ1FhXQurlvo
Ui0ERS6rfmeZQgXhYIS5lWYUmv8bU2Ewi7IvqH0Ip6NlMGMwDAYDVR0TAQH/BAIw
ADATBgNVHSUEDDAKBggrBgEFBQcDAjAdBgNVHQ4EFgQU6Yk5V7ZZiBmPlIrIausn
lrzt5MkwHwYDVR0jBBgwFoAU531cMSeA9pHLunvaUyR4Ll82zpYwCgYIKoZIzj0E
AwIDSAAwRQIhAL18E71LLQdVG6B00SuIxPhh/QdNo2vCCp60dB9xltdKAiBJvXjr
Aj7J/uF8ccLIGJ6yRRIq09rnMkkDUpOP9RUe7w==
-----END CERTIFICATE-----",
    private_key: "-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgOGjZXETHcGw5Ch8C
zkPtdkaAek4ov9OcM7d2ig0V4qyhRANCAATooaxKoekz/WXjVllEIuAfabee+a7i
maLBnUWFdC6uW+hSLQRFLqt+Z5lCBeFghLmVZhSa/xtTYTCLsi+ofQin
-----END PRIVATE KEY-----",
    subject: "other.acme.test",
    fingerprint: "392878661c92f6dab333dea224a6f23578114396ca37b91e4d94628928484323",
};

/// Valid from 2020 to 2023.
pub const EXPIRED: ClientPair = ClientPair {
    certificate: "-----BEGIN CERTIFICATE-----
MIIBlDCCATqgAwIBAgIBAzAKBggqhkjOPQQDAjAoMSYwJAYDVQQDDB1Gb2xsb3dw
b2ludHMgdGVzdCBjbGllbnQgcm9vdDAeFw0yMDAxMDEwMDAwMDBaFw0yMzAxMDEw
MDAwMDBaMBgxFjAUBgNVBAMMDW9sZC5hY21lLnRlc3QwWTATBgcqhkjOPQIBBggq
hkjOPQMBBwNCAAQd5gCGPUhKORS6QhDfZifeVIVJCMPc+CRzns0Y5Ulta7fyBGb6
/uii2fQI1BtCFWNxyfZJprQNdA9hWP/Eogl5o2UwYzAMBgNVHRMBAf8EAjAAMBMG
A1UdJQQMMAoGCCsGAQUFBwMCMB0GA1UdDgQWBBRIWb1gKHsv/m1RwC0LMZDwjouy
bjAfBgNVHSMEGDAWgBTnfVwxJ4D2kcu6e9pTJHguXzbOljAKBggqhkjOPQQDAgNI
ADBFAiEAwLmHitEE5vQSiQhNs5X+GXUisGYmEHY9iGLDlJBnsfACIG6oIKV4OwJg
o+HzEbdvz/TIwFnM2qXbf15BR75RcBi1
-----END CERTIFICATE-----",
    private_key: "-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgjGIez/1vlzm7vhCO
U/vML3uT8+4BcWGIxC8mVpAoWEqhRANCAAQd5gCGPUhKORS6QhDfZifeVIVJCMPc
+CRzns0Y5Ulta7fyBGb6/uii2fQI1BtCFWNxyfZJprQNdA9hWP/Eogl5
-----END PRIVATE KEY-----",
    subject: "old.acme.test",
    fingerprint: "2553792ef4a3d6af8d4a536009fa394557857be6f78d12f531b41971f2f5a2f8",
};

/// The key of [`LOYALTY`] behind a passphrase.
pub const ENCRYPTED_KEY: &str = "-----BEGIN ENCRYPTED PRIVATE KEY-----
MIHsMFcGCSqGSIb3DQEFDTBKMCkGCSqGSIb3DQEFDDAcBAgD6RPW00QgpwICCAAw
DAYIKoZIhvcNAgkFADAdBglghkgBZQMEASoEEMvqicTOOEJ70a1VmzHeoYcEgZCT
XfM2C1jZahVIpihz8q9Cx0P2t08rg4ag7/M3Wb8hXNI3qkCmNMzKWh3VN0ft5lSX
NTiE3c00HVRhkbI1bP1ZtEd/5M2kd+A9yCTGZWpIsjJkDcS9iDtLqq5fOnP4BgyD
nMKUjJIlUBD9vVn6LmrRzsydgquSj5BtzVUmtuMYz/LL7H0shplANIrAu950q/Q=
-----END ENCRYPTED PRIVATE KEY-----";

/// Whether a server asks for a client's certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientAuth {
    Never,
    Optional,
    Required,
}

/// Accepts encrypted connections under [`CERTIFICATE`].
pub fn acceptor(protocols: &[&[u8]], auth: ClientAuth) -> TlsAcceptor {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(CLIENT_ROOT.as_bytes()).unwrap()).unwrap();
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone());
    let verifier = match auth {
        ClientAuth::Never => WebPkiClientVerifier::no_client_auth(),
        ClientAuth::Optional => verifier.allow_unauthenticated().build().unwrap(),
        ClientAuth::Required => verifier.build().unwrap(),
    };
    let certificate = CertificateDer::from_pem_slice(CERTIFICATE.as_bytes()).unwrap();
    let key = PrivateKeyDer::from_pem_slice(KEY.as_bytes()).unwrap();
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier)
        .with_single_cert(vec![certificate], key)
        .unwrap();
    config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
    TlsAcceptor::from(Arc::new(config))
}

/// A receiver that notes whose certificate came with each request, and answers 200.
pub struct KnowingReceiver {
    pub url: String,
    callers: Arc<Mutex<Vec<Option<&'static str>>>>,
    connection_count: Arc<AtomicUsize>,
}

impl KnowingReceiver {
    /// With `closes`, each connection ends with its first answer.
    pub async fn start(auth: ClientAuth, closes: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let receiver = Self {
            url: format!("https://hooks.test:{port}/hook"),
            callers: Arc::default(),
            connection_count: Arc::default(),
        };
        let (callers, count) = (Arc::clone(&receiver.callers), Arc::clone(&receiver.connection_count));
        let acceptor = acceptor(&[b"http/1.1"], auth);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::SeqCst);
                let (acceptor, callers) = (acceptor.clone(), Arc::clone(&callers));
                tokio::spawn(async move {
                    match acceptor.accept(stream).into_fallible().await {
                        Ok(stream) => answer_all(stream, &callers, closes).await,
                        // Closing with something unread would reset the connection before the client has read why.
                        Err((_, mut stream)) => {
                            while stream.read(&mut [0; 4096]).await.is_ok_and(|count| count > 0) {}
                        }
                    }
                });
            }
        });
        receiver
    }

    /// The subject of the certificate that came with each request, as [`ClientPair`] has it.
    pub fn callers(&self) -> Vec<Option<&'static str>> {
        self.callers.lock().unwrap().clone()
    }

    pub fn connections(&self) -> usize {
        self.connection_count.load(Ordering::SeqCst)
    }
}

async fn answer_all(
    mut stream: TlsStream<TcpStream>,
    callers: &Mutex<Vec<Option<&'static str>>>,
    closes: bool,
) {
    let shown = stream.get_ref().1.peer_certificates().map(|chain| chain[0].to_vec());
    let caller = shown.map(|shown| {
        let is_shown = |pair: &&ClientPair| {
            CertificateDer::from_pem_slice(pair.certificate.as_bytes()).unwrap().as_ref() == shown
        };
        [LOYALTY, OTHER, EXPIRED].iter().find(is_shown).map_or("unknown", |pair| pair.subject)
    });
    let connection = if closes { "close" } else { "keep-alive" };
    let answer = format!("HTTP/1.1 200 OK\r\nconnection: {connection}\r\ncontent-length: 2\r\n\r\nok");
    let mut request = Vec::new();
    while stream.read_buf(&mut request).await.is_ok_and(|count| count > 0) {
        if !is_whole(&request) {
            continue;
        }
        request.clear();
        callers.lock().unwrap().push(caller);
        let _ = stream.write_all(answer.as_bytes()).await;
        if closes {
            let _ = stream.shutdown().await;
            return;
        }
    }
}

fn is_whole(request: &[u8]) -> bool {
    let text = String::from_utf8_lossy(request);
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    body.len() >= length.map_or(0, |length| length.parse().unwrap())
}
