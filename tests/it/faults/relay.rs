//! A relay on loopback between a node and its database, which freezes like a network that loses every packet, or is
//! cut like one whose router answers for nobody, or forgets its connections like a firewall that was started anew.

use std::pin::pin;

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
    /// How often it has forgotten its connections.
    forgotten: watch::Sender<usize>,
}

impl Relay {
    /// An open way to the database at `url`.
    pub async fn to(url: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut through = Url::parse(url).unwrap();
        let target = format!("{}:{}", through.host_str().unwrap(), through.port().unwrap());
        through.set_port(Some(listener.local_addr().unwrap().port())).unwrap();
        let line = watch::Sender::new(Line::Open);
        let seen = line.subscribe();
        let forgotten = watch::Sender::new(0);
        let mut forgets = forgotten.subscribe();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                forgets.mark_unchanged();
                tokio::spawn(carry(stream, target.clone(), seen.clone(), forgets.clone()));
            }
        });
        Self { url: through.into(), line, forgotten }
    }

    pub fn set(&self, line: Line) {
        self.line.send_replace(line);
    }

    /// Nothing comes through the connections that there are any more, and nobody is told; new ones work.
    pub fn forget(&self) {
        self.forgotten.send_modify(|times| *times += 1);
    }
}

async fn carry(
    near: TcpStream,
    target: String,
    mut line: watch::Receiver<Line>,
    mut forgets: watch::Receiver<usize>,
) {
    if *line.borrow() == Line::Cut {
        return;
    }
    let _ = line.wait_for(|line| *line == Line::Open).await;
    let Ok(far) = TcpStream::connect(target).await else { return };
    let ((from_near, to_near), (from_far, to_far)) = (near.into_split(), far.into_split());
    let (there, back) = (pass(from_near, to_far, line.clone()), pass(from_far, to_near, line.clone()));
    let mut carried = pin!(async { tokio::join!(there, back) });
    let has_forgotten = tokio::select! {
        _ = &mut carried => false,
        _ = line.wait_for(|line| *line == Line::Cut) => false,
        Ok(()) = forgets.changed() => true,
    };
    if has_forgotten {
        // The halves stay open until the test ends.
        std::future::pending::<()>().await;
    }
}

async fn pass(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut line: watch::Receiver<Line>) {
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
