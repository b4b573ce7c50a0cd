//! How long the parts of a request took, and where it stopped.

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use followpoints::outbound::{Client, Phase, SendError, Timings};

use tokio::io::AsyncWriteExt;

use super::{
    ENOUGH, NeverAnswers, OK, Receiver, SHORT, ask, client, local_client, post, read_request, send, setup,
};

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
    let tls = ask(&local_client(), post(&silent.url("https", "127.0.0.1"), SHORT)).await;
    assert_eq!(tls.expect_err("a hang"), SendError::Timeout(Phase::Tls));

    let stuck = Client::new(setup("127.0.0.0/8", Arc::new(NeverAnswers))).expect("the client can be set up");
    let dns = ask(&stuck, post("http://stuck.test/", SHORT)).await;
    assert_eq!(dns.expect_err("a hang"), SendError::Timeout(Phase::Dns));
}

/// Which parts have a time: DNS, connect, TLS, first byte.
fn parts(timings: Timings) -> [bool; 4] {
    [timings.dns, timings.connect, timings.tls, timings.first_byte].map(|part| part.is_some())
}

#[tokio::test]
async fn a_new_connection_has_every_part_and_a_kept_one_only_the_answer() {
    let receiver = Receiver::always(OK).await;
    let client = client("127.0.0.0/8", &[&["127.0.0.1"]]);
    let url = receiver.url("http", "hooks.test");
    let first = client.send(post(&url, ENOUGH)).await;
    assert!(first.result.is_ok());
    assert_eq!(parts(first.timings), [true, true, false, true]);
    let Timings { dns, connect, first_byte, total, .. } = first.timings;
    let sum = [dns, connect, first_byte].into_iter().flatten().sum::<Duration>();
    assert!(sum <= total && total < ENOUGH, "{:?}", first.timings);
    let second = client.send(post(&url, ENOUGH)).await;
    assert_eq!(parts(second.timings), [false, false, false, true]);
    let literal = local_client().send(post(&receiver.url("http", "127.0.0.1"), ENOUGH)).await;
    assert_eq!(parts(literal.timings), [false, true, false, true], "an address needs no lookup");
}

#[tokio::test]
async fn the_first_byte_is_not_the_end_of_the_answer() {
    let receiver = Receiver::then_hang("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\npart").await;
    let sent = local_client().send(post(&receiver.url("http", "127.0.0.1"), SHORT)).await;
    assert_eq!(sent.result.expect("the head came").status, 200);
    assert!(sent.timings.first_byte.expect("it came") < SHORT && sent.timings.total >= SHORT);
}

#[tokio::test]
async fn a_failure_has_its_parts_as_far_as_they_came() {
    let refused = client("127.0.0.0/8", &[&["127.0.0.1"]]).send(post("http://refused.test:1/", ENOUGH)).await;
    assert_eq!(refused.result.expect_err("closed").class(), "CONNECT_FAILED");
    assert_eq!(parts(refused.timings), [true, true, false, false]);

    let unknown = local_client().send(post("http://unknown.test/", ENOUGH)).await;
    assert_eq!(unknown.result.expect_err("no such name").class(), "DNS_FAILED");
    assert_eq!(parts(unknown.timings), [true, false, false, false]);

    let stuck = Client::new(setup("127.0.0.0/8", Arc::new(NeverAnswers))).expect("the client can be set up");
    let timings = stuck.send(post("http://stuck.test/", SHORT)).await.timings;
    assert!(timings.dns.expect("it began") >= SHORT / 2 && timings.connect.is_none());

    let silent = Receiver::start(|_, stream| async move {
        pending::<()>().await;
        drop(stream);
    })
    .await;
    let tls = local_client().send(post(&silent.url("https", "127.0.0.1"), SHORT)).await;
    assert_eq!(tls.result.expect_err("a hang"), SendError::Timeout(Phase::Tls));
    assert_eq!(parts(tls.timings), [false, true, true, false]);

    for (answer, has_begun) in [("", false), ("HTTP/1.1 200 OK\r\ncontent-le", true)] {
        let half = Receiver::then_hang(answer).await;
        let sent = local_client().send(post(&half.url("http", "127.0.0.1"), SHORT)).await;
        assert_eq!(sent.result.expect_err("a hang"), SendError::Timeout(Phase::ResponseHead));
        assert_eq!(parts(sent.timings), [false, true, false, has_begun], "{answer}");
    }
    let forbidden = client("", &[&["10.0.0.1"]]).send(post("https://inside.test/", ENOUGH)).await;
    assert_eq!(forbidden.result.expect_err("forbidden").class(), "FORBIDDEN_ADDRESS");
    assert_eq!(parts(forbidden.timings), [true, false, false, false]);
}

#[tokio::test]
async fn a_request_that_is_repeated_has_the_times_of_its_second_try() {
    let receiver = Receiver::start(|_, mut stream| async move {
        read_request(&mut stream).await;
        stream.write_all(OK.as_bytes()).await.expect("the client reads");
        read_request(&mut stream).await;
    })
    .await;
    let client = local_client();
    let url = receiver.url("http", "127.0.0.1");
    assert_eq!(parts(client.send(post(&url, ENOUGH)).await.timings), [false, true, false, true]);
    let repeated = client.send(post(&url, ENOUGH)).await;
    assert_eq!(repeated.result.expect("the second try is answered").status, 200);
    assert_eq!((parts(repeated.timings), receiver.connections()), ([false, true, false, true], 2));
}
