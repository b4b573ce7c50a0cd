//! Names with several addresses, some of which are dead.

use std::time::Duration;

use followpoints::outbound::{Phase, SendError};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use super::{ENOUGH, OK, Receiver, SHORT, ask, client, local_client, post, read_request};

/// A listener on 127.0.0.1 whose queue is full, so that connecting hangs, and what fills it.
async fn full_listener() -> (TcpListener, Vec<TcpStream>) {
    let listener = short_queue();
    let waiting = fill(&listener).await;
    (listener, waiting)
}

fn short_queue() -> TcpListener {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind("127.0.0.1:0".parse().expect("an address")).expect("loopback can be bound");
    socket.listen(1).expect("a bound socket can listen")
}

async fn fill(listener: &TcpListener) -> Vec<TcpStream> {
    let address = listener.local_addr().expect("a bound listener has an address");
    let mut waiting = Vec::new();
    while let Ok(connected) = tokio::time::timeout(SHORT, TcpStream::connect(address)).await {
        waiting.push(connected.expect("loopback can be reached"));
    }
    waiting
}

#[tokio::test]
async fn a_connection_that_is_given_back_serves_a_request_whose_own_does_not_open() {
    let listener = short_queue();
    let url = format!("http://{}/", listener.local_addr().expect("a bound listener has an address"));
    let client = local_client();
    let ask_for = |url: &str| {
        let (client, request) = (client.clone(), post(url, ENOUGH));
        tokio::spawn(async move { ask(&client, request).await.map(|answer| answer.status) })
    };
    let first = ask_for(&url);
    let (mut stream, _) = listener.accept().await.expect("the client connects");
    read_request(&mut stream).await.expect("a request");
    let _waiting = fill(&listener).await;
    let second = ask_for(&url);
    tokio::task::yield_now().await;
    stream.write_all(OK.as_bytes()).await.expect("the client reads");
    assert_eq!(first.await.expect("no panic"), Ok(200));
    read_request(&mut stream).await.expect("the second request comes here too");
    stream.write_all(OK.as_bytes()).await.expect("the client reads");
    assert_eq!(second.await.expect("no panic"), Ok(200));
}

#[tokio::test]
async fn an_address_that_swallows_packets_leaves_time_for_the_next_one() {
    let (full, _waiting) = full_listener().await;
    let port = full.local_addr().expect("a bound listener has an address").port();
    let alone = ask(&local_client(), post(&format!("http://127.0.0.1:{port}/"), SHORT)).await;
    assert_eq!(alone.expect_err("a hang"), SendError::Timeout(Phase::Connect));

    let listener = TcpListener::bind(("127.0.0.2", port)).await.expect("loopback can be bound");
    let healthy = Receiver::start_on(listener, |_, mut stream| async move {
        read_request(&mut stream).await;
        stream.write_all(OK.as_bytes()).await.expect("the client reads");
    });
    let names: &[&[&str]] = &[&["127.0.0.1", "127.0.0.2"]];
    let request = post(&healthy.url("http", "two.test"), Duration::from_millis(600));
    let answer = ask(&client("127.0.0.0/8", names), request).await;
    assert_eq!(answer.expect("the second address answers").status, 200);
}

#[tokio::test]
async fn a_dead_address_costs_a_moment_and_not_the_deadline() {
    let (full, _waiting) = full_listener().await;
    let port = full.local_addr().expect("a bound listener has an address").port();
    let listener = TcpListener::bind(("::1", port)).await.expect("loopback can be bound");
    let healthy = Receiver::start_on(listener, |_, mut stream| async move {
        read_request(&mut stream).await;
        stream.write_all(OK.as_bytes()).await.expect("the client reads");
    });
    let client = client("127.0.0.0/8,::1", &[&["127.0.0.1", "::1"]]);
    let sent = client.send(post(&healthy.url("http", "both.test"), ENOUGH)).await;
    assert_eq!(sent.result.expect("the second address answers").status, 200);
    let connect = sent.timings.connect.expect("a new connection");
    assert!(connect >= Duration::from_millis(250) && connect < Duration::from_secs(5), "{connect:?}");
}
