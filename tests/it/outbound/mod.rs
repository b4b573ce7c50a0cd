//! Requests to receivers that hang, lie, break off or should never have been called.
//!
//! Receivers are real listeners on loopback, scripted per connection. A hang is met with a short deadline of the
//! client itself, so nothing here sleeps; nothing leaves loopback, because every address outside it is refused before
//! it is dialled, and that is what those tests assert.

mod addresses;
mod answers;
mod connections;
mod guard;
mod http2;
mod identities;
mod proxies;
mod timings;
mod tls;

use std::collections::VecDeque;
use std::future::pending;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use followpoints::clock::ManualClock;
use followpoints::outbound::{
    Answer, BoxFuture, Client, Guard, OutboundRequest, Resolve, SendError, Setup, TargetUrl,
};
use hyper::Method;
use hyper::header::{HeaderName, HeaderValue};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::support::START;

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
    guard("0.0.0.0/1,128.0.0.0/1,::/1,8000::/1").check_url(url).expect("the URL is valid")
}

fn post(url: &str, timeout: Duration) -> OutboundRequest {
    OutboundRequest {
        method: Method::POST,
        url: target(url),
        headers: vec![(HeaderName::from_static("x-test"), HeaderValue::from_static("1"))],
        body: Bytes::from_static(b"hello"),
        timeout,
        body_max: BODY_MAX,
        identity: None,
    }
}

fn client(allow: &str, names: &[&[&str]]) -> Client {
    clocked_client(allow, names).0
}

/// A client and the clock by which it remembers names.
fn clocked_client(allow: &str, names: &[&[&str]]) -> (Client, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::new(START));
    let client = Client::new(Setup { clock: clock.clone(), ..setup(allow, Names::scripted(names)) });
    (client.expect("the client can be set up"), clock)
}

fn setup(allow: &str, resolver: Arc<dyn Resolve>) -> Setup<'static> {
    Setup {
        guard: guard(allow),
        resolver,
        clock: Arc::new(ManualClock::new(START)),
        extra_roots: b"",
        proxy: None,
    }
}

fn local_client() -> Client {
    client("127.0.0.0/8", &[])
}

async fn ask(client: &Client, request: OutboundRequest) -> Result<Answer, SendError> {
    client.send(request).await.result
}

async fn send(receiver: &Receiver, timeout: Duration) -> Result<Answer, SendError> {
    ask(&local_client(), post(&receiver.url("http", "127.0.0.1"), timeout)).await
}
