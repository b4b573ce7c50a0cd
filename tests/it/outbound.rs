//! Requests to receivers that hang, lie, break off or should never have been called.
//!
//! Receivers are real listeners on loopback, scripted per connection. A hang is met with a short deadline of the
//! client itself, so nothing here sleeps; nothing leaves loopback, because every address outside it is refused before
//! it is dialled, and that is what those tests assert.

use std::collections::VecDeque;
use std::future::pending;
use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use followpoints::outbound::{
    Answer, BodyError, BoxFuture, Client, Guard, OutboundRequest, Phase, Resolve, SendError, TargetUrl,
};
use hyper::Method;
use hyper::header::{HeaderName, HeaderValue};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

const ENOUGH: Duration = Duration::from_secs(20);
const SHORT: Duration = Duration::from_millis(100);
const BODY_MAX: usize = 16 * 1024;
const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

/// A resolver that gives one scripted answer after the other and repeats the last.
struct Names(Mutex<VecDeque<Vec<IpAddr>>>);

impl Names {
    fn scripted(answers: &[&[&str]]) -> Arc<Self> {
        let parse = |answer: &&[&str]| answer.iter().map(|text| text.parse().expect("an address")).collect();
        Arc::new(Self(Mutex::new(answers.iter().map(parse).collect())))
    }
}

impl Resolve for Names {
    fn resolve(&self, host: &str) -> BoxFuture<'_, io::Result<Vec<IpAddr>>> {
        let mut answers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let answer = if answers.len() > 1 { answers.pop_front() } else { answers.front().cloned() };
        let unknown = format!("{host} is unknown");
        Box::pin(async move { answer.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, unknown)) })
    }
}

struct NeverAnswers;

impl Resolve for NeverAnswers {
    fn resolve(&self, _: &str) -> BoxFuture<'_, io::Result<Vec<IpAddr>>> {
        Box::pin(pending())
    }
}

struct Receiver {
    address: SocketAddr,
    connection_count: Arc<AtomicUsize>,
}

impl Receiver {
    /// Listens, and runs the script for every connection, with its number counted from 0.
    async fn start<F, S>(script: S) -> Self
    where
        S: Fn(usize, TcpStream) -> F + Send + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback can be bound");
        Self::start_on(listener, script)
    }

    fn start_on<F, S>(listener: TcpListener, script: S) -> Self
    where
        S: Fn(usize, TcpStream) -> F + Send + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        let address = listener.local_addr().expect("a bound listener has an address");
        let connection_count = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&connection_count);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let number = count.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(script(number, stream));
            }
        });
        Self { address, connection_count }
    }

    /// Answers every request on every connection with the same bytes.
    async fn always(answer: &'static str) -> Self {
        Self::start(move |_, mut stream| async move {
            while read_request(&mut stream).await.is_some() {
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        })
        .await
    }

    /// Reads one request, writes these bytes and closes.
    async fn once(answer: impl Into<Vec<u8>>) -> Self {
        let answer = answer.into();
        Self::start(move |_, mut stream| {
            let answer = answer.clone();
            async move {
                read_request(&mut stream).await;
                let _ = stream.write_all(&answer).await;
            }
        })
        .await
    }

    /// Reads one request, writes these bytes and then hangs with the connection open.
    async fn then_hang(answer: &'static str) -> Self {
        Self::start(move |_, mut stream| async move {
            read_request(&mut stream).await;
            let _ = stream.write_all(answer.as_bytes()).await;
            pending::<()>().await;
        })
        .await
    }

    fn url(&self, scheme: &str, host: &str) -> String {
        format!("{scheme}://{host}:{}/hook?a=b", self.address.port())
    }

    fn connections(&self) -> usize {
        self.connection_count.load(Ordering::SeqCst)
    }
}

