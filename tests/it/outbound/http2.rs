//! HTTP/2, which both sides agree on with encryption.

use std::future::pending;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use followpoints::outbound::{Phase, SendError};
use h2::server::SendResponse;
use h2::{RecvStream, server};
use hyper::{Request, Response};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::server::TlsStream;

use super::tls::trusting_client;
use super::{BODY_MAX, ENOUGH, SHORT, ask, post};
use crate::support::certificates::{ClientAuth, acceptor};

/// A receiver that speaks HTTP/2.
pub(super) struct Http2Receiver {
    pub(super) url: String,
    connection_count: Arc<AtomicUsize>,
}

/// What a request looked like: version, method, target, host, headers of ours, body.
type Seen = Arc<Mutex<Vec<String>>>;

impl Http2Receiver {
    /// Runs the script for every connection, with its number counted from 0.
    pub(super) async fn start<F, S>(script: S) -> Self
    where
        S: Fn(usize, TlsStream<TcpStream>) -> F + Send + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback can be bound");
        let port = listener.local_addr().expect("a bound listener has an address").port();
        let connection_count = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&connection_count);
        let acceptor = acceptor(&[b"h2", b"http/1.1"], ClientAuth::Never);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let stream = acceptor.accept(stream).await.expect("the client agrees on encryption");
                assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
                tokio::spawn(script(count.fetch_add(1, Ordering::SeqCst), stream));
            }
        });
        Self { url: format!("https://hooks.test:{port}/hook?a=b"), connection_count }
    }

    pub(super) fn connections(&self) -> usize {
        self.connection_count.load(Ordering::SeqCst)
    }
}

async fn body_of(mut body: RecvStream) -> Vec<u8> {
    let mut whole = Vec::new();
    while let Some(Ok(data)) = body.data().await {
        let _ = body.flow_control().release_capacity(data.len());
        whole.extend_from_slice(&data);
    }
    whole
}

fn answer_ok(respond: &mut SendResponse<Bytes>) {
    let mut body = respond.send_response(Response::new(()), false).expect("the client waits");
    body.send_data(Bytes::from_static(b"ok"), true).expect("the client reads");
}

/// Answers every request with 200, once its body has come.
pub(super) async fn serve(stream: TlsStream<TcpStream>) {
    let mut connection = server::handshake(stream).await.expect("the client speaks HTTP/2");
    while let Some(Ok((request, mut respond))) = connection.accept().await {
        tokio::spawn(async move {
            body_of(request.into_body()).await;
            answer_ok(&mut respond);
        });
    }
}

async fn describe(request: Request<RecvStream>) -> String {
    let (head, body) = request.into_parts();
    let header = |name: &str| head.headers.get(name).map(|value| value.to_str().expect("text").to_owned());
    let body = body_of(body).await;
    format!(
        "{:?} {} {} host={:?} x-test={:?} length={:?} {}",
        head.version,
        head.method,
        head.uri,
        header("host"),
        header("x-test"),
        header("content-length"),
        String::from_utf8_lossy(&body)
    )
}

#[tokio::test]
async fn http2_is_spoken_where_the_receiver_offers_it_and_requests_share_a_connection() {
    let seen = Seen::default();
    let sink = Arc::clone(&seen);
    let receiver = Http2Receiver::start(move |_, stream| {
        let sink = Arc::clone(&sink);
        async move {
            let mut connection = server::handshake(stream).await.expect("the client speaks HTTP/2");
            while let Some(Ok((request, mut respond))) = connection.accept().await {
                let sink = Arc::clone(&sink);
                tokio::spawn(async move {
                    let text = describe(request).await;
                    sink.lock().expect("not poisoned").push(text);
                    answer_ok(&mut respond);
                });
            }
        }
    })
    .await;
    let client = trusting_client();
    let first = client.send(post(&receiver.url, ENOUGH)).await;
    let answer = first.result.expect("an answer");
    assert_eq!((answer.status, &answer.body[..], answer.truncated), (200, &b"ok"[..], false));
    assert!(first.timings.tls.is_some() && first.timings.first_byte.is_some());
    let wanted =
        format!("HTTP/2.0 POST {} host=None x-test=Some(\"1\") length=Some(\"5\") hello", receiver.url);
    assert_eq!(*seen.lock().expect("not poisoned"), [wanted]);

    let more = (0..50).map(|_| client.send(post(&receiver.url, ENOUGH)));
    for sent in futures_util::future::join_all(more).await {
        assert_eq!(sent.result.expect("an answer").status, 200);
        let timings = sent.timings;
        assert_eq!((timings.connect, timings.tls, timings.first_byte.is_some()), (None, None, true));
    }
    assert_eq!(receiver.connections(), 1);
}

#[tokio::test]
async fn no_more_requests_share_a_connection_than_the_receiver_accepts() {
    let (tell, mut held) = tokio::sync::mpsc::unbounded_channel();
    let receiver = Http2Receiver::start(move |_, stream| {
        let tell = tell.clone();
        async move {
            let mut builder = server::Builder::new();
            let handshake = builder.max_concurrent_streams(2).handshake::<_, Bytes>(stream);
            let mut connection = handshake.await.expect("the client speaks HTTP/2");
            while let Some(Ok((request, mut respond))) = connection.accept().await {
                if request.uri().path() == "/hang" {
                    tell.send(respond).expect("the test waits");
                } else {
                    answer_ok(&mut respond);
                }
            }
        }
    })
    .await;
    let client = trusting_client();
    assert_eq!(ask(&client, post(&receiver.url, ENOUGH)).await.expect("an answer").status, 200);
    let mut hangs = Vec::new();
    for _ in 0..2 {
        let (client, hanging) = (client.clone(), post(&receiver.url.replace("/hook?", "/hang?"), ENOUGH));
        let hang = tokio::spawn(async move { ask(&client, hanging).await.map(|answer| answer.status) });
        hangs.push((hang, held.recv().await.expect("it hangs")));
    }
    assert_eq!(receiver.connections(), 1, "there was room for a second one");
    assert_eq!(ask(&client, post(&receiver.url, ENOUGH)).await.expect("an answer").status, 200);
    assert_eq!(receiver.connections(), 2);
    for (hang, mut respond) in hangs {
        answer_ok(&mut respond);
        assert_eq!(hang.await.expect("no panic"), Ok(200));
    }
}

