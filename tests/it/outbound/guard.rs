//! Addresses that must not be called, however one is led to them.

use followpoints::outbound::SendError;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;

use super::{ENOUGH, OK, Receiver, ask, client, clocked_client, local_client, post, read_request};

/// A listener on this address and port that counts connections and answers nobody.
async fn inside(address: &str, port: u16) -> Receiver {
    let listener = TcpListener::bind((address, port)).await.expect("loopback can be bound");
    Receiver::start_on(listener, |_, stream| async move { drop(stream) })
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
    let inside = inside("127.0.0.1", port).await;

    let (client, clock) = clocked_client("127.0.0.2/32", &[&["127.0.0.2"], &["127.0.0.1"]]);
    let url = outside.url("http", "rebinding.test");
    assert_eq!(ask(&client, post(&url, ENOUGH)).await.expect("an answer").status, 200);
    clock.advance_ms(29_999);
    assert_eq!(ask(&client, post(&url, ENOUGH)).await.expect("the name is remembered").status, 200);
    clock.advance_ms(1);
    let error = ask(&client, post(&url, ENOUGH)).await.expect_err("the inside is forbidden");
    assert_eq!(error, SendError::ForbiddenAddress([127, 0, 0, 1].into()));
    assert_eq!((error.class(), inside.connections(), outside.connections()), ("FORBIDDEN_ADDRESS", 0, 2));
}

#[tokio::test]
async fn what_is_remembered_of_a_name_is_judged_for_every_request() {
    let inside = Receiver::always(OK).await;
    let client = client("", &[&["127.0.0.1"], &[]]);
    for _ in 0..2 {
        let error =
            ask(&client, post(&inside.url("https", "inside.test"), ENOUGH)).await.expect_err("forbidden");
        assert_eq!(error, SendError::ForbiddenAddress([127, 0, 0, 1].into()));
    }
    assert_eq!(inside.connections(), 0);
}

#[tokio::test]
async fn a_kept_connection_whose_address_the_name_has_dropped_is_not_used() {
    let bind = async |address: &str, port: u16| {
        let listener = TcpListener::bind((address, port)).await.expect("loopback can be bound");
        Receiver::start_on(listener, |_, mut stream| async move {
            while read_request(&mut stream).await.is_some() {
                let _ = stream.write_all(OK.as_bytes()).await;
            }
        })
    };
    let two = bind("127.0.0.2", 0).await;
    let three = bind("127.0.0.3", two.address.port()).await;
    let inside = inside("127.0.0.1", two.address.port()).await;
    let names: &[&[&str]] = &[&["127.0.0.2"], &["127.0.0.3"], &["127.0.0.3", "127.0.0.2"], &["127.0.0.1"]];
    let (client, clock) = clocked_client("127.0.0.2/31", names);
    let url = two.url("http", "moving.test");
    for connections in [(1, 0), (1, 1), (1, 1)] {
        // The second request keeps the connection of the first busy, so that it never becomes idle for long.
        for _ in 0..2 {
            assert_eq!(ask(&client, post(&url, ENOUGH)).await.expect("an answer").status, 200);
        }
        assert_eq!((two.connections(), three.connections()), connections);
        clock.advance_ms(30_000);
    }
    let error = ask(&client, post(&url, ENOUGH)).await.expect_err("two kept connections lead elsewhere");
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
        let error = ask(&client("", &[&[found]]), post(&url, ENOUGH)).await.expect_err(found);
        assert_eq!(error, SendError::ForbiddenAddress(judged.parse().expect("an address")), "{found}");
    }
    // Literal hosts are judged again as well: the URL may have been saved under another allow list.
    for host in ["127.0.0.1", "[::ffff:127.0.0.1]", "[::1]", "2130706433"] {
        let error = ask(&client("", &[]), post(&receiver.url("https", host), ENOUGH)).await;
        assert_eq!(error.expect_err(host).class(), "FORBIDDEN_ADDRESS", "{host}");
    }
    assert_eq!(receiver.connections(), 0);
}

#[tokio::test]
async fn plain_http_goes_to_allowed_networks_only() {
    let client = client("127.0.0.2/32", &[&["8.8.8.8", "::ffff:1.1.1.1"]]);
    let error = ask(&client, post("http://public.test/", ENOUGH)).await.expect_err("not over http");
    assert_eq!((&error, error.class()), (&SendError::PlainHttp([8, 8, 8, 8].into()), "FORBIDDEN_ADDRESS"));
}

#[tokio::test]
async fn among_several_addresses_only_the_permitted_are_tried_in_order() {
    let receiver = Receiver::always(OK).await;
    // Nothing listens on 127.0.0.3; 10.0.0.1 and ::1 must not be tried at all.
    let client = client("127.0.0.0/8", &[&["10.0.0.1", "::1", "127.0.0.3", "::ffff:127.0.0.1"]]);
    let answer = ask(&client, post(&receiver.url("http", "several.test"), ENOUGH)).await;
    assert_eq!(answer.expect("the last address answers").status, 200);
}

#[tokio::test]
async fn names_without_addresses_and_closed_ports_have_their_own_classes() {
    let unknown = ask(&local_client(), post("http://unknown.test/", ENOUGH)).await.expect_err("no such name");
    assert_eq!(unknown.class(), "DNS_FAILED");
    assert_eq!(unknown.to_string(), "the name unknown.test could not be looked up: unknown.test is unknown");
    let empty = ask(&client("127.0.0.0/8", &[&[]]), post("http://empty.test/", ENOUGH)).await;
    assert_eq!(empty.expect_err("no address").class(), "DNS_FAILED");

    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback can be bound");
    let address = listener.local_addr().expect("a bound listener has an address");
    drop(listener);
    let refused =
        ask(&local_client(), post(&format!("http://{address}/"), ENOUGH)).await.expect_err("closed");
    assert_eq!(refused.class(), "CONNECT_FAILED");
    assert_eq!(refused.to_string(), format!("no connection to {address}: the connection was refused"));
}