/// Reads a head and the body it announces; `None` when the peer is gone.
async fn read_request(stream: &mut TcpStream) -> Option<String> {
    let mut text = String::new();
    let mut buffer = [0; 4096];
    loop {
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            if body.len() >= length.map_or(0, |length| length.parse().expect("a length")) {
                return Some(text);
            }
        }
        let count = stream.read(&mut buffer).await.ok().filter(|count| *count > 0)?;
        text.push_str(std::str::from_utf8(&buffer[..count]).expect("the tests send text"));
    }
}

fn guard(allow: &str) -> Guard {
    Guard::parse(allow).expect("the list is valid")
}

fn target(url: &str) -> TargetUrl {
    guard("0.0.0.0/0,::/0").check_url(url).expect("the URL is valid")
}

fn post(url: &str, timeout: Duration) -> OutboundRequest {
    OutboundRequest {
        method: Method::POST,
        url: target(url),
        headers: vec![(HeaderName::from_static("x-test"), HeaderValue::from_static("1"))],
        body: Bytes::from_static(b"hello"),
        timeout,
        body_max: BODY_MAX,
    }
}

fn client(allow: &str, names: &[&[&str]]) -> Client {
    Client::new(guard(allow), Names::scripted(names), b"").expect("the client can be set up")
}

fn local_client() -> Client {
    client("127.0.0.0/8", &[])
}

async fn send(receiver: &Receiver, timeout: Duration) -> Result<Answer, SendError> {
    local_client().send(post(&receiver.url("http", "127.0.0.1"), timeout)).await
}

#[tokio::test]
async fn a_request_arrives_whole_and_the_answer_comes_back_whole() {
    let seen = Arc::new(Mutex::new(String::new()));
    let sink = Arc::clone(&seen);
    let receiver = Receiver::start(move |_, mut stream| {
        let sink = Arc::clone(&sink);
        async move {
            let request = read_request(&mut stream).await.expect("a request");
            *sink.lock().expect("not poisoned") = request;
            let answer = "HTTP/1.1 429 Slow\r\nretry-after: 7\r\ncontent-length: 5\r\n\r\nlater";
            stream.write_all(answer.as_bytes()).await.expect("the client reads");
        }
    })
    .await;
    let answer = send(&receiver, ENOUGH).await.expect("an answer");
    assert_eq!((answer.status, &answer.body[..]), (429, &b"later"[..]));
    assert_eq!(answer.headers["retry-after"], "7");
    assert_eq!((answer.truncated, answer.body_error), (false, None));
    let host = receiver.address;
    let wanted =
        format!("POST /hook?a=b HTTP/1.1\r\nx-test: 1\r\nhost: {host}\r\ncontent-length: 5\r\n\r\nhello");
    assert_eq!(*seen.lock().expect("not poisoned"), wanted);
}

