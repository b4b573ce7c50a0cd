//! The load: raw keep-alive connections on one thread, because generator, service and PostgreSQL share the cores. Requests
//! are written out beforehand; an answer is parsed only as far as its status and length.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::ops::Range;
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::LocalSet;

/// The largest answer that is understood.
const ANSWER_BYTES_MAX: usize = 64 * 1024;
/// How long one answer may take before the run is given up.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// Requests, ready to be sent.
#[derive(Default)]
pub(crate) struct Requests {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Requests {
    /// Adds a request; `headers` are whole lines without their ends.
    pub(crate) fn push(&mut self, method: &str, path: &str, headers: &[&str], body: &str) {
        use std::io::Write as _;
        let out = &mut self.bytes;
        let _ = write!(out, "{method} {path} HTTP/1.1\r\nhost: 127.0.0.1\r\n");
        for header in headers {
            let _ = write!(out, "{header}\r\n");
        }
        if !body.is_empty() {
            let _ = write!(out, "content-type: application/json\r\ncontent-length: {}\r\n", body.len());
        }
        let _ = write!(out, "\r\n{body}");
        self.ends.push(out.len());
    }

    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }

    pub(crate) fn get(&self, index: usize) -> &[u8] {
        let start = if index == 0 { 0 } else { self.ends[index - 1] };
        &self.bytes[start..self.ends[index]]
    }
}

/// How requests are sent.
#[derive(Clone, Copy)]
pub(crate) struct Plan {
    /// To whom.
    pub(crate) address: SocketAddr,
    /// Over how many connections.
    pub(crate) connections: usize,
    /// When no more are sent.
    pub(crate) duration: Duration,
    /// Whether to begin again after the last request.
    pub(crate) repeat: bool,
    /// Requests a second; `None` sends the next as soon as the last one is answered.
    pub(crate) rate: Option<u32>,
    /// Whether bodies are kept, with the time at which they came.
    pub(crate) keep_bodies: bool,
}

/// What came back.
#[derive(Default)]
pub(crate) struct Run {
    /// Answers by status.
    pub(crate) statuses: BTreeMap<u16, usize>,
    /// Microseconds from due time or sending to the answer.
    pub(crate) latencies_us: Vec<u32>,
    /// From the first request to the last answer.
    pub(crate) elapsed: Duration,
    /// When the first request was sent.
    pub(crate) started: Option<Instant>,
    /// Bodies of good answers, if they were asked for.
    pub(crate) bodies: Vec<(Instant, Vec<u8>)>,
    /// The first answer other than 200.
    pub(crate) odd: Option<String>,
    /// How many requests were taken from the list.
    pub(crate) used: usize,
}

impl Run {
    /// Answers of status 200 a second.
    pub(crate) fn rate(&self) -> f64 {
        let good = self.statuses.get(&200).copied().unwrap_or(0);
        to_f64(good) / self.elapsed.as_secs_f64().max(1e-9)
    }

    pub(crate) fn good(&self) -> usize {
        self.statuses.get(&200).copied().unwrap_or(0)
    }

    /// The latency in milliseconds below which `share` of the answers came.
    pub(crate) fn percentile_ms(&mut self, share: f64) -> f64 {
        percentile(&mut self.latencies_us, share) / 1000.0
    }
}

/// The value below which `share` of `values` lie.
pub(crate) fn percentile(values: &mut [u32], share: f64) -> f64 {
    if values.is_empty() {
        return f64::NAN;
    }
    values.sort_unstable();
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the product is between zero and the length"
    )]
    let index = ((to_f64(values.len()) * share) as usize).min(values.len() - 1);
    f64::from(values[index])
}

/// Counts here are far below 2^52.
#[expect(clippy::cast_precision_loss, reason = "counts of a run are small")]
pub(crate) fn to_f64(count: usize) -> f64 {
    count as f64
}

struct Shared {
    requests: Rc<Requests>,
    plan: Plan,
    next: Cell<usize>,
    started: Instant,
    run: RefCell<Run>,
}

/// Sends `requests` as `plan` says and waits for every answer.
pub(crate) fn run(requests: &Rc<Requests>, plan: Plan) -> io::Result<Run> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    LocalSet::new().block_on(&runtime, run_on_connections(requests, plan))
}

