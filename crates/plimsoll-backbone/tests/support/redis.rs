//! Redis servers of one's own: on free ports, in a directory of their own, ended with the test.
#![allow(dead_code, clippy::unwrap_used, clippy::panic)]

use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A server that ends when it is dropped.
pub struct Server {
    binary: PathBuf,
    arguments: Vec<String>,
    child: Option<Child>,
    pub port: u16,
    directory: tempfile::TempDir,
}

/// A free port, by asking for one. Cluster nodes use the port 10,000 above as well.
pub fn free_port() -> u16 {
    for _ in 0..200 {
        let port = TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port();
        if port < 50_000 && TcpListener::bind(("127.0.0.1", port + 10_000)).is_ok() {
            return port;
        }
    }
    panic!("no free port");
}

/// Debian's Redis.
pub fn redis_binary() -> PathBuf {
    let path = Path::new("/usr/bin/redis-server");
    assert!(path.exists(), "redis-server is missing: install Debian's redis-server");
    path.into()
}

/// Valkey, where `cargo xtask brokers` puts it.
pub fn valkey_binary() -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/brokers/valkey-server");
    assert!(path.exists(), "valkey-server is missing: run `cargo xtask brokers`");
    path
}

impl Server {
    pub fn start(binary: PathBuf, arguments: &[&str]) -> Self {
        let mut server = Self {
            binary,
            arguments: arguments.iter().map(|a| (*a).to_owned()).collect(),
            child: None,
            port: free_port(),
            directory: tempfile::tempdir().unwrap(),
        };
        server.resume();
        server
    }

    /// With defaults: nothing is written to disk.
    pub fn redis(arguments: &[&str]) -> Self {
        Self::start(redis_binary(), arguments)
    }

    /// Debian's Sentinel, with these lines of configuration.
    pub fn sentinel(config: &str) -> Self {
        let binary = Path::new("/usr/bin/redis-sentinel");
        assert!(binary.exists(), "redis-sentinel is missing: install Debian's redis-sentinel");
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("sentinel.conf"), config).unwrap();
        let (port, arguments) = (free_port(), Vec::new());
        let mut server = Self { binary: binary.into(), arguments, child: None, port, directory };
        server.resume();
        server
    }

    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    pub fn pid(&self) -> u32 {
        self.child.as_ref().unwrap().id()
    }

    /// Starts it (again), with what it has on disk, and waits until it answers.
    pub fn resume(&mut self) {
        assert!(self.child.is_none());
        let log = std::fs::File::create(self.directory.path().join("stdout")).unwrap();
        let mut command = Command::new(&self.binary);
        command.current_dir(self.directory.path()).stdin(Stdio::null()).stdout(log);
        if self.binary.ends_with("redis-sentinel") {
            command.arg(self.directory.path().join("sentinel.conf"));
        } else {
            command.args(["--save", "", "--appendonly", "no", "--bind", "127.0.0.1"]);
        }
        command.args(["--port", &self.port.to_string(), "--dir", "."]).args(&self.arguments);
        self.child = Some(command.spawn().unwrap());
        wait("the server listens", Duration::from_secs(10), || {
            TcpStream::connect(("127.0.0.1", self.plain_port())).is_ok()
        });
    }

    fn plain_port(&self) -> u16 {
        let tls = self.arguments.iter().position(|a| a == "--tls-port");
        tls.map_or(self.port, |at| self.arguments[at + 1].parse().unwrap())
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    pub fn signal(&self, signal: &str) {
        let pid = self.pid().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
    }

    /// Runs `redis-cli`.
    pub fn cli(&self, arguments: &[&str]) -> String {
        let port = self.port.to_string();
        let out = Command::new("redis-cli").args(["-p", &port]).args(arguments).output().unwrap();
        String::from_utf8_lossy(&out.stdout).trim_end().to_owned()
    }

    /// Runs `redis-cli` with a last argument from its input, which may have any bytes.
    pub fn cli_with(&self, arguments: &[&str], last: &[u8]) -> String {
        let port = self.port.to_string();
        let mut child = Command::new("redis-cli")
            .args(["-p", &port, "-x"])
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(last).unwrap();
        let out = child.wait_with_output().unwrap();
        String::from_utf8_lossy(&out.stdout).trim_end().to_owned()
    }

    /// How many connections have this name.
    pub fn named(&self, name: &str) -> usize {
        let word = format!("name={name}");
        self.cli(&["CLIENT", "LIST"]).lines().filter(|l| l.split(' ').any(|w| w == word)).count()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(child) = &self.child {
            // A stopped one does not end by SIGKILL's sibling; CONT does no harm.
            let _ = Command::new("kill").args(["-CONT", &child.id().to_string()]).status();
        }
        self.kill();
    }
}

/// Polls until it is so.
pub fn wait(what: &str, limit: Duration, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + limit;
    while !is_so() {
        assert!(Instant::now() < deadline, "not within {limit:?}: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Masters and replicas of one Redis Cluster.
pub struct Cluster {
    pub servers: Vec<Server>,
}

impl Cluster {
    /// So many servers, so many replicas of each master.
    pub fn start(servers: usize, replicas: usize) -> Self {
        Self::start_with(&redis_binary(), servers, replicas, 2_000)
    }

    /// With a time after which a master that does not answer is replaced.
    pub fn start_with(binary: &Path, servers: usize, replicas: usize, timeout_ms: u64) -> Self {
        let timeout_ms = timeout_ms.to_string();
        let arguments = [
            "--cluster-enabled",
            "yes",
            "--cluster-node-timeout",
            &timeout_ms,
            "--cluster-require-full-coverage",
            "no",
            "--repl-diskless-sync-delay",
            "0",
        ];
        let servers: Vec<_> =
            (0..servers).map(|_| Server::start(binary.into(), &arguments)).collect();
        let addresses: Vec<_> = servers.iter().map(Server::address).collect();
        let replicas = replicas.to_string();
        let mut command = vec!["--cluster", "create"];
        command.extend(addresses.iter().map(String::as_str));
        command.extend(["--cluster-replicas", &replicas, "--cluster-yes"]);
        let out = servers[0].cli(&command);
        let cluster = Self { servers };
        wait(&out, Duration::from_secs(30), || {
            cluster.servers.iter().all(|s| {
                let nodes = s.cli(&["CLUSTER", "NODES"]);
                let known = nodes.lines().count() == cluster.servers.len();
                let ok = s.cli(&["CLUSTER", "INFO"]).contains("cluster_state:ok");
                let in_step = !s.cli(&["INFO", "replication"]).contains("master_link_status:down");
                known && ok && in_step && (replicas == "0" || nodes.contains("slave"))
            })
        });
        cluster
    }

    pub fn is_master(&self, server: &Server) -> bool {
        server.cli(&["ROLE"]).starts_with("master")
    }
}
