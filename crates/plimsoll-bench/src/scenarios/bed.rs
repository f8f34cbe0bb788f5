//! The server of a run, and where its figures come from.

use super::{Common, about};
use crate::fleet::{Fleet, FleetConfig, Target};
use crate::ledger::Judgement;
use crate::report::Summary;
use crate::scrape::{Endpoint, Metrics, resolve};
use crate::server::{OwnServer, ServerSetup, Usage, pin_this_thread};
use crate::topology::Topology;
use rustix::process::{Resource, getrlimit, setrlimit};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

/// How long a server may take to accept the first connection.
const PATIENCE: Duration = Duration::from_secs(5);
/// Descriptors besides those of the connections.
const SPARE_DESCRIPTORS: u64 = 200;
/// Path of the protocol on our server, and on those it is compatible with.
const PATH: &str = "/connection/websocket";

/// A server, our own or another's.
#[derive(Debug)]
pub struct Bed {
    server: Option<OwnServer>,
    /// Where clients connect.
    pub target: Target,
    /// Signs the clients' tokens.
    pub token_secret: Option<String>,
    metrics: Option<Endpoint>,
    pid: Option<u32>,
}

impl Bed {
    /// Starts a server by `setup`, or looks whether the one of `--url` is there.
    pub fn prepare(common: &Common, clients: u32, setup: ServerSetup) -> Result<Self, String> {
        common.check(clients)?;
        let own = common.url.is_none();
        descriptors(clients, common.processes as u64, own)?;
        let bed = match &common.url {
            Some(url) => Self::of_another(common, url)?,
            None => Self::of_our_own(common, setup)?,
        };
        if !common.core.is_empty() {
            pin_this_thread(&common.core).map_err(about("--core"))?;
        }
        Ok(bed)
    }

    fn of_our_own(common: &Common, mut setup: ServerSetup) -> Result<Self, String> {
        let secret = format!("{:032x}{:032x}", fastrand::u128(..), fastrand::u128(..));
        setup.token_secret = Some(secret.clone());
        setup.workers = common.workers;
        setup.cores = (!common.server_core.is_empty()).then(|| common.server_core.clone());
        setup.cgroup.clone_from(&common.server_cgroup);
        let server = OwnServer::start(&setup)?;
        let address = server.address();
        let target = Target { address, host: address.to_string(), path: PATH.into() };
        Ok(Self {
            target,
            token_secret: Some(secret),
            metrics: Some(Endpoint::of_admin(server.admin_address())),
            pid: Some(server.pid()),
            server: Some(server),
        })
    }

    fn of_another(common: &Common, url: &str) -> Result<Self, String> {
        let target = target(url).map_err(about(format!("--url {url}")))?;
        let metrics = common.metrics.as_deref();
        let metrics = metrics.map(Endpoint::parse).transpose().map_err(about("--metrics"))?;
        let addresses = [Some(target.address), metrics.as_ref().map(|m| m.address)];
        for address in addresses.into_iter().flatten() {
            allowed(address, common.allow_remote)?;
        }
        TcpStream::connect_timeout(&target.address, PATIENCE).map_err(|error| {
            format!(
                "nobody answers at {url}: {error}. Is the server running? (Without --url a \
                 server is started for the run.)"
            )
        })?;
        Ok(Self {
            server: None,
            target,
            token_secret: common.token_secret.clone(),
            metrics,
            pid: common.server_pid,
        })
    }

    /// Whether the server was started for this run: it starts with counters of 0, and nobody else
    /// is connected to it.
    pub fn is_own(&self) -> bool {
        self.server.is_some()
    }

    /// Where its metrics are, if that is known.
    pub fn endpoint(&self) -> Option<&Endpoint> {
        self.metrics.as_ref()
    }

    /// A fleet for this server.
    pub fn fleet(
        &self,
        common: &Common,
        topology: &Arc<Topology>,
        ledger: bool,
    ) -> Result<Fleet, String> {
        let config = FleetConfig {
            threads: common.threads,
            sources: common.sources,
            token_secret: self.token_secret.clone(),
            reconnect: common.reconnect,
            ledger,
            seed: common.seed,
            processes: common.processes,
            ..FleetConfig::new(self.target.clone(), Arc::clone(topology))
        };
        Fleet::start(config).map_err(about("the fleet does not start"))
    }

    /// What the server used so far; none when there is no way to know.
    pub fn usage(&self) -> Option<Usage> {
        match self.pid {
            Some(pid) => Usage::of(pid).ok(),
            None => self.metrics.as_ref()?.read().ok()?.usage(),
        }
    }