async fn run_on_connections(requests: &Rc<Requests>, plan: Plan) -> io::Result<Run> {
    let mut connections = Vec::with_capacity(plan.connections);
    for _ in 0..plan.connections {
        connections.push(Connection::open(plan.address).await?);
    }
    let started = Instant::now();
    let run = Run {
        latencies_us: Vec::with_capacity(requests.len().max(1 << 20)),
        started: Some(started),
        ..Run::default()
    };
    let shared = Rc::new(Shared {
        requests: Rc::clone(requests),
        plan,
        next: Cell::new(0),
        started,
        run: RefCell::new(run),
    });
    let mut tasks = Vec::with_capacity(plan.connections);
    for connection in connections {
        tasks.push(tokio::task::spawn_local(work(Rc::clone(&shared), connection)));
    }
    for task in tasks {
        task.await.map_err(io::Error::other)??;
    }
    let mut run = shared.run.take();
    run.used = shared.next.get();
    Ok(run)
}

async fn work(shared: Rc<Shared>, mut connection: Connection) -> io::Result<()> {
    let (plan, count) = (shared.plan, shared.requests.len());
    let deadline = shared.started + plan.duration;
    loop {
        let number = shared.next.get();
        if number >= count && !plan.repeat {
            return Ok(());
        }
        let due = plan.rate.map(|rate| {
            let offset = Duration::from_secs(1) * u32::try_from(number).unwrap_or(u32::MAX) / rate;
            shared.started + offset
        });
        if due.unwrap_or_else(Instant::now) >= deadline {
            return Ok(());
        }
        shared.next.set(number + 1);
        if let Some(due) = due {
            tokio::time::sleep_until(due.into()).await;
        }
        let since = due.unwrap_or_else(Instant::now);
        let exchange = connection.exchange(shared.requests.get(number % count));
        let answer = if plan.rate.is_some() {
            tokio::time::timeout(ANSWER_TIMEOUT, exchange).await.map_err(io::Error::other)??
        } else {
            exchange.await?
        };
        let now = Instant::now();
        let mut run = shared.run.borrow_mut();
        run.elapsed = now - shared.started;
        run.latencies_us.push(u32::try_from((now - since).as_micros()).unwrap_or(u32::MAX));
        *run.statuses.entry(answer.status).or_default() += 1;
        let body = &connection.buffer[answer.body];
        if answer.status != 200 && run.odd.is_none() {
            run.odd = Some(format!("{} {}", answer.status, String::from_utf8_lossy(body)));
        }
        if plan.keep_bodies && answer.status == 200 {
            run.bodies.push((now, body.to_vec()));
        }
    }
}

/// One keep-alive connection.
pub(crate) struct Connection {
    stream: TcpStream,
    pub(crate) buffer: Vec<u8>,
}

/// An answer in the connection's buffer.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Range<usize>,
}

impl Connection {
    pub(crate) async fn open(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: vec![0; ANSWER_BYTES_MAX] })
    }

    /// Sends `request` and reads the answer, which must have a `content-length`.
    pub(crate) async fn exchange(&mut self, request: &[u8]) -> io::Result<Answer> {
        self.stream.write_all(request).await?;
        let mut filled = 0;
        let mut head: Option<(u16, usize, usize)> = None;
        loop {
            let read = self.stream.read(&mut self.buffer[filled..]).await?;
            if read == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            filled += read;
            if head.is_none() {
                head = parse_head(&self.buffer[..filled])?;
            }
            if let Some((status, start, length)) = head
                && filled >= start + length
            {
                return Ok(Answer { status, body: start..start + length });
            }
        }
    }
}

/// Status, start and length of the body, once the head is complete.
pub(crate) fn parse_head(bytes: &[u8]) -> io::Result<Option<(u16, usize, usize)>> {
    let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else {
        return Ok(None);
    };
    let malformed = || io::Error::new(io::ErrorKind::InvalidData, "not an HTTP/1.1 answer");
    let status = bytes.get(9..12).and_then(|digits| std::str::from_utf8(digits).ok());
    let status = status.and_then(|digits| digits.parse().ok()).ok_or_else(malformed)?;
    let length = content_length(&bytes[..end]).ok_or_else(malformed)?;
    Ok(Some((status, end + 4, length)))
}

/// The announced length of a body: none means there is none.
pub(crate) fn content_length(head: &[u8]) -> Option<usize> {
    const NAME: &[u8] = b"\r\ncontent-length:";
    let at = head.windows(NAME.len()).position(|window| window.eq_ignore_ascii_case(NAME));
    let Some(at) = at else { return Some(0) };
    let rest = &head[at + NAME.len()..];
    let line = rest.split(|byte| *byte == b'\r').next()?;
    std::str::from_utf8(line).ok()?.trim().parse().ok()
}
