//! A client that speaks HTTP over a socket, for what only a real connection shows.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpSocket;

/// An answer as it came over the wire.
pub struct WireAnswer {
    pub status: u16,
    pub head: String,
    pub body: String,
}

/// Sends one request. `line` is method and path, `headers` are whole lines.
pub async fn send(to: SocketAddr, line: &str, headers: &[String], body: &str) -> WireAnswer {
    send_from(IpAddr::V4(Ipv4Addr::LOCALHOST), to, line, headers, body).await
}

/// The same from an address of this machine.
pub async fn send_from(
    from: IpAddr,
    to: SocketAddr,
    line: &str,
    headers: &[String],
    body: &str,
) -> WireAnswer {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::new(from, 0)).unwrap();
    let mut stream = socket.connect(to).await.unwrap();
    let mut request = format!("{line} HTTP/1.1\r\nhost: {to}\r\nconnection: close\r\n");
    for header in headers {
        let _ = write!(request, "{header}\r\n");
    }
    let _ = write!(request, "content-length: {}\r\n\r\n{body}", body.len());
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    WireAnswer { status, head: head.to_ascii_lowercase(), body: body.to_owned() }
}
