//! A server, a fleet on it, and the steps that are measured with both.

use super::plan::Plan;
use super::window::{self, Asked, Reading};
use crate::fleet::reconnect::Profile;
use crate::fleet::{Counters, Fleet, FleetConfig, Load, Target};
use crate::server::{OwnServer, ServerSetup, Usage};
use crate::topology::Topology;
use plimsoll_capacity::measured::Step;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

/// Where the JSON protocol is spoken.
const PATH: &str = "/connection/websocket";
/// How long a crowd may take to connect.
const GATHER: Duration = Duration::from_secs(30);
/// How long the server may take to close what its clients have closed.
const CLOSES: Duration = Duration::from_secs(2);
/// Descriptors of a server without clients: listeners, epolls, wakers and files of each worker.
const OWN_DESCRIPTORS: u64 = 200;
/// Connects per second of a crowd that gathers without being measured.
const GATHER_PER_S: f64 = 4_000.0;
/// Signs the tokens of the ramps' clients. It protects nothing: the server is on loopback, ends
/// with the ramp, and everybody on it may do everything.
const TOKEN_SECRET: &str = "the ramps' own server has no secrets";

/// Where a ramp runs.
#[derive(Clone, Debug)]
pub struct Place {
    /// A server that runs already, and its process if known; none: a new one for each ramp.
    pub given: Option<(Target, Option<u32>)>,
    /// Workers of a server of our own.
    pub workers: usize,
    /// Processors of a server of our own.
    pub server_cores: Vec<usize>,
    /// Threads of the fleet.
    pub threads: usize,
    /// Whether the fleet has its cores for itself. Then it does not sleep: to wake a sleeper on
    /// the next core costs several times what a send costs, falls upon the server, and gets rare
    /// as the load grows. No server pays for that whose clients are elsewhere.
    pub awake: bool,
}

/// What a stage is set up for.
#[derive(Clone, Debug)]
pub struct Scene {
    /// Who is in which channel.
    pub topology: Topology,
    /// When clients come back that were cut.
    pub reconnect: Profile,
    /// Whether connects bring a token. For a given server they never do.
    pub tokens: bool,
}

impl Scene {
    /// Clients with tokens that come back soon.
    pub fn new(topology: Topology) -> Self {
        Self { topology, reconnect: Profile::Paced(200), tokens: true }
    }
}

/// A server and a fleet. The fleet goes first.
#[derive(Debug)]
pub struct Stage {
    fleet: Fleet,
    /// What the fleet does now.
    load: Load,
    server: Option<OwnServer>,
    pid: Option<u32>,
    topology: Arc<Topology>,
}

impl Stage {
    /// Starts both; nobody is connected yet.
    pub fn open(place: &Place, scene: Scene) -> Result<Self, String> {
        let topology = Arc::new(scene.topology);
        let own = match &place.given {
            Some(_) => None,
            None => Some(OwnServer::start(&setup(place, scene.tokens))?),
        };
        let (target, pid) = match (&place.given, &own) {
            (Some((target, pid)), _) => (target.clone(), *pid),
            (None, Some(server)) => (target(server.address()), Some(server.pid())),
            (None, None) => return Err("no server".into()),
        };
        let mut config = FleetConfig::new(target, Arc::clone(&topology));
        config.threads = place.threads;
        config.reconnect = scene.reconnect;
        if own.is_some() {
            // More source addresses than one: a port is not free again for a minute.
            config.sources = 32;
            config.token_secret = scene.tokens.then(|| TOKEN_SECRET.to_owned());
        }
        let fleet = Fleet::start(config).map_err(|error| format!("the fleet: {error}"))?;
        if place.awake {
            fleet.stay_awake();
        }
        Ok(Self { fleet, load: Load::default(), server: own, pid, topology })
    }

    /// Whether it is known what the server uses.
    pub fn knows_usage(&self) -> bool {
        self.pid.is_some()
    }

    /// What the server uses now.
    pub fn usage(&self) -> Option<Usage> {
        self.pid.and_then(|pid| Usage::of(pid).ok())
    }

    /// What happened until now.
    pub fn counters(&self) -> Counters {
        self.fleet.counters()
    }

    /// Gives the fleet something else to do.
    pub fn apply(&mut self, load: Load) {
        self.load = load;
        self.fleet.apply(&self.load);
    }

    /// Everybody connects and subscribes, and nothing else happens.
    pub fn gather(&mut self) -> Result<(), String> {
        self.gather_some(self.topology.clients())
    }

    /// The first `clients` connect and subscribe; the others go.
    pub fn gather_some(&mut self, clients: u32) -> Result<(), String> {
        let load = Load { clients, connects_per_s: GATHER_PER_S, ..Load::default() };
        self.apply(load);
        self.reach(clients)
    }

