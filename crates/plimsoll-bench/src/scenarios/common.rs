//! Flags that all runs have.

use crate::fleet::reconnect::Profile;
use crate::limits;
use clap::{Args, ValueEnum};
use std::path::PathBuf;
use std::time::Duration;

/// Which server, which clients, and how it is told.
#[derive(Clone, Debug, Args)]
pub struct Common {
    /// Server to put load on, as ws://127.0.0.1:8000/connection/websocket. Without it a server is
    /// started for this run. Given several times, they are the nodes of a cluster: each client
    /// connects to any of them, and to any of them again when it comes back.
    #[arg(long)]
    pub url: Vec<String>,
    /// Process of that server, for its CPU time and memory; once for each node.
    #[arg(long, requires = "url")]
    pub server_pid: Vec<u32>,
    /// Metrics of that server, as http://127.0.0.1:9000/metrics: for its CPU time and memory when
    /// no process is given, and for its counters; once for each node.
    #[arg(long, requires = "url")]
    pub metrics: Vec<String>,
    /// HMAC secret of that server: clients bring tokens signed by it. Others on this machine may
    /// see it while the command runs.
    #[arg(long, requires = "url")]
    pub token_secret: Option<String>,
    /// Let an address be used that is not of this machine. Put load only on what is yours.
    #[arg(long)]
    pub allow_remote: bool,
    /// Worker threads of the server that is started; 0 = one per core.
    #[arg(long, default_value_t = 1, conflicts_with = "url")]
    pub workers: usize,
    /// Processors the started server runs on, as 0 or 0,1.
    #[arg(long, value_delimiter = ',', conflicts_with = "url")]
    pub server_core: Vec<usize>,
    /// Directory of a control group the started server runs in, as /sys/fs/cgroup/small: with
    /// less processor than its clients it is the one that gives way.
    #[arg(long, conflicts_with = "url")]
    pub server_cgroup: Option<PathBuf>,
    /// Processors the clients run on.
    #[arg(long, value_delimiter = ',')]
    pub core: Vec<usize>,
    /// Threads of a process of clients.
    #[arg(long, default_value_t = 1)]
    pub threads: usize,
    /// Processes of clients: each has descriptors of its own.
    #[arg(long, default_value_t = 1)]
    pub processes: usize,
    /// Connect from 127.0.0.1 to 127.0.0.N: beyond 28,000 connections one address has no ports.
    #[arg(long, default_value_t = 0)]
    pub sources: u8,
    /// Makes what is random the same in every run.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// How clients come back: centrifuge-js, pusher-js, phoenix, socket.io, paced:MS or never.
    #[arg(long, default_value = "centrifuge-js", value_parser = profile)]
    pub reconnect: Profile,
    /// JSON lines: one each second, and the summary as the last.
    #[arg(long)]
    pub json: bool,
    /// Only the summary.
    #[arg(long)]
    pub quiet: bool,
}

/// The load line of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Switch {
    /// It gives way.
    On,
    /// It measures, and does nothing.
    Off,
}

impl Common {
    /// For a server of our own with one worker, without a word meanwhile.
    pub fn of_our_own() -> Self {
        Self {
            url: Vec::new(),
            server_pid: Vec::new(),
            metrics: Vec::new(),
            token_secret: None,
            allow_remote: false,
            workers: 1,
            server_core: Vec::new(),
            server_cgroup: None,
            core: Vec::new(),
            threads: 1,
            processes: 1,
            sources: 0,
            seed: 1,
            reconnect: Profile::CentrifugeJs,
            json: false,
            quiet: true,
        }
    }

    /// Checks what clap cannot.
    pub fn check(&self, clients: u32) -> Result<(), String> {
        range("clients", u64::from(clients), 1, u64::from(limits::CLIENTS_MAX))?;
        range("--threads", self.threads as u64, 1, limits::FLEET_THREADS_MAX as u64)?;
        range("--processes", self.processes as u64, 1, limits::FLEET_PROCESSES_MAX as u64)?;
        let nodes = self.url.len().max(self.server_pid.len()).max(self.metrics.len());
        range("--url", nodes as u64, 0, limits::NODES_MAX as u64)?;
        range("--workers", self.workers as u64, 0, limits::WORKERS_MAX as u64)
    }
}