#[tokio::test]
async fn a_request_that_timed_out_leaves_its_connection_to_nobody_else() {
    let receiver = Http2Receiver::start(|number, stream| async move {
        if number > 0 {
            return serve(stream).await;
        }
        let mut connection = server::handshake(stream).await.expect("the client speaks HTTP/2");
        let mut held: Vec<(Request<RecvStream>, SendResponse<Bytes>)> = Vec::new();
        while let Some(Ok(request)) = connection.accept().await {
            held.push(request);
        }
    })
    .await;
    let client = trusting_client();
    let sent = client.send(post(&receiver.url, SHORT)).await;
    assert_eq!(sent.result.expect_err("a hang"), SendError::Timeout(Phase::ResponseHead));
    assert_eq!(sent.timings.first_byte, None);
    assert_eq!(ask(&client, post(&receiver.url, ENOUGH)).await.expect("an answer").status, 200);
    assert_eq!(receiver.connections(), 2);
}

#[tokio::test]
async fn a_dead_shared_connection_is_replaced_at_once() {
    let receiver = Http2Receiver::start(|number, stream| async move {
        if number > 0 {
            return serve(stream).await;
        }
        let mut connection = server::handshake(stream).await.expect("the client speaks HTTP/2");
        let (_, mut respond) = connection.accept().await.expect("a request").expect("a whole one");
        answer_ok(&mut respond);
        // The second one is taken and the connection dropped.
        let second = connection.accept().await;
        drop((second, connection));
    })
    .await;
    let client = trusting_client();
    for connections in [1, 2] {
        assert_eq!(ask(&client, post(&receiver.url, ENOUGH)).await.expect("an answer").status, 200);
        assert_eq!(receiver.connections(), connections);
    }
}

#[tokio::test]
async fn a_stream_that_the_receiver_breaks_off_is_a_failure_and_not_repeated() {
    let receiver = Http2Receiver::start(|_, stream| async move {
        let mut connection = server::handshake(stream).await.expect("the client speaks HTTP/2");
        let mut count = 0;
        while let Some(Ok((_, mut respond))) = connection.accept().await {
            count += 1;
            if count == 1 {
                answer_ok(&mut respond);
            } else {
                respond.send_reset(h2::Reason::INTERNAL_ERROR);
            }
        }
    })
    .await;
    let client = trusting_client();
    assert_eq!(ask(&client, post(&receiver.url, ENOUGH)).await.expect("an answer").status, 200);
    let error = ask(&client, post(&receiver.url, ENOUGH)).await.expect_err("broken off");
    assert_eq!((error.class(), receiver.connections()), ("PROTOCOL_ERROR", 1), "{error}");
}

#[tokio::test]
async fn an_endless_body_is_cut_and_the_connection_goes_on() {
    let sent = Arc::new(AtomicUsize::new(0));
    let total = Arc::clone(&sent);
    let receiver = Http2Receiver::start(move |_, stream| {
        let total = Arc::clone(&total);
        async move {
            let mut connection = server::handshake(stream).await.expect("the client speaks HTTP/2");
            while let Some(Ok((_, mut respond))) = connection.accept().await {
                let total = Arc::clone(&total);
                tokio::spawn(async move {
                    let mut body = respond.send_response(Response::new(()), false).expect("the client waits");
                    loop {
                        body.reserve_capacity(8_192);
                        match std::future::poll_fn(|cx| body.poll_capacity(cx)).await {
                            Some(Ok(room)) => {
                                total.fetch_add(room, Ordering::SeqCst);
                                if body.send_data(vec![b'x'; room].into(), false).is_err() {
                                    return;
                                }
                            }
                            _ => return,
                        }
                    }
                });
            }
        }
    })
    .await;
    let client = trusting_client();
    for _ in 0..2 {
        let answer = ask(&client, post(&receiver.url, ENOUGH)).await.expect("the head came");
        assert_eq!((answer.status, answer.body.len(), answer.truncated), (200, BODY_MAX, true));
    }
    assert_eq!(receiver.connections(), 1);
    assert!(sent.load(Ordering::SeqCst) <= 2 * 128 * 1024, "the rest is not let in");
}

#[tokio::test]
async fn without_an_offer_of_http2_it_is_http1() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback can be bound");
    let port = listener.local_addr().expect("a bound listener has an address").port();
    let acceptor = acceptor(&[b"http/1.1"], ClientAuth::Never);
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.expect("a connection");
        let mut stream = acceptor.accept(stream).await.expect("the client agrees on encryption");
        let mut request = [0; 4096];
        let count = stream.read(&mut request).await.expect("a request");
        assert!(request[..count].starts_with(b"POST /hook HTTP/1.1\r\n"));
        stream.write_all(super::OK.as_bytes()).await.expect("the client reads");
        pending::<()>().await;
    });
    let answer = ask(&trusting_client(), post(&format!("https://hooks.test:{port}/hook"), ENOUGH)).await;
    assert_eq!(answer.expect("an answer").status, 200);
}