    /// Waits until the server has closed what its clients have closed: otherwise that is a part of
    /// the next step.
    pub fn wait_for_closes(&self) {
        let end = Instant::now() + CLOSES;
        let closed = || self.usage().is_some_and(|usage| usage.descriptors <= OWN_DESCRIPTORS);
        while !closed() && Instant::now() < end {
            sleep_s(0.02);
        }
        sleep_s(0.1);
    }

    /// Waits until exactly these clients are connected, and all their subscriptions stand.
    fn reach(&mut self, clients: u32) -> Result<(), String> {
        let of = |client| self.topology.channels_of(client).len() as u64;
        let subscriptions: u64 = (0..clients).map(of).sum();
        let mut seen = (0, 0);
        let there = self.fleet.wait(GATHER, &mut |counters| {
            seen = (counters.connected, counters.subscribed);
            seen == (u64::from(clients), subscriptions)
        });
        if there {
            return Ok(());
        }
        let counters = self.counters();
        let log = self.server.as_ref().map(OwnServer::log_tail).unwrap_or_default();
        Err(format!(
            "{seen:?} of {clients} clients and {subscriptions} subscriptions are there; failures \
             {:?}, closes {:?}, errors {:?} {log}",
            counters.failures, counters.closes, counters.errors
        ))
    }

    /// Looks at fleet and server.
    pub fn read(&self) -> Reading {
        // The server's clock between two looks at the fleet would be best; a look at the fleet
        // takes far less than a millisecond.
        let usage = self.usage();
        Reading { counters: self.fleet.counters(), usage }
    }

    /// Applies a load, lets it settle, and measures.
    pub fn measure(&mut self, plan: &Plan, asked: Asked, load: Load) -> Result<Step, String> {
        self.apply(load);
        sleep_s(plan.settle_s());
        self.watch(asked, plan.window_s(), plan.slices)
    }

    /// Measures what goes on.
    pub fn watch(&mut self, asked: Asked, seconds: f64, slices: usize) -> Result<Step, String> {
        let begin = Instant::now();
        let mut readings = vec![self.read()];
        for slice in 1..=slices.max(1) {
            let due = begin + Duration::from_secs_f64(seconds * slice as f64 / slices as f64);
            thread::sleep(due.saturating_duration_since(Instant::now()));
            readings.push(self.read());
        }
        self.lives()?;
        window::step(asked, &readings).ok_or_else(|| "no time passed in a step".to_owned())
    }

    fn lives(&mut self) -> Result<(), String> {
        let Some(server) = &mut self.server else { return Ok(()) };
        if server.is_alive() {
            return Ok(());
        }
        Err(format!("the server ended: {}", server.log_tail()))
    }
}

fn setup(place: &Place, tokens: bool) -> ServerSetup {
    ServerSetup {
        workers: place.workers,
        cores: Some(place.server_cores.clone()),
        // Enough to recover from, and little beside what the ramps measure.
        history_size: 100,
        history_ttl_s: 60,
        token_secret: tokens.then(|| TOKEN_SECRET.to_owned()),
        ..ServerSetup::default()
    }
}

/// The target of `ws://HOST:PORT/PATH`; `http://` will do, and so will no path.
pub fn parse_url(url: &str) -> Result<Target, String> {
    let rest = url.strip_prefix("ws://").or_else(|| url.strip_prefix("http://"));
    let rest = rest.ok_or_else(|| format!("{url:?} does not begin with ws:// or http://"))?;
    let (host, path) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
    let addresses = match host.to_socket_addrs() {
        Ok(addresses) => Ok(addresses),
        Err(_) => (host, 80).to_socket_addrs(),
    };
    let address = addresses.map_err(|error| format!("{host}: {error}"))?.next();
    let address = address.ok_or_else(|| format!("{host} has no address"))?;
    let path = if path.len() > 1 { path } else { PATH };
    Ok(Target { address, host: host.into(), path: path.into() })
}

/// The address as a target of the JSON protocol.
fn target(address: SocketAddr) -> Target {
    Target { address, host: address.to_string(), path: PATH.into() }
}

/// Lets time pass while the fleet works.
pub fn sleep_s(seconds: f64) {
    thread::sleep(Duration::from_secs_f64(seconds.max(0.0)));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls() {
        let check = |url, host: &str, path: &str| {
            let target = parse_url(url).unwrap();
            assert_eq!((target.host.as_str(), target.path.as_str()), (host, path), "{url}");
        };
        check("ws://127.0.0.1:8000/connection/websocket", "127.0.0.1:8000", PATH);
        check("http://127.0.0.1:8000/", "127.0.0.1:8000", PATH);
        check("ws://127.0.0.1/x?y=1", "127.0.0.1", "/x?y=1");
        assert_eq!(parse_url("ws://127.0.0.1").unwrap().address.port(), 80);
        for url in ["", "127.0.0.1:8000", "wss://127.0.0.1/", "ws://", "ws://127.0.0.1:99999/"] {
            assert!(parse_url(url).is_err(), "{url}");
        }
    }
}