#[tokio::test]
async fn connections_are_kept_and_shared_by_clones() {
    let receiver = Receiver::always(OK).await;
    let client = local_client();
    for _ in 0..5 {
        let request = post(&receiver.url("http", "127.0.0.1"), ENOUGH);
        assert_eq!(client.clone().send(request).await.expect("an answer").status, 200);
    }
    assert_eq!(receiver.connections(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_requests_at_once_are_all_answered() {
    let receiver = Receiver::always(OK).await;
    let client = local_client();
    let sends = (0..500).map(|_| {
        let (client, request) = (client.clone(), post(&receiver.url("http", "127.0.0.1"), ENOUGH));
        tokio::spawn(async move { client.send(request).await.map(|answer| answer.status) })
    });
    for sent in sends.collect::<Vec<_>>() {
        assert_eq!(sent.await.expect("no panic"), Ok(200));
    }
}

#[tokio::test]
async fn a_dead_kept_connection_is_replaced_at_once_even_for_posts() {
    // The first two connections answer once, swallow the next request and close: what a receiver looks like that closes
    // idle connections at the wrong moment. The second try must not be given the other dead one.
    let receiver = Receiver::start(|number, mut stream| async move {
        while read_request(&mut stream).await.is_some() {
            stream.write_all(OK.as_bytes()).await.expect("the client reads");
            if number < 2 {
                read_request(&mut stream).await;
                return;
            }
        }
    })
    .await;
    let client = local_client();
    let request = || client.send(post(&receiver.url("http", "127.0.0.1"), ENOUGH));
    let (first, second) = tokio::join!(request(), request());
    assert_eq!((first.expect("an answer").status, second.expect("an answer").status), (200, 200));
    assert_eq!(receiver.connections(), 2);
    assert_eq!(request().await.expect("the second try is answered").status, 200);
    assert_eq!(receiver.connections(), 3);
}

#[tokio::test]
async fn only_silence_on_a_kept_connection_earns_a_second_try() {
    let fresh = Receiver::once("").await;
    let error = send(&fresh, ENOUGH).await.expect_err("no answer");
    assert_eq!((error.class(), fresh.connections()), ("PROTOCOL_ERROR", 1));

    let partial = Receiver::start(|_, mut stream| async move {
        read_request(&mut stream).await;
        stream.write_all(OK.as_bytes()).await.expect("the client reads");
        read_request(&mut stream).await;
        stream.write_all(b"HTTP/1.1 20").await.expect("the client reads");
    })
    .await;
    let client = local_client();
    let request = || client.send(post(&partial.url("http", "127.0.0.1"), ENOUGH));
    assert_eq!(request().await.expect("an answer").status, 200);
    let error = request().await.expect_err("half an answer");
    assert_eq!((error.class(), partial.connections()), ("PROTOCOL_ERROR", 1));
}

#[tokio::test]
async fn the_second_try_keeps_the_deadline() {
    let receiver = Receiver::start(|number, mut stream| async move {
        read_request(&mut stream).await;
        if number > 0 {
            pending::<()>().await;
        }
        stream.write_all(OK.as_bytes()).await.expect("the client reads");
        read_request(&mut stream).await;
    })
    .await;
    let client = local_client();
    let url = receiver.url("http", "127.0.0.1");
    assert_eq!(client.send(post(&url, ENOUGH)).await.expect("an answer").status, 200);
    let second = client.send(post(&url, SHORT)).await;
    assert_eq!(second.expect_err("a hang"), SendError::Timeout(Phase::ResponseHead));
    assert_eq!(receiver.connections(), 2);
}

#[tokio::test]
async fn a_hang_is_reported_with_its_phase() {
    for answer in ["", "HTTP/1.1 200 OK\r\ncontent-le", "HTTP/1.1 100 Continue\r\n\r\n"] {
        let receiver = Receiver::then_hang(answer).await;
        let error = send(&receiver, SHORT).await.expect_err("a hang");
        assert_eq!(
            (&error, error.class()),
            (&SendError::Timeout(Phase::ResponseHead), "TIMEOUT"),
            "{answer}"
        );
    }

    let silent = Receiver::start(|_, stream| async move {
        pending::<()>().await;
        drop(stream);
    })
    .await;
    let tls = local_client().send(post(&silent.url("https", "127.0.0.1"), SHORT)).await;
    assert_eq!(tls.expect_err("a hang"), SendError::Timeout(Phase::Tls));

    let stuck =
        Client::new(guard("127.0.0.0/8"), Arc::new(NeverAnswers), b"").expect("the client can be set up");
    let dns = stuck.send(post("http://stuck.test/", SHORT)).await;
    assert_eq!(dns.expect_err("a hang"), SendError::Timeout(Phase::Dns));
}

/// A listener on 127.0.0.1 whose queue is full, so that connecting hangs, and what fills it.
async fn full_listener() -> (TcpListener, Vec<TcpStream>) {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind("127.0.0.1:0".parse().expect("an address")).expect("loopback can be bound");
    let listener = socket.listen(1).expect("a bound socket can listen");
    let address = listener.local_addr().expect("a bound listener has an address");
    let mut waiting = Vec::new();
    while let Ok(connected) = tokio::time::timeout(SHORT, TcpStream::connect(address)).await {
        waiting.push(connected.expect("loopback can be reached"));
    }
    (listener, waiting)
}

#[tokio::test]
async fn an_address_that_swallows_packets_leaves_time_for_the_next_one() {
    let (full, _waiting) = full_listener().await;
    let port = full.local_addr().expect("a bound listener has an address").port();
    let alone = local_client().send(post(&format!("http://127.0.0.1:{port}/"), SHORT)).await;
    assert_eq!(alone.expect_err("a hang"), SendError::Timeout(Phase::Connect));

    let listener = TcpListener::bind(("127.0.0.2", port)).await.expect("loopback can be bound");
    let healthy = Receiver::start_on(listener, |_, mut stream| async move {
        read_request(&mut stream).await;
        stream.write_all(OK.as_bytes()).await.expect("the client reads");
    });
    let names: &[&[&str]] = &[&["127.0.0.1", "127.0.0.2"]];
    let request = post(&healthy.url("http", "two.test"), Duration::from_millis(600));
    let answer = client("127.0.0.0/8", names).send(request).await;
    assert_eq!(answer.expect("the second address answers").status, 200);
}

#[tokio::test]
async fn a_bad_body_never_changes_the_status() {
    let head = "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\npart";
    let hanging = Receiver::then_hang(head).await;
    let answer = send(&hanging, SHORT).await.expect("the head came");
    assert_eq!((answer.status, &answer.body[..]), (200, &b"part"[..]));
    assert_eq!(answer.body_error, Some(BodyError::Timeout));
    assert!(answer.elapsed >= SHORT && !answer.truncated);

    let chunked = "HTTP/1.1 201 Created\r\ntransfer-encoding: chunked\r\n\r\n";
    for (text, status, body) in [
        (head.to_owned(), 200, "part"),
        (format!("{chunked}4\r\npart\r\n"), 201, "part"),
        (format!("{chunked}nonsense\r\n"), 201, ""),
        (format!("{chunked}ffffffffffffffffffff\r\n"), 201, ""),
    ] {
        let broken = Receiver::once(text.clone()).await;
        let answer = send(&broken, ENOUGH).await.expect("the head came");
        assert_eq!((answer.status, &answer.body[..]), (status, body.as_bytes()), "{text}");
        assert!(matches!(answer.body_error, Some(BodyError::Broken(_))), "{text}: {answer:?}");
    }
}

#[tokio::test]
async fn an_endless_body_is_read_to_the_limit_and_its_connection_dropped() {
    let written = Arc::new(AtomicUsize::new(0));
    let (done, mut stopped) = tokio::sync::mpsc::unbounded_channel();
    let total = Arc::clone(&written);
    let receiver = Receiver::start(move |number, mut stream| {
        let (total, done) = (Arc::clone(&total), done.clone());
        async move {
            read_request(&mut stream).await;
            let head = if number == 0 {
                "HTTP/1.1 200 OK\r\ncontent-length: 300000000\r\n\r\n"
            } else {
                "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
            };
            let piece = [&b"2000\r\n"[..], &[b'x'; 8192], b"\r\n"].concat();
            let piece = if number == 0 { &[b'x'; 8192] } else { &piece[..] };
            stream.write_all(head.as_bytes()).await.expect("the client reads");
            while stream.write_all(piece).await.is_ok() {
                total.fetch_add(piece.len(), Ordering::SeqCst);
            }
            done.send(()).expect("the test waits");
        }
    })
    .await;
    let client = local_client();
    for connections in 1..=2 {
        let request = post(&receiver.url("http", "127.0.0.1"), ENOUGH);
        let answer = client.send(request).await.expect("the head came");
        assert_eq!((answer.status, answer.body.len(), answer.truncated), (200, BODY_MAX, true));
        assert_eq!(answer.body_error, None);
        stopped.recv().await.expect("the receiver notices the drop");
        assert_eq!(receiver.connections(), connections);
    }
    assert!(written.load(Ordering::SeqCst) < 50_000_000, "the rest is not read");
}

#[tokio::test]
async fn a_body_of_exactly_the_limit_is_whole() {
    for (length, kept, is_truncated) in [(BODY_MAX, BODY_MAX, false), (BODY_MAX + 1, BODY_MAX, true)] {
        let text = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{}", "x".repeat(length));
        let answer = send(&Receiver::once(text).await, ENOUGH).await.expect("an answer");
        assert_eq!((answer.body.len(), answer.truncated), (kept, is_truncated));
    }
}

#[tokio::test]
async fn what_is_not_an_http_answer_is_a_protocol_error() {
    let long_line = format!("HTTP/1.1 200 OK\r\nx: {}\r\n\r\n", "y".repeat(200_000));
    let many_lines = format!("HTTP/1.1 200 OK\r\n{}\r\n", "a: b\r\n".repeat(1000));
    for (class, answer) in [
        ("nothing", b"".to_vec()),
        ("garbage", b"\x16\x03\x01\x00\x00\xff\xfe garbage\r\n\r\n".to_vec()),
        ("ssh", b"SSH-2.0-OpenSSH_9.9\r\n".to_vec()),
        ("no status line", b"<html>hello</html>\r\n\r\n".to_vec()),
        ("half a head", b"HTTP/1.1 200 OK\r\ncontent-".to_vec()),
        ("bad status", b"HTTP/1.1 20x OK\r\n\r\n".to_vec()),
        ("http/2", b"HTTP/2 200\r\n\r\n".to_vec()),
        ("two lengths", b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab".to_vec()),
        ("endless header", long_line.into_bytes()),
        ("too many headers", many_lines.into_bytes()),
    ] {
        let error = send(&Receiver::once(answer).await, ENOUGH).await.expect_err(class);
        assert_eq!(error.class(), "PROTOCOL_ERROR", "{class}: {error}");
    }
    let resetting = Receiver::start(|_, mut stream| async move {
        read_request(&mut stream).await;
        stream.set_zero_linger().expect("a connected socket");
    })
    .await;
    let error = send(&resetting, ENOUGH).await.expect_err("a reset");
    assert_eq!((error.class(), resetting.connections()), ("PROTOCOL_ERROR", 1), "{error}");
}

#[tokio::test]
async fn interim_and_bodyless_answers_are_understood() {
    for (answer, status, body) in [
        (
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\nx",
            200,
            "x",
        ),
        ("HTTP/1.1 204 No Content\r\ncontent-length: 4\r\n\r\nbody", 204, ""),
        ("HTTP/1.1 304 Not Modified\r\n\r\n", 304, ""),
        ("HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\nraw", 101, ""),
        ("HTTP/1.0 200 OK\r\n\r\nuntil the end", 200, "until the end"),
    ] {
        let got = send(&Receiver::once(answer).await, ENOUGH).await.expect(answer);
        assert_eq!((got.status, &got.body[..], got.body_error), (status, body.as_bytes(), None), "{answer}");
    }
}

#[tokio::test]
async fn redirects_are_answers_and_are_not_followed() {
    let inner = Receiver::always(OK).await;
    let location = inner.url("http", "127.0.0.1");
    let text = format!("HTTP/1.1 307 Elsewhere\r\nlocation: {location}\r\ncontent-length: 0\r\n\r\n");
    let answer = send(&Receiver::once(text).await, ENOUGH).await.expect("an answer");
    assert_eq!((answer.status, inner.connections()), (307, 0));
    assert_eq!(answer.headers["location"], location.as_str());
}

#[tokio::test]
async fn a_name_that_changes_its_mind_is_refused_when_the_connection_is_made() {
    // 127.0.0.2 stands for the public address, so that nothing leaves loopback; 127.0.0.1 is then the forbidden inside.
    let outside = TcpListener::bind("127.0.0.2:0").await.expect("loopback can be bound");
    let port = outside.local_addr().expect("a bound listener has an address").port();
    let outside = Receiver::start_on(outside, |_, mut stream| async move {
        read_request(&mut stream).await;
        let closing = "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
        stream.write_all(closing.as_bytes()).await.expect("the client reads");
    });
    let inside = TcpListener::bind(("127.0.0.1", port)).await.expect("loopback can be bound");
    let inside = Receiver::start_on(inside, |_, stream| async move { drop(stream) });

    let client = client("127.0.0.2/32", &[&["127.0.0.2"], &["127.0.0.1"]]);
    let url = outside.url("http", "rebinding.test");
    assert_eq!(client.send(post(&url, ENOUGH)).await.expect("an answer").status, 200);
    let error = client.send(post(&url, ENOUGH)).await.expect_err("the inside is forbidden");
    assert_eq!(error, SendError::ForbiddenAddress([127, 0, 0, 1].into()));
    assert_eq!((error.class(), inside.connections()), ("FORBIDDEN_ADDRESS", 0));
}

#[tokio::test]
async fn forbidden_addresses_are_never_dialled_however_they_are_written() {
    let receiver = Receiver::always(OK).await;
    for (found, judged) in [
        ("127.0.0.1", "127.0.0.1"),
        ("::ffff:127.0.0.1", "127.0.0.1"),
        ("::ffff:a9fe:a9fe", "169.254.169.254"),
        ("::127.0.0.1", "::7f00:1"),
        ("64:ff9b::127.0.0.1", "64:ff9b::7f00:1"),
        ("64:ff9b:1::127.0.0.1", "64:ff9b:1::7f00:1"),
        ("2002:7f00:1::", "2002:7f00:1::"),
        ("2001:0:7f00:1::", "2001:0:7f00:1::"),
        ("0.0.0.0", "0.0.0.0"),
        ("::", "::"),
        ("::1", "::1"),
        ("fd00:ec2::254", "fd00:ec2::254"),
        ("10.0.0.1", "10.0.0.1"),
    ] {
        let url = receiver.url("https", "inside.test");
        let error = client("", &[&[found]]).send(post(&url, ENOUGH)).await.expect_err(found);
        assert_eq!(error, SendError::ForbiddenAddress(judged.parse().expect("an address")), "{found}");
    }
    // Literal hosts are judged again as well: the URL may have been saved under another allow list.
    for host in ["127.0.0.1", "[::ffff:127.0.0.1]", "[::1]", "2130706433"] {
        let error = client("", &[]).send(post(&receiver.url("https", host), ENOUGH)).await;
        assert_eq!(error.expect_err(host).class(), "FORBIDDEN_ADDRESS", "{host}");
    }
    assert_eq!(receiver.connections(), 0);
}

#[tokio::test]
async fn plain_http_goes_to_allowed_networks_only() {
    let client = client("127.0.0.2/32", &[&["8.8.8.8", "::ffff:1.1.1.1"]]);
    let error = client.send(post("http://public.test/", ENOUGH)).await.expect_err("not over http");
    assert_eq!((&error, error.class()), (&SendError::PlainHttp([8, 8, 8, 8].into()), "FORBIDDEN_ADDRESS"));
}

#[tokio::test]
async fn among_several_addresses_only_the_permitted_are_tried_in_order() {
    let receiver = Receiver::always(OK).await;
    // Nothing listens on 127.0.0.3; 10.0.0.1 and ::1 must not be tried at all.
    let client = client("127.0.0.0/8", &[&["10.0.0.1", "::1", "127.0.0.3", "::ffff:127.0.0.1"]]);
    let answer = client.send(post(&receiver.url("http", "several.test"), ENOUGH)).await;
    assert_eq!(answer.expect("the last address answers").status, 200);
}

#[tokio::test]
async fn names_without_addresses_and_closed_ports_have_their_own_classes() {
    let unknown = local_client().send(post("http://unknown.test/", ENOUGH)).await.expect_err("no such name");
    assert_eq!(unknown.class(), "DNS_FAILED");
    assert_eq!(unknown.to_string(), "the name unknown.test could not be looked up: unknown.test is unknown");
    let empty = client("127.0.0.0/8", &[&[]]).send(post("http://empty.test/", ENOUGH)).await;
    assert_eq!(empty.expect_err("no address").class(), "DNS_FAILED");

    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback can be bound");
    let address = listener.local_addr().expect("a bound listener has an address");
    drop(listener);
    let refused = local_client().send(post(&format!("http://{address}/"), ENOUGH)).await.expect_err("closed");
    assert_eq!(refused.class(), "CONNECT_FAILED");
    assert_eq!(refused.to_string(), format!("no connection to {address}: the connection was refused"));
}

#[tokio::test]
async fn requests_that_would_break_the_framing_are_not_sent() {
    let receiver = Receiver::always(OK).await;
    for name in ["host", "content-length", "transfer-encoding", "connection", "upgrade"] {
        let mut request = post(&receiver.url("http", "127.0.0.1"), ENOUGH);
        request.headers.push((HeaderName::from_static(name), HeaderValue::from_static("1")));
        let error = local_client().send(request).await.expect_err(name);
        assert!(matches!(error, SendError::InvalidRequest(_)), "{name}: {error}");
    }
    let mut tunnel = post(&receiver.url("http", "127.0.0.1"), ENOUGH);
    tunnel.method = Method::CONNECT;
    assert_eq!(local_client().send(tunnel).await.expect_err("no tunnels").class(), "INVALID_URL");
    assert_eq!(receiver.connections(), 0);
}

// A root and a certificate for hooks.test and 127.0.0.1, valid from 2020 to 2120, made for these tests alone.
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
pub const KEY: &str = "-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgi26M934fBu8MQc6N
XU6mHPvPv7aL05n9DAbFWIIsoROhRANCAARSC2jwclQjWlW+7lFl9C1CcQhXAwZZ
L+E47CTye3MqxrbQ+T1DARVbfi8YWFzlEgPwL6zFJN+31Sn9qhRHpQ5O
-----END PRIVATE KEY-----";

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
    let trusting = || {
        let names = Names::scripted(&[&["127.0.0.1"]]);
        Client::new(guard("127.0.0.0/8"), names, ROOT.as_bytes()).expect("the client can be set up")
    };
    for host in ["hooks.test", "127.0.0.1"] {
        let answer = trusting().send(post(&format!("https://{host}:{port}/"), ENOUGH)).await.expect(host);
        assert_eq!((answer.status, &answer.body[..]), (200, &b"ok"[..]), "{host}");
    }
    let wrong_name = trusting().send(post(&format!("https://other.test:{port}/"), ENOUGH)).await;
    assert_eq!(wrong_name.expect_err("the wrong name").class(), "TLS_FAILED");
    let untrusting = client("127.0.0.0/8", &[&["127.0.0.1"]]);
    let unknown_root = untrusting.send(post(&format!("https://hooks.test:{port}/"), ENOUGH)).await;
    assert_eq!(unknown_root.expect_err("an unknown root").class(), "TLS_FAILED");

    for answer in ["HTTP/1.1 400 Bad Request\r\n\r\n", ""] {
        let plain = Receiver::start(move |_, mut stream| async move {
            let _ = stream.read(&mut [0; 4096]).await;
            let _ = stream.write_all(answer.as_bytes()).await;
        })
        .await;
        let error = trusting().send(post(&plain.url("https", "127.0.0.1"), ENOUGH)).await;
        assert_eq!(error.expect_err("no TLS").class(), "TLS_FAILED", "{answer}");
    }
}
