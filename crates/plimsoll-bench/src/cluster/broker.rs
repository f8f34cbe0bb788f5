//! Brokers of our own, and what can be done to them.

use super::free_address;
use super::nats;
use super::process::{Process, run};
use crate::server::{Usage, sum};
use clap::ValueEnum;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

/// For a command to a broker.
const COMMAND: Duration = Duration::from_secs(20);
/// For a Redis Cluster or a NATS cluster to be one, and for slots to move.
const FORM: Duration = Duration::from_secs(60);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(50);
/// Slots that [`Broker::move_slots`] moves: a third of what a master of three has.
const SLOTS_MOVED: u32 = 1_800;

/// What kind of broker: the names are those of `backbone.kind`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub enum BrokerKind {
    /// None: one node.
    Memory,
    /// One Redis.
    Redis,
    /// A Redis Cluster of three masters and three replicas.
    RedisCluster,
    /// NATS without history.
    Nats,
    /// NATS with JetStream.
    Jetstream,
}

impl BrokerKind {
    /// Its name in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Redis => "redis",
            Self::RedisCluster => "redis_cluster",
            Self::Nats => "nats",
            Self::Jetstream => "jetstream",
        }
    }

    fn is_redis(self) -> bool {
        matches!(self, Self::Redis | Self::RedisCluster)
    }

    /// Whether channels have histories on it.
    pub fn has_history(self) -> bool {
        self != Self::Nats
    }

    /// Whether numbers of publications leave out some: a stream of JetStream counts for all of its
    /// channels together.
    pub fn is_sparse(self) -> bool {
        self == Self::Jetstream
    }
}

/// How to start a broker.
#[derive(Clone, Debug)]
pub struct BrokerSetup {
    /// What kind.
    pub kind: BrokerKind,
    /// The program or the directory where programs are looked for first; none: those of `PATH`.
    pub programs: Option<PathBuf>,
    /// Redis writes an append-only file, each second.
    pub durable: bool,
    /// Servers of NATS: 1 or 3.
    pub servers: usize,
}

/// Processes of a broker, killed when dropped.
#[derive(Debug)]
pub struct Broker {
    setup: BrokerSetup,
    processes: Vec<Process>,
    _folder: tempfile::TempDir,
}

impl Broker {
    /// Starts it and waits until it works.
    pub fn start(setup: BrokerSetup) -> Result<Self, String> {
        let folder = tempfile::tempdir().map_err(|e| format!("a temporary directory: {e}"))?;
        let mut made = Self { setup, processes: Vec::new(), _folder: folder };
        let at = made._folder.path().to_owned();
        match made.setup.kind {
            BrokerKind::Memory => {}
            BrokerKind::Redis => made.start_redis(&at, 1)?,
            BrokerKind::RedisCluster => {
                made.start_redis(&at, 6)?;
                made.form()?;
            }
            BrokerKind::Nats | BrokerKind::Jetstream => made.start_nats(&at)?,
        }
        Ok(made)
    }

    /// What kind it is.
    pub fn kind(&self) -> BrokerKind {
        self.setup.kind
    }

