//! A server process of our own, and what a server process uses.

mod affinity;
mod machine;
mod usage;

pub use affinity::{cores_of_this_thread, pin_this_thread};
pub use machine::{descriptor_limit, fingerprint, utc_now};
pub use usage::{Usage, sum};

use crate::limits;
use rustix::process::{Pid, Signal, kill_process};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

/// Namespace of channels with history, recovery and positions.
pub const ROOM: &str = "room:";
/// Namespace of channels without history.
pub const LIVE: &str = "live:";

/// From the start of the process to its two addresses.
const START: Duration = Duration::from_secs(20);
/// From the signal to the end of the process.
const STOP: Duration = Duration::from_secs(10);
/// Between two looks at a process that is about to end.
const LOOK: Duration = Duration::from_millis(5);

/// What kind of server to start.
#[derive(Clone, Debug)]
pub struct ServerSetup {
    /// The program; none: the one that is running.
    pub binary: Option<PathBuf>,
    /// Worker threads; 0: one per core.
    pub workers: usize,
    /// Publications kept per channel of [`ROOM`]; 0: that namespace has no history.
    pub history_size: u32,
    /// Seconds they are kept, at least 1.
    pub history_ttl_s: u32,
    /// Processors it may run on; none: those of the calling thread.
    pub cores: Option<Vec<usize>>,
    /// Directory of a control group it runs in, with the limits that stand there; none: ours.
    pub cgroup: Option<PathBuf>,
    /// Whether joins and leaves are pushed to everybody in a channel of [`ROOM`].
    pub join_leave: bool,
    /// More settings: a key as `client.ping_interval`, and its value as TOML text. They win.
    pub settings: Vec<(String, String)>,
    /// Clients have to bring tokens signed by this; none: everybody may do everything.
    pub token_secret: Option<String>,
}

impl Default for ServerSetup {
    fn default() -> Self {
        Self {
            binary: None,
            workers: 1,
            history_size: 1_000,
            history_ttl_s: 600,
            cores: None,
            cgroup: None,
            join_leave: false,
            settings: Vec::new(),
            token_secret: None,
        }
    }
}

impl ServerSetup {
    /// The configuration file. Addresses are on loopback, with ports that the system chooses.
    fn config(&self) -> String {
        let mut settings: BTreeMap<&str, String> = BTreeMap::from([
            ("server.listen", quoted("127.0.0.1:0")),
            ("server.admin_listen", quoted("127.0.0.1:0")),
            ("server.workers", self.workers.to_string()),
            ("log.level", quoted("warn")),
            ("http_api.insecure", "true".into()),
            ("admin.insecure", "true".into()),
            // What a node carries is measured without anything given up meanwhile.
            ("overload.enabled", "false".into()),
            // One client of the fleet may publish for thousands.
            ("client.message_rate_limit", "0".into()),
            ("client.channel_limit", limits::CHANNELS_PER_CLIENT_MAX.to_string()),
        ]);
        match &self.token_secret {
            None => settings.insert("client.insecure", "true".into()),
            Some(secret) => settings.insert("client.token.hmac_secret_key", quoted(secret)),
        };
        for (key, value) in &self.settings {
            settings.insert(key, value.clone());
        }
        let mut text = String::new();
        for (key, value) in settings {
            text.push_str(&format!("{key} = {value}\n"));
        }
        text.push_str(&self.namespaces());
        text
    }

    fn namespaces(&self) -> String {
        const ALLOWED: &str = "presence = true\n\
            allow_subscribe_for_client = true\n\
            allow_subscribe_for_anonymous = true\n\
            allow_publish_for_client = true\n\
            allow_publish_for_anonymous = true\n\
            allow_presence_for_client = true\n\
            allow_presence_for_anonymous = true\n";
        let history = match self.history_size {
            0 => String::new(),
            size => format!(
                "history_size = {size}\nhistory_ttl = \"{}s\"\n\
                 force_recovery = true\nforce_positioning = true\n\
                 allow_history_for_client = true\nallow_history_for_anonymous = true\n",
                self.history_ttl_s.max(1)
            ),
        };
        let room = format!(
            "[[channel.namespaces]]\nname = \"room\"\n{ALLOWED}{history}\
             join_leave = {told}\nforce_push_join_leave = {told}\n",
            told = self.join_leave,
        );
        format!("{room}[[channel.namespaces]]\nname = \"live\"\n{ALLOWED}")
    }
}

fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

/// A server process, told to stop when dropped.
#[derive(Debug)]
pub struct OwnServer {
    child: Child,
    clients: SocketAddr,
    admin: SocketAddr,
    dir: tempfile::TempDir,
}

impl OwnServer {
    /// Starts a server and waits until it listens.
    pub fn start(setup: &ServerSetup) -> Result<Self, String> {
        let dir = tempfile::tempdir().map_err(|e| format!("a temporary directory: {e}"))?;
        let file = dir.path().join("plimsoll.toml");
        fs::write(&file, setup.config()).map_err(|e| format!("the configuration: {e}"))?;
        let log = File::create(dir.path().join("log")).map_err(|e| format!("the log: {e}"))?;
        let binary = match &setup.binary {
            Some(binary) => binary.clone(),
            None => std::env::current_exe().map_err(|e| format!("the own program: {e}"))?,
        };
        let mut command = command(&binary, setup.cgroup.as_deref());
        command.arg("serve").arg("--config").arg(&file).stderr(log);
        let started = affinity::with_cores(setup.cores.as_deref(), || command.spawn())?;
        let mut child = started.map_err(|e| format!("{}: {e}", binary.display()))?;
        let lines = child.stdout.take().map(follow);
        let Some((clients, admin)) = lines.and_then(|lines| addresses(&lines)) else {
            let _ = child.kill();
            let _ = child.wait();
            return Err(format!("the server does not start: {}", log_tail(dir.path())));
        };
        Ok(Self { child, clients, admin, dir })
    }

    /// Where clients connect.
    pub fn address(&self) -> SocketAddr {
        self.clients
    }

    /// Where metrics, health and admin calls are answered.
    pub fn admin_address(&self) -> SocketAddr {
        self.admin
    }

