//! The real binary, as a process of its own.

use crate::http::{self, Response};
use crate::metrics::Scrape;
use crate::wait;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::{Mutex, mpsc};
use std::thread;
use std::time::Duration;

/// From the start of the process to its two addresses.
const START: Duration = Duration::from_secs(20);
/// From the signal to the end of the process.
const STOP: Duration = Duration::from_secs(5);

/// A running server; ended when dropped.
pub struct Server {
    child: Mutex<Child>,
    pid: u32,
    clients: SocketAddr,
    admin: SocketAddr,
    dir: tempfile::TempDir,
}

impl Server {
    /// Starts a server with this configuration, on free ports of the loopback interface. Its load
    /// line is off: what is refused must not depend on what else this machine does.
    pub fn start(config: &str) -> Self {
        Self::start_with(config, &[("PLIMSOLL_OVERLOAD_ENABLED", "false")])
    }

    /// Like [`Server::start`], with these variables in its environment, and with the load line
    /// unless one of them says otherwise.
    pub fn start_with(config: &str, variables: &[(&str, &str)]) -> Self {
        Self::spawn(command(), config, variables)
    }

    /// Like [`Server::start_with`], with a limit of open descriptors, soft and hard: the server
    /// raises the soft one to the hard one.
    pub fn start_limited(config: &str, variables: &[(&str, &str)], descriptors: usize) -> Self {
        let mut limited = Command::new("prlimit");
        limited.arg(format!("--nofile={descriptors}:{descriptors}")).arg(binary());
        Self::spawn(clean(limited), config, variables)
    }