    /// Where its servers are.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.processes.iter().map(|process| process.address).collect()
    }

    /// What its servers use together; none while one does not run, or there is none.
    pub fn usage(&self) -> Option<Usage> {
        sum(self.processes.iter().map(|process| Usage::of(process.pid()?).ok()))
    }

    /// Settings of a node that uses it, at these addresses.
    pub fn settings(&self, addresses: &[SocketAddr]) -> Vec<(String, String)> {
        let mut made = vec![("backbone.kind".into(), format!("\"{}\"", self.setup.kind.name()))];
        let (key, scheme) = match self.setup.kind {
            BrokerKind::Memory => return made,
            kind if kind.is_redis() => ("backbone.redis.addresses", "redis"),
            _ => ("backbone.nats.urls", "nats"),
        };
        let urls = addresses.iter().map(|address| format!("\"{scheme}://{address}\""));
        made.push((key.into(), format!("[{}]", urls.collect::<Vec<_>>().join(", "))));
        if self.setup.kind == BrokerKind::Jetstream {
            made.push(("backbone.nats.replicas".into(), self.processes.len().to_string()));
        }
        made
    }

    /// Kills a server (SIGKILL).
    pub fn kill(&mut self, number: usize) {
        if let Some(process) = self.processes.get_mut(number) {
            process.kill();
        }
    }

    /// Starts a killed server again, with nothing of what it had if `empty`.
    pub fn start_again(&mut self, number: usize, empty: bool) -> Result<(), String> {
        let Some(process) = self.processes.get_mut(number) else { return Ok(()) };
        if empty {
            process.empty()?;
        }
        process.start_again()
    }

    /// Stops all servers where they are (SIGSTOP), or lets them go on.
    pub fn pause(&self, paused: bool) {
        self.processes.iter().for_each(|process| process.pause(paused));
    }

    /// Begins to move slots from the first master of a Redis Cluster to the second; the answer
    /// comes when they are moved.
    pub fn move_slots(&self) -> Result<thread::JoinHandle<Result<String, String>>, String> {
        let first = self.processes.first().ok_or("there is no broker")?.address;
        let ids = self.masters()?;
        let [from, to, ..] = ids.as_slice() else { return Err("fewer than two masters".into()) };
        let program = self.program("redis-cli")?;
        let words = [
            "--cluster".to_owned(),
            "reshard".into(),
            first.to_string(),
            "--cluster-from".into(),
            from.clone(),
            "--cluster-to".into(),
            to.clone(),
            "--cluster-slots".into(),
            SLOTS_MOVED.to_string(),
            "--cluster-yes".into(),
        ];
        Ok(thread::spawn(move || run(&program, &words, FORM)))
    }

    /// Has the leader of every stream step down.
    pub fn step_down(&self) -> Result<usize, String> {
        self.for_streams("$JS.API.STREAM.LEADER.STEPDOWN")
    }

    /// Empties every stream.
    pub fn purge(&self) -> Result<usize, String> {
        self.for_streams("$JS.API.STREAM.PURGE")
    }

    fn for_streams(&self, call: &str) -> Result<usize, String> {
        let address = self.processes.first().ok_or("there is no broker")?.address;
        let mut client = nats::Client::open(address)?;
        let streams = client.streams()?;
        for stream in &streams {
            client.ask(&format!("{call}.{stream}"), b"")?;
        }
        Ok(streams.len())
    }

    fn start_redis(&mut self, at: &Path, servers: usize) -> Result<(), String> {
        let program = self.program("redis-server")?;
        for number in 0..servers {
            let address = free_address()?;
            let mut words = vec!["--port".to_owned(), address.port().to_string()];
            let append = if self.setup.durable { "yes" } else { "no" };
            for word in ["--bind", "127.0.0.1", "--save", "", "--appendonly", append] {
                words.push(word.into());
            }
            if servers > 1 {
                for word in ["--cluster-enabled", "yes", "--cluster-node-timeout", "2000"] {
                    words.push(word.into());
                }
            }
            let folder = at.join(format!("redis-{number}"));
            self.processes.push(Process::start(program.clone(), words, folder, address)?);
        }
        Ok(())
    }

    /// Makes a Redis Cluster of the servers.
    fn form(&self) -> Result<(), String> {
        let mut words = vec!["--cluster".to_owned(), "create".into()];
        words.extend(self.addresses().iter().map(SocketAddr::to_string));
        words.extend(["--cluster-replicas", "1", "--cluster-yes"].map(str::to_owned));
        run(&self.program("redis-cli")?, &words, FORM)?;
        let deadline = Instant::now() + FORM;
        for number in 0..self.processes.len() {
            while !self.command(number, &["cluster", "info"])?.contains("cluster_state:ok") {
                if Instant::now() >= deadline {
                    return Err("the Redis Cluster does not come to be".into());
                }
                thread::sleep(LOOK);
            }
        }
        Ok(())
    }

    /// The ids of the masters, the first server's first.
    fn masters(&self) -> Result<Vec<String>, String> {
        let text = self.command(0, &["cluster", "nodes"])?;
        let mut all: Vec<(bool, String)> = text
            .lines()
            .filter(|line| line.contains("master") && !line.contains("fail"))
            .filter_map(|line| Some((!line.contains("myself"), line.split(' ').next()?.into())))
            .collect();
        all.sort();
        Ok(all.into_iter().map(|(_, id)| id).collect())
    }

    /// What a server of Redis answers to a command.
    pub fn command(&self, number: usize, command: &[&str]) -> Result<String, String> {
        let address = self.processes.get(number).ok_or("there is no such server")?.address;
        let mut words = vec!["-p".to_owned(), address.port().to_string()];
        words.extend(command.iter().map(|word| (*word).to_owned()));
        run(&self.program("redis-cli")?, &words, COMMAND)
    }

    fn start_nats(&mut self, at: &Path) -> Result<(), String> {
        let program = self.program("nats-server")?;
        let servers = self.setup.servers.max(1);
        let routes = (0..servers).map(|_| free_address()).collect::<Result<Vec<_>, _>>()?;
        let all: Vec<_> = routes.iter().map(|address| format!("nats://{address}")).collect();
        for (number, route) in routes.iter().enumerate() {
            let address = free_address()?;
            let port = address.port().to_string();
            let mut words = vec!["-a".to_owned(), "127.0.0.1".into(), "-p".into(), port];
            words.extend(["-n".into(), format!("server-{number}")]);
            if self.setup.kind == BrokerKind::Jetstream {
                words.extend(["-js", "-sd", "store"].map(str::to_owned));
            }
            if servers > 1 {
                words.extend(["--cluster_name".into(), "bench".into(), "--cluster".into()]);
                words.extend([format!("nats://{route}"), "--routes".into(), all.join(",")]);
            }
            let folder = at.join(format!("nats-{number}"));
            self.processes.push(Process::start(program.clone(), words, folder, address)?);
        }
        if self.setup.kind == BrokerKind::Jetstream {
            self.wait_for_jetstream()?;
        }
        Ok(())
    }

    fn wait_for_jetstream(&self) -> Result<(), String> {
        let deadline = Instant::now() + FORM;
        loop {
            let ready = self
                .addresses()
                .into_iter()
                .try_for_each(|address| nats::Client::open(address)?.streams().map(drop));
            match ready {
                Ok(()) => return Ok(()),
                Err(why) if Instant::now() >= deadline => {
                    return Err(format!("JetStream does not come to be: {why}"));
                }
                Err(_) => thread::sleep(LOOK),
            }
        }
    }

    fn program(&self, name: &str) -> Result<PathBuf, String> {
        find(name, self.setup.programs.as_deref()).ok_or_else(|| {
            format!("{name} is not there: install it, or say where it is by --broker-bin")
        })
    }
}

