//! A proxy that the operator put before the way out.

use std::sync::{Arc, Mutex};

use followpoints::outbound::{Client, Phase, Proxy, SendError, Setup};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};

use super::http2::{Http2Receiver, serve};
use super::{ENOUGH, Names, OK, Receiver, SHORT, ask, post, read_request, setup};
use crate::support::certificates::ROOT;

type Seen = Arc<Mutex<Vec<String>>>;

/// A proxy on an address that the guards of these tests do not permit, which notes what it is asked.
struct TestProxy {
    receiver: Receiver,
    seen: Seen,
}

impl TestProxy {
    /// Opens tunnels, and answers other requests itself.
    async fn start() -> Self {
        Self::answering(None).await
    }

    /// Answers everything with the same bytes, if there are any.
    async fn answering(answer: Option<&'static str>) -> Self {
        let seen = Seen::default();
        let sink = Arc::clone(&seen);
        let listener = TcpListener::bind("127.0.0.9:0").await.expect("loopback can be bound");
        let receiver = Receiver::start_on(listener, move |_, mut stream| {
            let sink = Arc::clone(&sink);
            async move {
                while let Some(request) = read_request(&mut stream).await {
                    sink.lock().expect("not poisoned").push(request.clone());
                    let target = request.strip_prefix("CONNECT ").and_then(|rest| rest.split(' ').next());
                    match (answer, target) {
                        (Some(answer), _) => {
                            let _ = stream.write_all(answer.as_bytes()).await;
                            return;
                        }
                        (None, Some(target)) => return tunnel(stream, target).await,
                        (None, None) => stream.write_all(OK.as_bytes()).await.expect("the client reads"),
                    }
                }
            }
        });
        Self { receiver, seen }
    }

    fn seen(&self) -> Vec<String> {
        self.seen.lock().expect("not poisoned").clone()
    }

    /// A client behind it that takes names for what is scripted.
    fn client(&self, allow: &str, names: &[&[&str]]) -> Client {
        let url = format!("http://user:p%40ss@{}", self.receiver.address);
        let proxy = Some(Proxy::parse(&url).expect("the proxy is valid"));
        let setup = Setup { proxy, extra_roots: ROOT.as_bytes(), ..setup(allow, Names::scripted(names)) };
        Client::new(setup).expect("the client can be set up")
    }
}

async fn tunnel(mut stream: TcpStream, target: &str) {
    let Ok(mut beyond) = TcpStream::connect(target).await else {
        let _ = stream.write_all(b"HTTP/1.1 502 Bad Gateway\r\ncontent-length: 2\r\n\r\nno").await;
        return;
    };
    stream.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await.expect("the client reads");
    let _ = tokio::io::copy_bidirectional(&mut stream, &mut beyond).await;
}

#[tokio::test]
async fn https_goes_through_a_tunnel_to_the_judged_address() {
    let receiver = Http2Receiver::start(|_, stream| serve(stream)).await;
    let proxy = TestProxy::start().await;
    let client = proxy.client("127.0.0.1/32", &[&["10.0.0.1", "127.0.0.1"]]);
    for _ in 0..2 {
        // The certificate is for the name, whatever the proxy was told.
        let answer = ask(&client, post(&receiver.url, ENOUGH)).await.expect("an answer");
        assert_eq!((answer.status, &answer.body[..]), (200, &b"ok"[..]));
    }
    let port = receiver.url.rsplit(':').next().expect("a port").split('/').next().expect("a port");
    let target = format!("127.0.0.1:{port}");
    assert_eq!(
        proxy.seen(),
        [format!(
            "CONNECT {target} HTTP/1.1\r\nhost: {target}\r\nproxy-authorization: Basic dXNlcjpwQHNz\r\n\r\n"
        )],
        "one tunnel, which is kept"
    );
    assert_eq!(receiver.connections(), 1);
}

#[tokio::test]
async fn plain_http_names_the_judged_address_to_the_proxy() {
    let proxy = TestProxy::start().await;
    let client = proxy.client("127.0.0.0/29", &[&["10.0.0.1", "127.0.0.3"]]);
    for _ in 0..2 {
        let answer = ask(&client, post("http://hooks.test:8080/hook?a=b", ENOUGH)).await.expect("an answer");
        assert_eq!(answer.status, 200);
    }
    let wanted = "POST http://127.0.0.3:8080/hook?a=b HTTP/1.1\r\nx-test: 1\r\nhost: hooks.test:8080\r\n\
                  proxy-authorization: Basic dXNlcjpwQHNz\r\ncontent-length: 5\r\n\r\nhello";
    assert_eq!(proxy.seen(), [wanted, wanted]);
    assert_eq!(proxy.receiver.connections(), 1);
}

