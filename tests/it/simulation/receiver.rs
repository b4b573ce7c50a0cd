//! The receivers of a simulation: one server, a path for each subscription, a mood for each receiver.

use std::sync::{Arc, Mutex};

use poem::http::StatusCode;
use poem::listener::{Acceptor as _, Listener as _, TcpListener};
use poem::{Endpoint, Request, Response};

use super::outbox::Mood;

/// How many receivers there are.
pub const RECEIVERS: usize = 3;

/// A request that came: site and subscription by number, and its body.
pub struct Arrival {
    pub site: usize,
    pub subscription: usize,
    pub token: String,
}

struct State {
    moods: [Mood; RECEIVERS],
    arrivals: Vec<Arrival>,
}

#[derive(Clone)]
pub struct Receivers {
    /// `http://127.0.0.1:port`.
    pub base: String,
    state: Arc<Mutex<State>>,
}

impl Receivers {
    pub async fn start() -> Self {
        let acceptor = TcpListener::bind("127.0.0.1:0").into_acceptor().await.unwrap();
        let address = *acceptor.local_addr()[0].as_socket_addr().unwrap();
        let state = State { moods: [Mood::Accepts(200); RECEIVERS], arrivals: Vec::new() };
        let receivers = Self { base: format!("http://{address}"), state: Arc::new(Mutex::new(state)) };
        tokio::spawn(poem::Server::new_with_acceptor(acceptor).run(receivers.clone()));
        receivers
    }

    pub fn url(&self, receiver: usize, site: usize, subscription: usize) -> String {
        format!("{}/{receiver}/{site}/{subscription}", self.base)
    }

    pub fn moods(&self) -> [Mood; RECEIVERS] {
        self.state.lock().unwrap().moods
    }

    pub fn set_mood(&self, receiver: usize, mood: Mood) {
        self.state.lock().unwrap().moods[receiver] = mood;
    }

    /// What came since the last call.
    pub fn take(&self) -> Vec<Arrival> {
        std::mem::take(&mut self.state.lock().unwrap().arrivals)
    }
}

impl Endpoint for Receivers {
    type Output = Response;

    async fn call(&self, mut request: Request) -> poem::Result<Response> {
        let token = request.take_body().into_string().await?;
        let numbers: Vec<usize> =
            request.uri().path().split('/').skip(1).map(|number| number.parse().unwrap()).collect();
        let mood = {
            let mut state = self.state.lock().unwrap();
            state.arrivals.push(Arrival { site: numbers[1], subscription: numbers[2], token });
            state.moods[numbers[0]]
        };
        let (status, retry_after) = match mood {
            Mood::Accepts(status) => (status, 0),
            Mood::Fails(status, seconds) => (status, seconds),
            Mood::Gone => (410, 0),
        };
        let mut response = Response::builder().status(StatusCode::from_u16(status).unwrap());
        if retry_after > 0 {
            response = response.header("retry-after", retry_after.to_string());
        }
        Ok(response.finish())
    }
}
