//! A Redis of the test's own, on a free loopback port.

use crate::wait;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// From the start of the process until it accepts connections.
const START: Duration = Duration::from_secs(20);

/// A running Redis, killed when dropped.
pub struct Redis {
    child: Child,
    address: SocketAddr,
    _dir: tempfile::TempDir,
}

impl Redis {
    /// Starts one that keeps nothing on disk.
    #[allow(clippy::new_without_default, reason = "it starts a process")]
    pub fn start() -> Self {
        let dir = tempfile::tempdir().expect("a directory for Redis");
        let address = TcpListener::bind("127.0.0.1:0")
            .and_then(|listener| listener.local_addr())
            .expect("a free port");
        let port = address.port().to_string();
        let child = Command::new("redis-server")
            .args(["--bind", "127.0.0.1", "--port", &port, "--save", "", "--appendonly", "no"])
            .current_dir(dir.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .expect("redis-server starts: install it (apt-get install redis-server)");
        let made = Self { child, address, _dir: dir };
        let up = || TcpStream::connect(made.address).is_ok();
        assert!(wait::until(START, up), "redis-server does not accept connections");
        made
    }

    /// As a setting of a node.
    pub fn url(&self) -> String {
        format!("redis://{}", self.address)
    }

    /// What it answers to a command.
    pub fn command(&self, words: &[&str]) -> String {
        let port = self.address.port().to_string();
        let output = Command::new("redis-cli")
            .args(["-p", &port])
            .args(words)
            .stdin(Stdio::null())
            .output()
            .expect("redis-cli starts");
        assert!(output.status.success(), "redis-cli {words:?}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
