//! What receivers answer, and what is left of it.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use followpoints::outbound::{BodyError, SendError};
use hyper::Method;
use hyper::header::{HeaderName, HeaderValue};
use tokio::io::AsyncWriteExt;

use super::{BODY_MAX, ENOUGH, OK, Receiver, SHORT, ask, local_client, post, read_request, send};

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
async fn a_bad_body_never_changes_the_status() {
    let head = "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\npart";
    let hanging = Receiver::then_hang(head).await;
    let answer = send(&hanging, SHORT).await.expect("the head came");
    assert_eq!((answer.status, &answer.body[..]), (200, &b"part"[..]));
    assert_eq!(answer.body_error, Some(BodyError::Timeout));
    assert!(!answer.truncated);

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
        let answer = ask(&client, request).await.expect("the head came");
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
async fn requests_that_would_break_the_framing_are_not_sent() {
    let receiver = Receiver::always(OK).await;
    for name in ["host", "content-length", "transfer-encoding", "connection", "upgrade"] {
        let mut request = post(&receiver.url("http", "127.0.0.1"), ENOUGH);
        request.headers.push((HeaderName::from_static(name), HeaderValue::from_static("1")));
        let error = ask(&local_client(), request).await.expect_err(name);
        assert!(matches!(error, SendError::InvalidRequest(_)), "{name}: {error}");
    }
    let mut tunnel = post(&receiver.url("http", "127.0.0.1"), ENOUGH);
    tunnel.method = Method::CONNECT;
    assert_eq!(ask(&local_client(), tunnel).await.expect_err("no tunnels").class(), "INVALID_URL");
    assert_eq!(receiver.connections(), 0);
}