    /// The server's metrics, if it is known where they are.
    pub fn metrics(&self) -> Option<Result<Metrics, String>> {
        self.metrics.as_ref().map(Endpoint::read)
    }

    /// Finds it when our own server has ended, with the end of its log; notes what the figures
    /// lack otherwise.
    pub fn look_after(&mut self, summary: &mut Summary) {
        let unseen = self.pid.is_none() && self.metrics.is_none();
        if unseen {
            let note = "The server's CPU time and memory are not known: give --server-pid or \
                        --metrics.";
            summary.notes.push(note.into());
        }
        let Some(server) = &mut self.server else { return };
        if !server.is_alive() {
            let log = server.log_tail();
            let text = format!("the server ended before the run did; its log:\n{log}");
            summary.finds(Judgement::Broken, text);
        }
    }
}

/// Host, port and path of `ws://…`.
fn target(url: &str) -> Result<Target, String> {
    if url.starts_with("wss://") {
        return Err("TLS is not spoken: put load on the server behind it (ws://)".into());
    }
    let rest = url.strip_prefix("ws://").ok_or("must begin with ws://")?;
    let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    if !url.bytes().all(|b| b.is_ascii_graphic()) {
        return Err("has characters that a URL cannot have".into());
    }
    let path = if path.len() > 1 { path } else { PATH };
    Ok(Target { address: resolve(host, 80)?, host: host.into(), path: path.into() })
}

fn allowed(address: SocketAddr, allow_remote: bool) -> Result<(), String> {
    if address.ip().to_canonical().is_loopback() || allow_remote {
        return Ok(());
    }
    Err(format!(
        "{} is not of this machine: if it is yours, and meant to be put under load, say \
         --allow-remote",
        address.ip()
    ))
}

/// Takes as many descriptors as this process may have, and tells when that is too few.
fn descriptors(clients: u32, processes: u64, own_server: bool) -> Result<(), String> {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    // Where it is not allowed, what there is has to do.
    let _ = setrlimit(Resource::Nofile, limit);
    let have = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let each = u64::from(clients).div_ceil(processes.max(1)) + SPARE_DESCRIPTORS;
    if own_server && u64::from(clients) + SPARE_DESCRIPTORS > have {
        return Err(format!(
            "the server would need more than {clients} descriptors, a process has {have} here: \
             raise the limit (ulimit -n), or use fewer clients"
        ));
    }
    if each > have {
        let enough = u64::from(clients).div_ceil(have.saturating_sub(SPARE_DESCRIPTORS).max(1));
        return Err(format!(
            "{clients} clients need more descriptors than the {have} of a process: \
             --processes {enough}"
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls() {
        let check = |url: &str| target(url).map(|t| (t.address.to_string(), t.host, t.path));
        let ok = |address: &str, host: &str, path: &str| {
            Ok((address.to_owned(), host.to_owned(), path.to_owned()))
        };
        assert_eq!(check("ws://127.0.0.1:8000"), ok("127.0.0.1:8000", "127.0.0.1:8000", PATH));
        assert_eq!(check("ws://127.0.0.1:8000/"), ok("127.0.0.1:8000", "127.0.0.1:8000", PATH));
        assert_eq!(check("ws://[::1]/a?b=c"), ok("[::1]:80", "[::1]", "/a?b=c"));
        for bad in ["", "http://127.0.0.1/", "wss://127.0.0.1/", "ws://", "ws://127.0.0.1/a\r\nb"] {
            assert!(check(bad).is_err(), "{bad}");
        }
        assert!(check("wss://127.0.0.1/").unwrap_err().contains("TLS"));
    }

    #[test]
    fn only_this_machine_unless_allowed() {
        let check = |address: &str, remote| allowed(address.parse().unwrap(), remote).is_ok();
        assert!(check("127.0.0.1:1", false));
        assert!(check("127.9.9.9:1", false));
        assert!(check("[::1]:1", false));
        assert!(check("[::ffff:127.0.0.1]:1", false));
        assert!(!check("192.0.2.1:1", false));
        assert!(!check("0.0.0.0:1", false));
        assert!(!check("[2001:db8::1]:1", false));
        assert!(check("192.0.2.1:1", true));
    }

    #[test]
    fn descriptors_are_counted() {
        assert!(descriptors(10, 1, true).is_ok());
        let have = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        if let Ok(many) = u32::try_from(have) {
            assert!(descriptors(many, 1, true).unwrap_err().contains("ulimit"));
            assert!(descriptors(many, 1, false).unwrap_err().ends_with("--processes 2"));
            assert!(descriptors(many, 2, false).is_ok());
        }
    }
}
