//! NATS servers of one's own: on free ports, in a directory of their own, ended with the test.
#![allow(dead_code, clippy::unwrap_used, clippy::panic)]

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The server of the distribution (2.9 on Debian 12), or a newer one that `cargo xtask brokers`
/// has fetched.
pub fn binary(newer: bool) -> PathBuf {
    if newer {
        let fetched = concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/brokers/nats-server");
        assert!(
            std::path::Path::new(fetched).is_file(),
            "a newer nats-server is missing: run `cargo xtask brokers`"
        );
        return fetched.into();
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path)
        .chain(["/usr/sbin".into()])
        .map(|d| d.join("nats-server"))
        .find(|f| f.is_file());
    found.unwrap_or_else(|| panic!("nats-server is missing: apt-get install nats-server"))
}

/// A free port, by asking for one.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A server that ends when it is dropped.
pub struct Server {
    binary: PathBuf,
    arguments: Vec<String>,
    child: Option<Child>,
    pub port: u16,
    directory: tempfile::TempDir,
}

impl Server {
    /// One server with JetStream.
    pub fn start(newer: bool) -> Self {
        Self::with(newer, free_port(), &[])
    }

    /// One with more arguments.
    pub fn with(newer: bool, port: u16, more: &[String]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store = directory.path().join("js").display().to_string();
        let mut arguments: Vec<String> =
            ["-a", "127.0.0.1", "-p", &port.to_string(), "-js", "-sd", &store]
                .map(str::to_owned)
                .into();
        arguments.extend_from_slice(more);
        let mut server = Self { binary: binary(newer), arguments, child: None, port, directory };
        server.up();
        server
    }

    /// Three servers of one cluster.
    pub fn three(newer: bool) -> Vec<Self> {
        let routes: Vec<u16> = (0..3).map(|_| free_port()).collect();
        let all: Vec<String> = routes.iter().map(|p| format!("nats://127.0.0.1:{p}")).collect();
        let all = all.join(",");
        let one = |n: usize| {
            let route = format!("nats://127.0.0.1:{}", routes[n]);
            let more = ["--cluster_name", "test", "--cluster", &route, "--routes", &all, "-n"];
            let mut more: Vec<String> = more.map(str::to_owned).into();
            more.push(format!("n{n}"));
            Self::with(newer, free_port(), &more)
        };
        (0..3).map(one).collect()
    }

    pub fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }

    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// Starts it (again), with what it had stored.
    pub fn up(&mut self) {
        let log = std::fs::File::create(self.directory.path().join("log")).unwrap();
        let child = Command::new(&self.binary)
            .args(&self.arguments)
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap_or_else(|e| panic!("{}: {e}", self.binary.display()));
        self.child = Some(child);
        let deadline = Instant::now() + Duration::from_secs(10);
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            assert!(Instant::now() < deadline, "nats-server did not start");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Ends it at once.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// What it had stored is gone.
    pub fn forget(&self) {
        let _ = std::fs::remove_dir_all(self.directory.path().join("js"));
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}