    fn spawn(mut command: Command, config: &str, variables: &[(&str, &str)]) -> Self {
        let dir = tempfile::tempdir().expect("a directory for the configuration");
        let file = dir.path().join("plimsoll.toml");
        fs::write(&file, config).expect("the configuration is written");
        let log = File::create(dir.path().join("log")).expect("a file for the log");
        let mut child = command
            .args(["serve", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"])
            .arg("--config")
            .arg(&file)
            .envs(variables.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .expect("the server's process starts");
        let pid = child.id();
        let lines = follow(child.stdout.take().expect("standard output is a pipe"));
        let addresses = addresses(&lines);
        let Some((clients, admin)) = addresses else {
            let _ = child.kill();
            let _ = child.wait();
            let log = fs::read_to_string(dir.path().join("log")).unwrap_or_default();
            panic!("the server has not told its two addresses; its log:\n{log}");
        };
        Self { child: Mutex::new(child), pid, clients, admin, dir }
    }

    /// Where clients and API callers connect.
    pub fn clients(&self) -> SocketAddr {
        self.clients
    }

    /// Where metrics, health and admin calls are answered.
    pub fn admin(&self) -> SocketAddr {
        self.admin
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Has the process not ended?
    pub fn is_alive(&self) -> bool {
        let mut child = self.child.lock().expect("nobody panicked holding the child");
        matches!(child.try_wait(), Ok(None))
    }

    /// Ends the process at once (SIGKILL).
    pub fn kill(&self) {
        let mut child = self.child.lock().expect("nobody panicked holding the child");
        let _ = child.kill();
        let _ = child.wait();
    }

    /// Bytes of memory the process has in RAM.
    pub fn rss(&self) -> u64 {
        let text = fs::read_to_string(format!("/proc/{}/status", self.pid)).unwrap_or_default();
        let line = text.lines().find_map(|l| l.strip_prefix("VmRSS:"));
        let kilobytes: Option<u64> =
            line.and_then(|l| l.trim().trim_end_matches("kB").trim().parse().ok());
        1024 * kilobytes.unwrap_or_else(|| panic!("the server (pid {}) is gone", self.pid))
    }

    /// Processor time used by all its threads so far.
    pub fn cpu(&self) -> Duration {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.pid)).expect("the server lives");
        let nanos = tasks.flatten().filter_map(|task| {
            let text = fs::read_to_string(task.path().join("schedstat")).ok()?;
            text.split(' ').next()?.parse::<u64>().ok()
        });
        Duration::from_nanos(nanos.sum())
    }

    /// The metrics now.
    pub fn metrics(&self) -> Scrape {
        let response = http::get(self.admin, "/metrics");
        assert_eq!(response.status, 200, "/metrics: {}", response.text());
        Scrape::parse(&response.text())
    }

    /// Calls the HTTP API without a key and returns the result; an error fails the test.
    pub fn api(&self, method: &str, params: &serde_json::Value) -> serde_json::Value {
        let response = self.api_response(method, &params.to_string());
        assert_eq!(response.status, 200, "api {method}: {}", response.text());
        let body: serde_json::Value =
            serde_json::from_str(&response.text()).expect("the API answers JSON");
        assert!(body.get("error").is_none(), "api {method} {params}: {body}");
        body.get("result").cloned().unwrap_or_else(|| panic!("api {method}: no result in {body}"))
    }

    /// Calls the HTTP API with any body and returns whatever it answers.
    pub fn api_response(&self, method: &str, body: &str) -> Response {
        http::post(self.clients, &format!("/api/{method}"), body)
    }

    /// The end of the log, for messages.
    pub fn log_tail(&self) -> String {
        let log = fs::read_to_string(self.dir.path().join("log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let Ok(mut child) = self.child.lock() else { return };
        if thread::panicking() {
            eprintln!("the end of the server's log:\n{}", self.log_tail());
        }
        let pid = i32::try_from(self.pid).ok().and_then(rustix::process::Pid::from_raw);
        if let (Ok(None), Some(pid)) = (child.try_wait(), pid) {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        if !wait::until(STOP, || !matches!(child.try_wait(), Ok(None))) {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// The binary with these arguments, to its end: whether it succeeded, and what it said on standard
/// output and standard error.
pub fn run<S: AsRef<OsStr>>(arguments: &[S]) -> (bool, String, String) {
    let output =
        command().args(arguments).stdin(Stdio::null()).output().expect("the process starts");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.success(), text(&output.stdout), text(&output.stderr))
}

/// Settings come from files and arguments alone; `PLIMSOLL_BIN` would be an unknown one.
fn command() -> Command {
    clean(Command::new(binary()))
}

fn clean(mut command: Command) -> Command {
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("PLIMSOLL_") {
            command.env_remove(name);
        }
    }
    command
}

/// `PLIMSOLL_BIN`, or the release build beside the one of this test.
fn binary() -> PathBuf {
    let given = std::env::var_os("PLIMSOLL_BIN").map(PathBuf::from);
    let file = given.unwrap_or_else(|| {
        let own = std::env::current_exe().expect("a test knows its own path");
        // TARGET/PROFILE/deps/TEST
        let target = own.ancestors().nth(3).expect("a test lies in a target directory");
        target.join("release/plimsoll")
    });
    assert!(
        file.is_file(),
        "{} is missing: build it by `cargo build --release`, or set PLIMSOLL_BIN",
        file.display()
    );
    file
}

/// Lines of the output as they come. Reads to the end, or the pipe would fill up.
fn follow(pipe: ChildStdout) -> mpsc::Receiver<String> {
    let (lines, received) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(pipe).lines().map_while(Result::ok) {
            let _ = lines.send(line);
        }
    });
    received
}

fn addresses(lines: &mpsc::Receiver<String>) -> Option<(SocketAddr, SocketAddr)> {
    let (mut clients, mut admin) = (None, None);
    let deadline = std::time::Instant::now() + START;
    while clients.is_none() || admin.is_none() {
        let left = deadline.saturating_duration_since(std::time::Instant::now());
        let line = lines.recv_timeout(left).ok()?;
        let address = |name: &str| -> Option<SocketAddr> {
            let url = line.trim().strip_prefix(name)?.trim().strip_prefix("http://")?;
            url.trim_end_matches('/').parse().ok()
        };
        clients = clients.or_else(|| address("clients:"));
        admin = admin.or_else(|| address("admin:"));
    }
    Some((clients?, admin?))
}