#[tokio::test]
async fn the_proxy_is_told_nothing_of_a_forbidden_address() {
    let proxy = TestProxy::start().await;
    for (scheme, found) in
        [("https", "10.0.0.1"), ("https", "127.0.0.9"), ("http", "8.8.8.8"), ("http", "127.0.0.9")]
    {
        let client = proxy.client("127.0.0.1/32", &[&[found]]);
        let error = ask(&client, post(&format!("{scheme}://inside.test/"), ENOUGH)).await.expect_err(found);
        assert_eq!(error.class(), "FORBIDDEN_ADDRESS", "{scheme} {found}");
    }
    assert_eq!(proxy.receiver.connections(), 0);
}

#[tokio::test]
async fn an_address_that_the_proxy_cannot_reach_leaves_room_for_the_next() {
    let receiver = Http2Receiver::start(|_, stream| serve(stream)).await;
    let proxy = TestProxy::start().await;
    // Nothing listens on 127.0.0.3.
    let client = proxy.client("127.0.0.0/29", &[&["127.0.0.3", "127.0.0.1"]]);
    assert_eq!(ask(&client, post(&receiver.url, ENOUGH)).await.expect("an answer").status, 200);
    assert_eq!(proxy.seen().len(), 2);
}

#[tokio::test]
async fn a_proxy_that_opens_no_tunnel_fails_the_request_without_naming_itself() {
    let endless: &'static str =
        Box::leak(format!("HTTP/1.1 200 OK\r\nx: {}", "y".repeat(20_000)).into_boxed_str());
    for (answer, what) in [
        ("HTTP/1.1 407 Proxy Authentication Required\r\ncontent-length: 0\r\n\r\n", "it answered 407"),
        ("HTTP/1.1 403 Forbidden\r\ncontent-length: 6\r\n\r\nno way", "it answered 403"),
        ("HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1/\r\n\r\n", "it answered 302"),
        ("HTTP/1.1 200 OK\r\n\r\nand more", "its answer is not the opening of a tunnel"),
        ("SSH-2.0-OpenSSH_9.9\r\n\r\n", "its answer is not HTTP"),
        ("HTTP/1.1 200 OK\r\n", "it closed the connection"),
        ("", "it closed the connection"),
        (endless, "its answer is too long"),
    ] {
        let proxy = TestProxy::answering(Some(answer)).await;
        let client = proxy.client("127.0.0.0/8", &[&["127.0.0.1"]]);
        let error = ask(&client, post("https://hooks.test/", ENOUGH)).await.expect_err(what);
        assert_eq!(error, SendError::Proxy(what.to_owned()));
        assert_eq!(error.class(), "CONNECT_FAILED");
        assert_eq!(error.to_string(), format!("no connection through the proxy of this service: {what}"));
    }

    let hanging = Receiver::then_hang("").await;
    let proxy = Some(Proxy::parse(&format!("http://{}", hanging.address)).expect("valid"));
    let names = Names::scripted(&[&["127.0.0.1"]]);
    let client =
        Client::new(Setup { proxy, ..setup("127.0.0.0/8", names) }).expect("the client can be set up");
    let sent = client.send(post("https://hooks.test/", SHORT)).await;
    assert_eq!(sent.result.expect_err("a hang"), SendError::Timeout(Phase::Connect));
    assert!(sent.timings.connect.is_some_and(|connect| connect >= SHORT / 2));
}

#[tokio::test]
async fn a_proxy_that_cannot_be_reached_is_not_named_either() {
    for proxy in ["http://127.0.0.9:1", "http://proxy.test:1", "http://unknown.test:1"] {
        let proxy = Some(Proxy::parse(proxy).expect("valid"));
        let names = Names::scripted(if proxy == Proxy::parse("http://unknown.test:1").ok() {
            &[]
        } else {
            &[&["127.0.0.9"]]
        });
        let client =
            Client::new(Setup { proxy, ..setup("127.0.0.0/8", names) }).expect("the client can be set up");
        for url in ["https://127.0.0.1/", "http://127.0.0.1/"] {
            let error = ask(&client, post(url, ENOUGH)).await.expect_err("nobody listens");
            assert_eq!(error, SendError::Proxy("it cannot be reached".to_owned()), "{url}");
        }
    }
}
