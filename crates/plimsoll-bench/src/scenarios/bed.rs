//! The server of a run, and where its figures come from.

use super::{Common, about};
use crate::cluster::Nodes;
use crate::fleet::{Fleet, FleetConfig, Target};
use crate::ledger::Judgement;
use crate::report::Summary;
use crate::scrape::{Endpoint, Metrics, resolve};
use crate::server::{OwnServer, ServerSetup, Usage, pin_this_thread, sum};
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

/// A server or the nodes of a cluster, our own or another's.
#[derive(Debug)]
pub struct Bed {
    server: Option<OwnServer>,
    cluster: Option<Arc<Nodes>>,
    /// Where clients connect: at least one.
    pub targets: Vec<Target>,
    /// Signs the clients' tokens.
    pub token_secret: Option<String>,
    metrics: Vec<Endpoint>,
    pids: Vec<u32>,
}

impl Bed {
    /// Starts a server by `setup`, or looks whether the one of `--url` is there.
    pub fn prepare(common: &Common, clients: u32, setup: ServerSetup) -> Result<Self, String> {
        common.check(clients)?;
        let own = common.url.is_empty();
        descriptors(clients, common.processes as u64, own)?;
        let bed = match own {
            false => Self::of_another(common)?,
            true => Self::of_our_own(common, setup)?,
        };
        if !common.core.is_empty() {
            pin_this_thread(&common.core).map_err(about("--core"))?;
        }
        Ok(bed)
    }

    /// For the nodes of a cluster of our own, whose clients connect to `addresses`.
    pub fn of_cluster(
        common: &Common,
        clients: u32,
        nodes: Arc<Nodes>,
        addresses: &[SocketAddr],
    ) -> Result<Self, String> {
        common.check(clients)?;
        descriptors(clients, common.processes as u64, true)?;
        if !common.core.is_empty() {
            pin_this_thread(&common.core).map_err(about("--core"))?;
        }
        Ok(Self {
            server: None,
            targets: addresses.iter().copied().map(own_target).collect(),
            token_secret: Some(nodes.token_secret().to_owned()),
            metrics: Vec::new(),
            pids: Vec::new(),
            cluster: Some(nodes),
        })
    }

    /// Where a client that speaks to one node only connects.
    pub fn target(&self) -> &Target {
        // There is at least one.
        match self.targets.first() {
            Some(target) => target,
            None => unreachable!("a bed has a target"),
        }
    }

    fn of_our_own(common: &Common, mut setup: ServerSetup) -> Result<Self, String> {
        let secret = format!("{:032x}{:032x}", fastrand::u128(..), fastrand::u128(..));
        setup.token_secret = Some(secret.clone());
        setup.workers = common.workers;
        setup.cores = (!common.server_core.is_empty()).then(|| common.server_core.clone());
        setup.cgroup.clone_from(&common.server_cgroup);
        let server = OwnServer::start(&setup)?;
        let address = server.address();
        Ok(Self {
            targets: vec![own_target(address)],
            token_secret: Some(secret),
            metrics: vec![Endpoint::of_admin(server.admin_address())],
            pids: vec![server.pid()],
            server: Some(server),
            cluster: None,
        })
    }

    fn of_another(common: &Common) -> Result<Self, String> {
        let target = |url: &String| target(url).map_err(about(format!("--url {url}")));
        let targets = common.url.iter().map(target).collect::<Result<Vec<_>, _>>()?;
        let metrics = common.metrics.iter().map(|url| Endpoint::parse(url));
        let metrics = metrics.collect::<Result<Vec<_>, _>>().map_err(about("--metrics"))?;
        let addresses = targets.iter().map(|t| t.address);
        for address in addresses.chain(metrics.iter().map(|m| m.address)) {
            allowed(address, common.allow_remote)?;
        }
        for (target, url) in targets.iter().zip(&common.url) {
            TcpStream::connect_timeout(&target.address, PATIENCE).map_err(|error| {
                format!(
                    "nobody answers at {url}: {error}. Is the server running? (Without --url a \
                     server is started for the run.)"
                )
            })?;
        }
        Ok(Self {
            server: None,
            cluster: None,
            targets,
            token_secret: common.token_secret.clone(),
            metrics,
            pids: common.server_pid.clone(),
        })
    }

    /// Whether the server was started for this run: it starts with counters of 0, and nobody else
    /// is connected to it.
    pub fn is_own(&self) -> bool {
        self.server.is_some() || self.cluster.is_some()
    }

    /// Where the metrics of its first node are, if that is known.
    pub fn endpoint(&self) -> Option<&Endpoint> {
        self.metrics.first()
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
            targets: self.targets.clone(),
            ..FleetConfig::new(self.target().clone(), Arc::clone(topology))
        };
        Fleet::start(config).map_err(about("the fleet does not start"))
    }

    /// What the server used so far; none when there is no way to know.
    /// Of several nodes it is the sum; none while one of them is not there.
    pub fn usage(&self) -> Option<Usage> {
        if let Some(nodes) = &self.cluster {
            return nodes.usage();
        }
        match self.pids.is_empty() {
            false => sum(self.pids.iter().map(|pid| Usage::of(*pid).ok())),
            true => sum(self.metrics.iter().map(|metrics| metrics.read().ok()?.usage())),
        }
    }

    /// The metrics of server or nodes together, if it is known where they are.
    pub fn metrics(&self) -> Option<Result<Metrics, String>> {
        let endpoints = match &self.cluster {
            Some(nodes) => nodes.endpoints(),
            None => self.metrics.clone(),
        };
        let mut all: Option<Metrics> = None;
        for endpoint in &endpoints {
            match endpoint.read() {
                Err(error) => return Some(Err(error)),
                Ok(more) => match &mut all {
                    Some(all) => all.add(&more),
                    None => all = Some(more),
                },
            }
        }
        all.map(Ok)
    }

    /// Finds it when our own server has ended, with the end of its log; notes what the figures
    /// lack otherwise.
    pub fn look_after(&mut self, summary: &mut Summary) {
        let unseen = self.pids.is_empty() && self.metrics.is_empty() && self.cluster.is_none();
        if unseen {
            let note = "The server's CPU time and memory are not known: give --server-pid or \
                        --metrics.";
            summary.notes.push(note.into());
        }
        if let Some(nodes) = &self.cluster {
            nodes.look_after(summary);
        }
        let Some(server) = &mut self.server else { return };
        if !server.is_alive() {
            let log = server.log_tail();
            let text = format!("the server ended before the run did; its log:\n{log}");
            summary.finds(Judgement::Broken, text);
        }
    }
}

fn own_target(address: SocketAddr) -> Target {
    Target { address, host: address.to_string(), path: PATH.into() }
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
