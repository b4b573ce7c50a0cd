//! A relay on loopback between a node and its database, which freezes like a network that loses every packet, is cut like
//! one whose router answers for nobody, or forgets the connections it carries, as whatever translates addresses may.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use url::Url;

/// What happens to bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Line {
    /// They pass.
    Open,
    /// They wait, and connections stay.
    Frozen,
    /// Connections end, and new ones end at once.
    Cut,
}

pub struct Relay {
    /// The database's URL on this way.
    pub url: String,
    line: watch::Sender<Line>,
    /// How often it has forgotten.
    forgotten: watch::Sender<u64>,
}

impl Relay {
    /// An open way to the database at `url`.
    pub async fn to(url: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut through = Url::parse(url).unwrap();
        let target = format!("{}:{}", through.host_str().unwrap(), through.port().unwrap());
        through.set_port(Some(listener.local_addr().unwrap().port())).unwrap();
        let line = watch::Sender::new(Line::Open);
        let forgotten = watch::Sender::new(0);
        let (seen, news) = (line.subscribe(), forgotten.subscribe());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(carry(stream, target.clone(), seen.clone(), news.clone()));
            }
        });
        Self { url: through.into(), line, forgotten }
    }

    /// Connections of now stay, and nothing passes on them ever again; new ones are carried.
    pub fn forget(&self) {
        self.forgotten.send_modify(|times| *times += 1);
    }

    pub fn set(&self, line: Line) {
        self.line.send_replace(line);
    }
}

async fn carry(
    near: TcpStream,
    target: String,
    mut line: watch::Receiver<Line>,
    mut forgotten: watch::Receiver<u64>,
) {
    forgotten.mark_unchanged();
    if *line.borrow() == Line::Cut {
        return;
    }
    let _ = line.wait_for(|line| *line == Line::Open).await;
    let Ok(far) = TcpStream::connect(target).await else { return };
    let ((mut from_near, mut to_near), (mut from_far, mut to_far)) = (near.into_split(), far.into_split());
    let there = pass(&mut from_near, &mut to_far, line.clone());
    let back = pass(&mut from_far, &mut to_near, line.clone());
    let is_forgotten = tokio::select! {
        _ = async { tokio::join!(there, back) } => false,
        _ = line.wait_for(|line| *line == Line::Cut) => false,
        Ok(()) = forgotten.changed() => true,
    };
    if is_forgotten {
        // Both ends stay open, and nobody carries between them, until the relay is gone.
        while forgotten.changed().await.is_ok() {}
    }
}

async fn pass(from: &mut OwnedReadHalf, to: &mut OwnedWriteHalf, mut line: watch::Receiver<Line>) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(count) = from.read(&mut buffer).await
        && count > 0
    {
        let _ = line.wait_for(|line| *line == Line::Open).await;
        if to.write_all(&buffer[..count]).await.is_err() {
            return;
        }
    }
    let _ = line.wait_for(|line| *line == Line::Open).await;
    let _ = to.shutdown().await;
}