    /// Number of its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Ends it at once (SIGKILL).
    pub fn kill(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Whether the process has not ended.
    pub fn is_alive(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// The end of its log.
    pub fn log_tail(&self) -> String {
        log_tail(self.dir.path())
    }
}

impl Drop for OwnServer {
    fn drop(&mut self) {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        if let (true, Some(pid)) = (self.is_alive(), pid) {
            // It may have ended just now: then there is nothing to stop.
            let _ = kill_process(pid, Signal::TERM);
        }
        let deadline = Instant::now() + STOP;
        while self.is_alive() && Instant::now() < deadline {
            thread::sleep(LOOK);
        }
        if self.is_alive() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// The program with nothing of our own environment in its settings. It has to be in its control
/// group before it looks which one that is: a shell goes there, and becomes the program.
fn command(binary: &Path, cgroup: Option<&Path>) -> Command {
    let mut command = match cgroup {
        None => Command::new(binary),
        Some(dir) => {
            let mut shell = Command::new("/bin/sh");
            shell.arg("-c").arg("echo $$ > \"$0\" && exec \"$@\"");
            shell.arg(dir.join("cgroup.procs")).arg(binary);
            shell
        }
    };
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("PLIMSOLL_") {
            command.env_remove(name);
        }
    }
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    command
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
    let deadline = Instant::now() + START;
    while clients.is_none() || admin.is_none() {
        let left = deadline.saturating_duration_since(Instant::now());
        let line = lines.recv_timeout(left).ok()?;
        clients = clients.or_else(|| address(&line, "clients:"));
        admin = admin.or_else(|| address(&line, "admin:"));
    }
    Some((clients?, admin?))
}

fn address(line: &str, name: &str) -> Option<SocketAddr> {
    let url = line.trim().strip_prefix(name)?.trim().strip_prefix("http://")?;
    url.trim_end_matches('/').parse().ok()
}

fn log_tail(dir: &Path) -> String {
    let mut log = String::new();
    if let Ok(file) = File::open(dir.join("log")) {
        let _ = file.take(limits::SERVER_LOG_BYTES_MAX).read_to_string(&mut log);
    }
    let lines: Vec<&str> = log.lines().collect();
    let last = lines.get(lines.len().saturating_sub(20)..).unwrap_or_default();
    last.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    /// A shell script in the place of the server.
    fn fake(body: &str) -> (tempfile::TempDir, ServerSetup) {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("fake");
        fs::write(&file, format!("#!/bin/sh\n{body}\n")).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
        let setup = ServerSetup { binary: Some(file), ..ServerSetup::default() };
        (dir, setup)
    }

    const ADDRESSES: &str =
        "echo clients: http://127.0.0.1:1234/; echo 'admin:   http://127.0.0.1:5678/'";

    #[test]
    fn a_server_tells_its_addresses_and_stops_when_told() {
        let (dir, setup) = fake(&format!(
            "trap 'echo stopped > {0}; exit 0' TERM\n{ADDRESSES}\nwhile :; do sleep 0.01; done",
            "$(dirname $0)/end"
        ));
        let mut server = OwnServer::start(&setup).unwrap();
        assert_eq!(server.address(), "127.0.0.1:1234".parse().unwrap());
        assert_eq!(server.admin_address(), "127.0.0.1:5678".parse().unwrap());
        assert!(server.is_alive() && server.pid() > 1);
        let usage = Usage::of(server.pid()).unwrap();
        assert!(usage.rss_bytes > 0 && usage.descriptors > 0, "{usage:?}");
        drop(server);
        assert_eq!(fs::read_to_string(dir.path().join("end")).unwrap(), "stopped\n");
    }

    #[test]
    fn a_server_that_does_not_start_says_why() {
        let (_dir, setup) = fake("echo 'bad key' >&2; exit 1");
        let error = OwnServer::start(&setup).unwrap_err();
        assert!(error.contains("bad key"), "{error}");
        let setup = ServerSetup { binary: Some("/nowhere".into()), ..ServerSetup::default() };
        assert!(OwnServer::start(&setup).unwrap_err().contains("/nowhere"));
    }

    #[test]
    fn a_server_runs_on_the_cores_it_is_given() {
        let before = cores_of_this_thread();
        let last = *before.last().unwrap();
        let (_dir, mut setup) = fake(&format!("{ADDRESSES}\nexec sleep 60"));
        setup.cores = Some(vec![last]);
        let server = OwnServer::start(&setup).unwrap();
        let status = fs::read_to_string(format!("/proc/{}/status", server.pid())).unwrap();
        let allowed = status.lines().find_map(|l| l.strip_prefix("Cpus_allowed_list:")).unwrap();
        assert_eq!(allowed.trim(), last.to_string());
        assert_eq!(cores_of_this_thread(), before);
        setup.cores = Some(vec![]);
        assert!(OwnServer::start(&setup).is_err());
    }

    #[test]
    fn the_configuration_holds_what_was_set() {
        let setup = ServerSetup {
            workers: 3,
            token_secret: Some("a \"secret\"".into()),
            settings: vec![("client.ping_interval".into(), "\"5s\"".into())],
            ..ServerSetup::default()
        };
        let table: toml::Table = setup.config().parse().unwrap();
        assert_eq!(table["server"]["workers"].as_integer(), Some(3));
        assert_eq!(table["client"]["ping_interval"].as_str(), Some("5s"));
        assert_eq!(table["client"]["token"]["hmac_secret_key"].as_str(), Some("a \"secret\""));
        assert!(table["client"].get("insecure").is_none());
        let names: Vec<_> = table["channel"]["namespaces"].as_array().unwrap().iter().collect();
        assert_eq!(names[0]["name"].as_str(), Some("room"));
        assert_eq!(names[0]["history_size"].as_integer(), Some(1_000));
        assert_eq!(names[1]["name"].as_str(), Some("live"));
        assert!(names[1].get("history_size").is_none());
        let without = ServerSetup { history_size: 0, ..setup }.config();
        assert!(!without.contains("history") && !without.contains("recovery"), "{without}");
    }

    #[test]
    fn addresses_are_read_from_lines() {
        let here = Some("127.0.0.1:80".parse().unwrap());
        assert_eq!(address("clients: http://127.0.0.1:80/", "clients:"), here);
        assert_eq!(address("admin:   http://127.0.0.1:80", "admin:"), here);
        for line in ["", "clients:", "clients: https://a/", "admin: http://127.0.0.1:80/"] {
            assert_eq!(address(line, "clients:"), None, "{line}");
        }
    }
}