/// The program of that name: the one given, the one in a directory given, or the first of `PATH`.
fn find(name: &str, given: Option<&Path>) -> Option<PathBuf> {
    if let Some(given) = given {
        let inside = given.join(name);
        if inside.is_file() {
            return Some(inside);
        }
        if given.is_file() && given.file_name().is_some_and(|file| file == name) {
            return Some(given.to_owned());
        }
    }
    let paths = std::env::var_os("PATH").unwrap_or_default();
    let system = [PathBuf::from("/usr/sbin"), PathBuf::from("/usr/local/sbin")];
    let mut all = std::env::split_paths(&paths).chain(system).map(|folder| folder.join(name));
    all.find(|file| file.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_found() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("redis-server");
        std::fs::write(&file, "").unwrap();
        assert_eq!(find("redis-server", Some(folder.path())), Some(file.clone()));
        assert_eq!(find("redis-server", Some(&file)), Some(file.clone()));
        assert_ne!(find("sh", Some(&file)), Some(file));
        assert!(find("sh", None).is_some_and(|sh| sh.is_file()));
        assert_eq!(find("no such program", Some(folder.path())), None);
    }

    #[test]
    fn nodes_are_told_where_it_is() {
        let broker = |kind| Broker {
            setup: BrokerSetup { kind, programs: None, durable: false, servers: 1 },
            processes: Vec::new(),
            _folder: tempfile::tempdir().unwrap(),
        };
        let addresses = ["127.0.0.1:1", "127.0.0.1:2"].map(|a| a.parse().unwrap());
        let made = broker(BrokerKind::RedisCluster).settings(&addresses);
        let expect = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        assert_eq!(made[0], expect("backbone.kind", "\"redis_cluster\""));
        let urls = "[\"redis://127.0.0.1:1\", \"redis://127.0.0.1:2\"]";
        assert_eq!(made[1], expect("backbone.redis.addresses", urls));
        let made = broker(BrokerKind::Nats).settings(&addresses[..1]);
        assert_eq!(made[1], expect("backbone.nats.urls", "[\"nats://127.0.0.1:1\"]"));
        assert_eq!(broker(BrokerKind::Memory).settings(&[]).len(), 1);
    }
}
