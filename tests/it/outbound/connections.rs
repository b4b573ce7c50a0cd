//! Connections that are kept, shared, found dead and replaced.

use std::future::pending;

use followpoints::outbound::{Phase, SendError};
use tokio::io::AsyncWriteExt;

use super::{ENOUGH, OK, Receiver, SHORT, ask, local_client, post, read_request, send};

#[tokio::test]
async fn connections_are_kept_and_shared_by_clones() {
    let receiver = Receiver::always(OK).await;
    let client = local_client();
    for _ in 0..5 {
        let request = post(&receiver.url("http", "127.0.0.1"), ENOUGH);
        assert_eq!(ask(&client.clone(), request).await.expect("an answer").status, 200);
    }
    assert_eq!(receiver.connections(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_requests_at_once_are_all_answered() {
    let receiver = Receiver::always(OK).await;
    let client = local_client();
    let sends = (0..500).map(|_| {
        let (client, request) = (client.clone(), post(&receiver.url("http", "127.0.0.1"), ENOUGH));
        tokio::spawn(async move { ask(&client, request).await.map(|answer| answer.status) })
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
    let request = || ask(&client, post(&receiver.url("http", "127.0.0.1"), ENOUGH));
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
    let request = || ask(&client, post(&partial.url("http", "127.0.0.1"), ENOUGH));
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
    assert_eq!(ask(&client, post(&url, ENOUGH)).await.expect("an answer").status, 200);
    let second = ask(&client, post(&url, SHORT)).await;
    assert_eq!(second.expect_err("a hang"), SendError::Timeout(Phase::ResponseHead));
    assert_eq!(receiver.connections(), 2);
}
