//! A webhook receiver on a free port that records what comes and answers as it is told.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use poem::http::{HeaderMap, StatusCode};
use poem::listener::{Acceptor as _, Listener as _, TcpListener};
use poem::{Endpoint, Request, Response};
use tokio::sync::{Notify, Semaphore};

/// One request that came.
#[derive(Debug, Clone)]
pub struct Received {
    pub path: String,
    pub headers: HeaderMap,
    pub body: String,
}

#[derive(Default)]
struct State {
    received: Vec<Received>,
    answers: VecDeque<Reply>,
}

/// How to answer one request.
#[derive(Debug, Clone)]
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(&'static str, String)>,
    pub body: Vec<u8>,
    pub hangs: bool,
    gate: Option<Gate>,
}

/// Holds answers back until it is opened.
#[derive(Debug, Clone)]
pub struct Gate(Arc<Semaphore>);

impl Gate {
    pub fn closed() -> Self {
        Self(Arc::new(Semaphore::new(0)))
    }

    /// Lets every answer through from now on.
    pub fn open(&self) {
        self.0.close();
    }
}

impl Reply {
    pub fn status(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: Vec::new(), hangs: false, gate: None }
    }

    pub fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    /// Answers only when `gate` is open.
    pub fn behind(mut self, gate: &Gate) -> Self {
        self.gate = Some(gate.clone());
        self
    }

    /// Accepts the request and never answers.
    pub fn hang() -> Self {
        Self { hangs: true, ..Self::status(200) }
    }
}

#[derive(Clone)]
pub struct Receiver {
    pub url: String,
    state: Arc<Mutex<State>>,
    came: Arc<Notify>,
}

impl Receiver {
    /// A receiver that answers 200 until told otherwise.
    pub async fn start() -> Self {
        let acceptor = TcpListener::bind("127.0.0.1:0").into_acceptor().await.unwrap();
        let address = *acceptor.local_addr()[0].as_socket_addr().unwrap();
        let receiver =
            Self { url: format!("http://{address}/hook"), state: Arc::default(), came: Arc::default() };
        let endpoint = ReceiverEndpoint(receiver.clone());
        tokio::spawn(poem::Server::new_with_acceptor(acceptor).run(endpoint));
        receiver
    }

    /// Answers the next requests so, then 200 again.
    pub fn answer(&self, replies: impl IntoIterator<Item = Reply>) {
        self.state.lock().unwrap().answers.extend(replies);
    }

    /// Answers 200 from now on, whatever it was told before.
    pub fn recover(&self) {
        self.state.lock().unwrap().answers.clear();
    }

    /// Everything that came so far.
    pub fn received(&self) -> Vec<Received> {
        self.state.lock().unwrap().received.clone()
    }

    /// How many requests came so far.
    pub fn count(&self) -> usize {
        self.state.lock().unwrap().received.len()
    }

    /// The bodies that came so far.
    pub fn bodies(&self) -> Vec<String> {
        self.state.lock().unwrap().received.iter().map(|request| request.body.clone()).collect()
    }

    /// Waits until `count` requests have come, for a few seconds at the most.
    pub async fn wait_for(&self, count: usize) -> Vec<Received> {
        let wait = async {
            loop {
                let came = self.came.notified();
                if self.count() >= count {
                    return;
                }
                came.await;
            }
        };
        let waited = tokio::time::timeout(Duration::from_secs(20), wait).await;
        let received = self.received();
        assert!(waited.is_ok(), "{} of {count} requests came", received.len());
        received
    }
}

struct ReceiverEndpoint(Receiver);

impl Endpoint for ReceiverEndpoint {
    type Output = Response;

    async fn call(&self, mut request: Request) -> poem::Result<Response> {
        let body = request.take_body().into_string().await?;
        let path = request.uri().path().to_owned();
        let reply = {
            let mut state = self.0.state.lock().unwrap();
            state.received.push(Received { path, headers: request.headers().clone(), body });
            state.answers.pop_front().unwrap_or_else(|| Reply::status(200))
        };
        self.0.came.notify_waiters();
        if reply.hangs {
            std::future::pending::<()>().await;
        }
        if let Some(gate) = reply.gate {
            // A gate opens by closing its semaphore, which has no permits.
            let _ = gate.0.acquire().await;
        }
        let mut response = Response::builder().status(StatusCode::from_u16(reply.status).unwrap());
        for (name, value) in reply.headers {
            response = response.header(name, value);
        }
        Ok(response.body(reply.body))
    }
}
