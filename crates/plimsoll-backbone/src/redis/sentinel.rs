//! Finds a master by Sentinels, and follows it.

use super::config::{Address, ConnectError, SentinelConfig};
use super::net::{self, Dialer};
use super::node::{Node, Pause};
use super::plain::Plain;
use crate::limits;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

/// The Sentinels that watch one master.
pub(super) struct Sentinels {
    config: SentinelConfig,
    addresses: Vec<(Address, Dialer)>,
    /// The one that answered last.
    first: AtomicUsize,
}

impl Sentinels {
    pub(super) fn new(config: &SentinelConfig) -> Result<Arc<Self>, ConnectError> {
        if config.addresses.is_empty() || config.master_name.is_empty() {
            let why = "Sentinels need addresses and the name of the master";
            return Err(ConnectError::Config(why.into()));
        }
        let mut addresses = Vec::new();
        for text in &config.addresses {
            let address = Address::parse(text)?;
            let host = match &address {
                Address::Tcp(host, _) => host.as_str(),
                Address::Unix(_) => "localhost",
            };
            let dialer = Dialer::new(config.tls.as_ref(), host)?;
            addresses.push((address, dialer));
        }
        Ok(Arc::new(Self { config: config.clone(), addresses, first: AtomicUsize::new(0) }))
    }

    /// Where the master is, by the first Sentinel that knows. Whoever connects checks its role.
    pub(super) async fn master(&self) -> Result<Address, ConnectError> {
        let first = self.first.load(Relaxed);
        let mut last = None;
        for n in 0..self.addresses.len() {
            let n = (first + n) % self.addresses.len();
            match self.ask(n).await {
                Ok(address) => {
                    self.first.store(n, Relaxed);
                    return Ok(address);
                }
                Err(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or_else(|| ConnectError::Config("no Sentinel".into())))
    }

    async fn open(&self, dialer: &Dialer, address: &Address) -> Result<Plain, ConnectError> {
        Plain::open(dialer, address, self.config.user.as_deref(), self.config.password.as_deref())
            .await
    }

    async fn ask(&self, n: usize) -> Result<Address, ConnectError> {
        let (address, dialer) = &self.addresses[n];
        let name = self.config.master_name.as_bytes();
        let work = async {
            let mut connection = self.open(dialer, address).await?;
            connection.send([&b"SENTINEL"[..], b"GET-MASTER-ADDR-BY-NAME", name]).await?;
            let (bytes, frame) = connection.frame().await?;
            let text = |n| String::from_utf8_lossy(&bytes.slice(frame.part(n))).into_owned();
            match (frame.kind, text(1).parse()) {
                (b'*', Ok(port)) => Ok(Address::Tcp(text(0), port)),
                (b'-', _) => {
                    Err(ConnectError::Refused { broker: address.to_string(), why: text(0) })
                }
                _ => {
                    let why = format!("it knows no master {:?}", self.config.master_name);
                    Err(ConnectError::Unreachable { broker: address.to_string(), why })
                }
            }
        };
        // Two rounds of silent Sentinels must not take longer than a link may.
        let limit = Duration::from_millis(limits::CALL_MS);
        tokio::time::timeout(limit, work).await.unwrap_or_else(|_| {
            let why = "no answer in time".into();
            Err(ConnectError::Unreachable { broker: address.to_string(), why })
        })
    }

    /// Hears of failovers until the node ends, and makes its links anew at each.
    pub(super) async fn follow(self: Arc<Self>, node: Arc<Node>) {
        let mut pause = Pause::new();
        while !node.has_ended() {
            let n = self.first.load(Relaxed) % self.addresses.len();
            tokio::select! {
                heard = self.listen(n, &node) => {
                    if heard {
                        pause = Pause::new();
                    }
                    tracing::debug!(sentinel = %self.addresses[n].0, "lost a Sentinel");
                }
                () = node.wait_ended() => return,
            }
            self.first.store((n + 1) % self.addresses.len(), Relaxed);
            tokio::select! {
                () = tokio::time::sleep(pause.next()) => {}
                () = node.wait_ended() => return,
            }
        }
    }

    /// Listens to one Sentinel until it is lost. Was it there at all?
    async fn listen(&self, n: usize, node: &Node) -> bool {
        let (address, dialer) = &self.addresses[n];
        let open = net::within(self.open(dialer, address), address);
        let Ok(mut connection) = open.await else { return false };
        if connection.send([&b"SUBSCRIBE"[..], b"+switch-master"]).await.is_err() {
            return false;
        }
        let interval = Duration::from_millis(node.shared.setup.probe_interval_ms.max(10));
        let mut silent = false;
        loop {
            match tokio::time::timeout(interval, connection.frame()).await {
                Ok(Ok((bytes, frame))) => {
                    silent = false;
                    let content = bytes.slice(frame.part(2));
                    let name = content.split(|b| *b == b' ').next().unwrap_or_default();
                    let is_ours = name == self.config.master_name.as_bytes();
                    if frame.kind == b'>' && &bytes[frame.part(0)] == b"message" && is_ours {
                        tracing::warn!(broker = %node.broker, "Sentinel switched the master");
                        node.reconnect();
                    }
                }
                Ok(Err(_)) => return true,
                Err(_) if silent => return true,
                Err(_) => {
                    silent = true;
                    if connection.send([&b"PING"[..]]).await.is_err() {
                        return true;
                    }
                }
            }
        }
    }
}