/// A number within its bounds, or an error that names them.
pub fn range(name: &str, value: u64, least: u64, most: u64) -> Result<(), String> {
    if (least..=most).contains(&value) {
        return Ok(());
    }
    Err(format!("{name}: must be {least} to {most}, not {value}"))
}

/// A rate within its bounds.
pub fn rate(name: &str, value: f64, most: f64) -> Result<(), String> {
    if (0.0..=most).contains(&value) {
        return Ok(());
    }
    Err(format!("{name}: must be 0 to {most}, not {value}"))
}

/// A duration of a flag.
pub fn duration(text: &str) -> Result<Duration, String> {
    let read = crate::workload::parse_duration(text).ok_or("not a duration, as 90s or 5m")?;
    if !(0.1..=limits::DURATION_S_MAX).contains(&read.as_secs_f64()) {
        return Err("must be 100ms to 24h".into());
    }
    Ok(read)
}

fn profile(text: &str) -> Result<Profile, String> {
    let expected = "must be centrifuge-js, pusher-js, phoenix, socket.io, paced:MS or never";
    Ok(match text {
        "centrifuge-js" => Profile::CentrifugeJs,
        "pusher-js" => Profile::PusherJs,
        "phoenix" => Profile::Phoenix,
        "socket.io" => Profile::SocketIo,
        "never" => Profile::Never,
        _ => {
            let window = text.strip_prefix("paced:").and_then(|ms| ms.parse().ok());
            Profile::Paced(window.filter(|ms| *ms <= limits::PACED_MS_MAX).ok_or(expected)?)
        }
    })
}

/// How a profile is called on the command line.
pub fn profile_name(profile: Profile) -> String {
    match profile {
        Profile::CentrifugeJs => "centrifuge-js".into(),
        Profile::PusherJs => "pusher-js".into(),
        Profile::Phoenix => "phoenix".into(),
        Profile::SocketIo => "socket.io".into(),
        Profile::Paced(ms) => format!("paced:{ms}"),
        Profile::Never => "never".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Cli {
        #[command(flatten)]
        common: Common,
    }

    #[test]
    fn profiles() {
        let read = |text| profile(text).ok();
        let names = ["centrifuge-js", "pusher-js", "phoenix", "socket.io", "paced:7", "never"];
        for name in names {
            assert_eq!(read(name).map(profile_name).as_deref(), Some(name));
        }
        assert_eq!(read("pusher-js"), Some(Profile::PusherJs));
        assert_eq!(read("paced:5000"), Some(Profile::Paced(5_000)));
        for bad in ["", "centrifuge", "paced:", "paced:-1", "paced:99999999999", "paced:86400001"] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }

    #[test]
    fn durations_have_bounds() {
        assert_eq!(duration("5m"), Ok(Duration::from_secs(300)));
        for bad in ["5", "1ms", "25h", ""] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn flags_that_need_each_other() {
        let check = |flags: &[&str], ok: bool| {
            let all = ["bench"].iter().chain(flags);
            assert_eq!(Cli::try_parse_from(all).is_ok(), ok, "{flags:?}");
        };
        check(&[], true);
        check(&["--url", "ws://127.0.0.1:1", "--server-pid", "3", "--token-secret", "x"], true);
        let two = ["--url", "ws://127.0.0.1:1", "--url", "ws://127.0.0.1:2"];
        check(&two, true);
        check(&["--server-pid", "3"], false);
        check(&["--url", "ws://127.0.0.1:1", "--workers", "2"], false);
        check(&["--reconnect", "sometimes"], false);
        let common = Cli::try_parse_from(["bench", "--server-core", "0,1"]).unwrap().common;
        assert_eq!(common.server_core, [0, 1]);
        assert!(common.check(1).is_ok());
        assert!(common.check(0).is_err());
        assert!(Common { threads: 0, ..common }.check(1).is_err());
    }
}
