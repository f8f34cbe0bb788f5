//! A TCP proxy between a node and its broker, which can break or freeze what passes.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Passes,
    Frozen,
    Cut,
}

/// Stands on a free loopback port and passes everything on to one address.
pub struct Proxy {
    address: SocketAddr,
    state: watch::Sender<State>,
    accepts: JoinHandle<()>,
}

impl Proxy {
    /// Starts one before a broker.
    pub async fn start(broker: SocketAddr) -> io::Result<Arc<Self>> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let state = watch::Sender::new(State::Passes);
        let watched = state.subscribe();
        let accepts = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                // A cut link is one that is closed as soon as it is opened.
                if *watched.borrow() != State::Cut {
                    tokio::spawn(pass(client, broker, watched.clone()));
                }
            }
        });
        Ok(Arc::new(Self { address, state, accepts }))
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Breaks all links and all new ones, until it is healed.
    pub fn cut(&self) {
        self.state.send_replace(State::Cut);
    }

    /// Lets nothing pass, without closing anything, until it is healed. Only what had not been
    /// taken from one side yet comes later.
    pub fn freeze(&self) {
        self.state.send_replace(State::Frozen);
    }

    /// Lets everything pass.
    pub fn heal(&self) {
        self.state.send_replace(State::Passes);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepts.abort();
    }
}

async fn pass(client: TcpStream, broker: SocketAddr, state: watch::Receiver<State>) {
    let Ok(broker) = TcpStream::connect(broker).await else { return };
    let _ = (client.set_nodelay(true), broker.set_nodelay(true));
    let ((client_in, client_out), (broker_in, broker_out)) =
        (client.into_split(), broker.into_split());
    // Whichever side ends first ends both: dropping the halves closes the sockets.
    tokio::select! {
        () = copy(client_in, broker_out, state.clone()) => {}
        () = copy(broker_in, client_out, state) => {}
    }
}

async fn copy(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    mut state: watch::Receiver<State>,
) {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let now = *state.borrow_and_update();
        if now == State::Cut {
            return;
        }
        tokio::select! {
            changed = state.changed() => if changed.is_err() { return },
            read = from.read(&mut buffer), if now == State::Passes => match read {
                Ok(0) | Err(_) => return,
                Ok(n) => {
                    let bytes = buffer.get(..n).unwrap_or_default();
                    let written = tokio::select! {
                        written = to.write_all(bytes) => written.is_ok(),
                        _ = state.wait_for(|s| *s == State::Cut) => false,
                    };
                    if !written {
                        return;
                    }
                }
            },
        }
    }
}
