//! A webhook receiver that answers 200 at once. It notes when what came; what the bodies say is read afterwards.

use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::LocalSet;
use uuid::Uuid;

use super::generator::content_length;

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
/// The largest request.
const REQUEST_BYTES_MAX: usize = 64 * 1024;

/// One request that came.
pub(crate) struct Arrival {
    pub(crate) at: Instant,
    /// The last byte of its path: which subscription.
    pub(crate) subscriber: u8,
    pub(crate) body: Vec<u8>,
}

/// The receiver, on a thread of its own until the process ends.
pub(crate) struct Sink {
    pub(crate) address: SocketAddr,
    arrivals: Arc<Mutex<Vec<Arrival>>>,
    count: Arc<AtomicUsize>,
}

impl Sink {
    pub(crate) fn start() -> Self {
        let (arrivals, count) = (Arc::default(), Arc::default());
        let (sender, started) = mpsc::channel();
        let (notes, counter) = (Arc::clone(&arrivals), Arc::clone(&count));
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let runtime = runtime.expect("a runtime");
            LocalSet::new().block_on(&runtime, async {
                let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
                sender.send(listener.local_addr().expect("its address")).expect("somebody waits for it");
                let receiver = Rc::new(Receiver { notes, counter, spare: RefCell::default() });
                while let Ok((stream, _)) = listener.accept().await {
                    tokio::task::spawn_local(Rc::clone(&receiver).serve(stream));
                }
            });
        });
        let address = started.recv().expect("the receiver listens");
        Self { address, arrivals, count }
    }

    /// How many requests came since the last [`Self::take`].
    pub(crate) fn count(&self) -> usize {
        self.count.load(Ordering::Acquire)
    }

    /// Gives what came, and forgets it.
    pub(crate) fn take(&self) -> Vec<Arrival> {
        self.count.store(0, Ordering::Release);
        std::mem::take(&mut *self.arrivals.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

struct Receiver {
    notes: Arc<Mutex<Vec<Arrival>>>,
    counter: Arc<AtomicUsize>,
    /// Buffers of connections that ended.
    spare: RefCell<Vec<Vec<u8>>>,
}

impl Receiver {
    async fn serve(self: Rc<Self>, mut stream: TcpStream) {
        let spare = self.spare.borrow_mut().pop();
        let mut buffer = spare.unwrap_or_else(|| vec![0; REQUEST_BYTES_MAX]);
        let _ = self.receive(&mut stream, &mut buffer).await;
        self.spare.borrow_mut().push(buffer);
    }

    async fn receive(&self, stream: &mut TcpStream, buffer: &mut [u8]) -> io::Result<()> {
        stream.set_nodelay(true)?;
        let mut filled = 0;
        loop {
            let read = stream.read(&mut buffer[filled..]).await?;
            if read == 0 {
                return Ok(());
            }
            filled += read;
            let request = &buffer[..filled];
            let Some(end) = request.windows(4).position(|window| window == b"\r\n\r\n") else { continue };
            let length = content_length(&request[..end]).ok_or(io::ErrorKind::InvalidData)?;
            if filled < end + 4 + length {
                continue;
            }
            let at = Instant::now();
            stream.write_all(ANSWER).await?;
            let path = request.split(|byte| *byte == b' ').nth(1).unwrap_or_default();
            let arrival = Arrival {
                at,
                subscriber: path.last().copied().unwrap_or(0),
                body: request[end + 4..end + 4 + length].to_vec(),
            };
            self.notes.lock().unwrap_or_else(PoisonError::into_inner).push(arrival);
            self.counter.fetch_add(1, Ordering::Release);
            filled = 0;
        }
    }
}

/// Event id and entity id of a webhook's body: a compact JWS, whose signature the tests check.
pub(crate) fn ids(body: &[u8]) -> Option<(Uuid, Uuid)> {
    let claims = body.split(|byte| *byte == b'.').nth(1)?;
    let claims: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).ok()?).ok()?;
    let envelope: Value = serde_json::from_str(claims["data"].as_str()?).ok()?;
    let event: Value = serde_json::from_str(envelope["data"].as_str()?).ok()?;
    let id = |value: &Value| value.as_str().and_then(|text| Uuid::try_parse(text).ok());
    Some((id(&event["id"])?, id(&event["entityId"])?))
}
