//! The command link: one pipelined connection for publishing, reading and presence.

use super::config::{Address, ConnectError, RedisConfig};
use super::net::{self, Dialer};
use super::script::{self, Script};
use crate::contract::Failure;
use crate::limits;
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Pipeline, ProtocolVersion, RedisConnectionInfo, Value, cmd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;

/// One connection that answers.
pub(super) struct Commands {
    connection: MultiplexedConnection,
    /// Who we speak with.
    pub(super) address: Address,
    /// What the server said of itself.
    pub(super) facts: Facts,
    /// What scripts are told of the process: see `adopt.lua`.
    pub(super) process: String,
    in_flight: AtomicU64,
    /// Calls so far: a refused publication is sent again only if nothing came after it.
    sent: AtomicU64,
    /// A single server, or the one behind Sentinels.
    is_whole: bool,
    start: Instant,
    answered_ms: AtomicU64,
    dead: AtomicBool,
    died: Notify,
}

/// How servers stand together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sort {
    Single,
    Sentinel,
    Cluster,
}

/// What a server says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Facts {
    /// Name and version.
    pub(super) server: String,
    pub(super) run_id: String,
    /// It has replicas, or was one.
    pub(super) replicated: bool,
    /// `appendfsync`, when there is an append-only file. `None` = CONFIG is forbidden.
    pub(super) log: Option<Log>,
}

/// How a server writes to disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Log {
    None,
    Always,
    EverySecond,
    Sometimes,
}

impl Facts {
    fn read(info: &str, config: &[(String, String)]) -> Self {
        let field = |name: &str| {
            info.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
        };
        let valkey = field("valkey_version").map(|v| format!("valkey {v}"));
        let redis = || format!("redis {}", field("redis_version").unwrap_or("?"));
        let was = field("master_replid2").is_some_and(|id| id.bytes().any(|b| b != b'0'));
        let setting = |name: &str| config.iter().find(|(k, _)| k == name).map(|(_, v)| v.as_str());
        let log = setting("appendonly").map(|on| match (on, setting("appendfsync")) {
            ("yes", Some("always")) => Log::Always,
            ("yes", Some("everysec")) => Log::EverySecond,
            ("yes", _) => Log::Sometimes,
            _ => Log::None,
        });
        Self {
            server: valkey.unwrap_or_else(redis),
            run_id: field("run_id").unwrap_or_default().to_owned(),
            replicated: was || field("connected_slaves").is_some_and(|n| n != "0"),
            log,
        }
    }

    /// What scripts take for the process. A server that certainly has everything on disk is the
    /// same after a restart. One with replicas is not: another may have been in charge meanwhile.
    fn process(&self, alone: bool) -> String {
        // Not the address: nodes may know the server by different ones.
        if alone && !self.replicated && self.log == Some(Log::Always) {
            return "log".into();
        }
        self.run_id.clone()
    }

    /// What can be lost, for the operator.
    pub(super) fn loss_window(&self) -> String {
        let restart = match self.log {
            None => {
                "unknown (CONFIG GET is forbidden): a restart counts as a loss, and every channel \
                 gets a new epoch"
            }
            Some(Log::None) => {
                "all publications since the last snapshot when Redis stops (no append-only file)"
            }
            Some(Log::EverySecond) => {
                "about one second of publications when Redis stops (appendfsync everysec)"
            }
            Some(Log::Sometimes) => {
                "what the kernel had not written when the machine stops (appendfsync no)"
            }
            Some(Log::Always) => "nothing when Redis stops (appendfsync always)",
        };
        if self.replicated {
            return format!("{restart}; at a failover, what the replica had not received yet");
        }
        restart.into()
    }
}

/// When a call that begins now must have its answer.
pub(super) fn deadline() -> Instant {
    Instant::now() + Duration::from_millis(limits::CALL_MS)
}

/// Which failure an error of the server is.
pub(super) fn failure(code: &str) -> Failure {
    match code {
        "LOADING" | "BUSY" | "OOM" | "MASTERDOWN" | "READONLY" | "CLUSTERDOWN" | "NOREPLICAS"
        | "TRYAGAIN" | "MISCONF" | "NOSCRIPT" | "MOVED" | "ASK" | "STALE" | "UNKILLABLE" => {
            Failure::Busy
        }
        _ => Failure::Refused,
    }
}

/// Takes its place among the calls that wait, and leaves it however the call ends.
struct Place<'a>(&'a AtomicU64);

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

impl Commands {
    /// Connects, greets, and learns what there is to know.
    async fn connect(
        dialer: &Dialer,
        address: &Address,
        config: &RedisConfig,
        sort: Sort,
    ) -> Result<std::sync::Arc<Self>, ConnectError> {
        let broker = address.to_string();
        let unreachable = |e: &dyn std::fmt::Display| ConnectError::Unreachable {
            broker: broker.clone(),
            why: e.to_string(),
        };
        let stream = dialer.open(address).await.map_err(|e| unreachable(&e))?;
        let mut info = RedisConnectionInfo::default()
            .set_protocol(ProtocolVersion::RESP3)
            .set_skip_set_lib_name()
            .set_db(i64::from(config.db));
        if let Some(user) = &config.user {
            info = info.set_username(user);
        }
        if let Some(password) = &config.password {
            info = info.set_password(password);
        }
        let settings = AsyncConnectionConfig::new()
            .set_response_timeout(None)
            .set_pipeline_buffer_size(limits::IN_FLIGHT_MAX)
            .set_write_backpressure_boundary(limits::REDIS_READ_BYTES);
        let (connection, driver) = MultiplexedConnection::new_with_config(&info, stream, settings)
            .await
            .map_err(|e| refused(&broker, &e))?;
        let driver = tokio::spawn(driver);
        let facts = match greet(&connection, &broker).await {
            Ok(facts) => facts,
            Err(e) => {
                driver.abort();
                return Err(e);
            }
        };
        let link = std::sync::Arc::new(Self {
            connection,
            process: facts.process(sort == Sort::Single),
            is_whole: sort != Sort::Cluster,
            address: address.clone(),
            facts,
            in_flight: AtomicU64::new(0),
            sent: AtomicU64::new(0),
            start: Instant::now(),
            answered_ms: AtomicU64::new(0),
            dead: AtomicBool::new(false),
            died: Notify::new(),
        });
        // The driver ends with the connection, and the connection with the driver.
        let watched = std::sync::Arc::clone(&link);
        tokio::spawn(async move {
            let mut driver = driver;
            tokio::select! {
                _ = &mut driver => watched.kill(),
                () = watched.wait_dead() => driver.abort(),
            }
        });
        Ok(link)
    }

    pub(super) fn in_flight(&self) -> u64 {
        self.in_flight.load(Relaxed)
    }

    /// Calls so far.
    pub(super) fn sent(&self) -> u64 {
        self.sent.load(Relaxed)
    }

    /// Ends the connection.
    pub(super) fn kill(&self) {
        self.dead.store(true, Relaxed);
        self.died.notify_waiters();
    }

    /// Waits for its end.
    pub(super) async fn wait_dead(&self) {
        loop {
            let died = self.died.notified();
            tokio::pin!(died);
            died.as_mut().enable();
            if self.dead.load(Relaxed) {
                return;
            }
            died.await;
        }
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Sends commands in one piece; an answer for each. Sent when first polled.
    pub(super) async fn call(
        &self,
        pipeline: &Pipeline,
        deadline: Instant,
    ) -> Result<Vec<Value>, Failure> {
        if self.dead.load(Relaxed) {
            return Err(Failure::Down);
        }
        let place = Place(&self.in_flight);
        if self.in_flight.fetch_add(1, Relaxed) >= limits::IN_FLIGHT_MAX as u64 {
            return Err(Failure::Busy);
        }
        self.sent.fetch_add(1, Relaxed);
        let began_ms = self.now_ms();
        let mut connection = self.connection.clone();
        let answer = connection.send_packed_commands(pipeline, 0, pipeline.len());
        let answer = tokio::time::timeout_at(deadline, answer).await;
        drop(place);
        match answer {
            Ok(Ok(values)) => {
                self.answered_ms.store(self.now_ms(), Relaxed);
                self.look_at(&values);
                Ok(values)
            }
            Ok(Err(e)) => {
                tracing::debug!(broker = %self.address, error = %e, "Redis link failed");
                self.kill();
                Err(Failure::Unknown)
            }
            Err(_) => {
                // Nothing at all came back meanwhile: the connection is dead, or Redis stands.
                if self.answered_ms.load(Relaxed) <= began_ms {
                    tracing::warn!(broker = %self.address, "Redis does not answer");
                    self.kill();
                }
                Err(Failure::Unknown)
            }
        }
    }

    /// Answers that show that this link is of no use any more.
    fn look_at(&self, values: &[Value]) {
        for value in values {
            let Value::ServerError(e) = value else { continue };
            // In a Cluster a partition may have come to us that nobody has told the new owner of.
            if e.code() == "READONLY" || (e.code() == "STALE" && self.is_whole) {
                tracing::warn!(broker = %self.address, error = %e, "Redis is another one now");
                return self.kill();
            }
        }
    }

    /// Sends one command.
    pub(super) async fn one(&self, command: redis::Cmd) -> Result<Value, Failure> {
        let mut pipeline = redis::pipe();
        pipeline.add_command(command);
        self.call(&pipeline, deadline()).await?.pop().ok_or(Failure::Unknown)
    }

    /// Like `call`; scripts that the server has forgotten are loaded and the call is made again:
    /// always, or (`ordered`) if no other was made since, so that none is overtaken.
    pub(super) async fn run(
        &self,
        pipeline: &Pipeline,
        ordered: bool,
        deadline: Instant,
    ) -> Result<Vec<Value>, Failure> {
        let mine = self.sent() + 1;
        let values = self.call(pipeline, deadline).await?;
        let forgotten = |v: &Value| matches!(v, Value::ServerError(e) if e.code() == "NOSCRIPT");
        if !values.iter().any(forgotten) {
            return Ok(values);
        }
        let others = self.sent() != mine;
        let mut load = script::load();
        // Only if nothing of it was done: a part of it must not be done twice.
        if (ordered && others) || !values.iter().all(forgotten) {
            self.call(&load, deadline).await?;
            return Ok(values);
        }
        let first = load.len();
        for command in pipeline.cmd_iter() {
            load.add_command(command.clone());
        }
        Ok(self.call(&load, deadline).await?.split_off(first))
    }

    /// Is the server a master still? Ends the link if it is not.
    pub(super) async fn check_role(&self) -> bool {
        let role = match self.one(cmd("ROLE")).await {
            Ok(role) => role,
            // Somebody else sees to a link that does not answer.
            Err(_) => return true,
        };
        let is_master = is_master(&role);
        if !is_master {
            tracing::warn!(broker = %self.address, "Redis was demoted");
            self.kill();
        }
        is_master
    }
}

fn is_master(role: &Value) -> bool {
    let Value::Array(parts) = role else { return false };
    parts.first().is_some_and(|first| text(first) == "master")
}

/// Text of a value; empty for what has none.
pub(super) fn text(value: &Value) -> &str {
    match value {
        Value::BulkString(bytes) => std::str::from_utf8(bytes).unwrap_or_default(),
        Value::SimpleString(text) | Value::VerbatimString { text, .. } => text,
        Value::Okay => "OK",
        _ => "",
    }
}

fn refused(broker: &str, e: &redis::RedisError) -> ConnectError {
    let (broker, why) = (broker.to_owned(), e.to_string());
    let transient = e.is_io_error()
        || e.is_connection_dropped()
        || e.code().is_some_and(|code| failure(code) == Failure::Busy);
    if transient {
        return ConnectError::Unreachable { broker, why };
    }
    ConnectError::Refused { broker, why }
}

/// Says who we are and asks who it is.
async fn greet(connection: &MultiplexedConnection, broker: &str) -> Result<Facts, ConnectError> {
    let mut hello = redis::pipe();
    hello.cmd("ROLE");
    hello.cmd("INFO").arg("server");
    hello.cmd("INFO").arg("replication");
    hello.cmd("CONFIG").arg("GET").arg("append*");
    hello.cmd("CLIENT").arg("SETNAME").arg(super::COMMANDS_NAME);
    for script in script::load().cmd_iter() {
        hello.add_command(script.clone());
    }
    let mut connection = connection.clone();
    let values = connection
        .send_packed_commands(&hello, 0, hello.len())
        .await
        .map_err(|e| refused(broker, &e))?;
    let refused = |why: String| ConnectError::Refused { broker: broker.to_owned(), why };
    let [role, server, replication, config, _, scripts @ ..] = &values[..] else {
        return Err(refused("answers are missing".into()));
    };
    for value in [role, server, replication].into_iter().chain(scripts) {
        if let Value::ServerError(e) = value {
            let e = redis::RedisError::from(e.clone());
            return Err(self::refused(broker, &e));
        }
    }
    if !is_master(role) {
        return Err(ConnectError::Unreachable {
            broker: broker.to_owned(),
            why: "it is not a master".into(),
        });
    }
    let info = format!("{}\n{}", text(server), text(replication));
    let config = match config {
        Value::Map(pairs) => {
            pairs.iter().map(|(k, v)| (text(k).to_owned(), text(v).to_owned())).collect()
        }
        _ => Vec::new(),
    };
    let facts = Facts::read(&info, &config);
    if facts.run_id.is_empty() {
        return Err(refused("it does not say its run_id".into()));
    }
    Ok(facts)
}

/// A command link within the time for it.
pub(super) async fn connect(
    dialer: &Dialer,
    address: &Address,
    config: &RedisConfig,
    sort: Sort,
) -> Result<std::sync::Arc<Commands>, ConnectError> {
    net::within(Commands::connect(dialer, address, config, sort), address).await
}

impl Script {
    /// A call of it.
    pub(super) fn call(self, keys: &[Vec<u8>]) -> redis::Cmd {
        let mut command = cmd("EVALSHA");
        command.arg(self.sha()).arg(keys.len());
        for key in keys {
            command.arg(&key[..]);
        }
        command
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(config: &[(&str, &str)], replication: &str) -> Facts {
        let info = format!("redis_version:7.0.15\r\nrun_id:abc\r\n{replication}");
        let config: Vec<_> =
            config.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        Facts::read(&info, &config)
    }

    #[test]
    fn only_a_server_that_writes_everything_and_is_alone_outlives_a_restart() {
        let always = [("appendonly", "yes"), ("appendfsync", "always")];
        assert_eq!(facts(&always, "connected_slaves:0").process(true), "log");
        assert_eq!(facts(&always, "connected_slaves:0").process(false), "abc");
        assert_eq!(facts(&always, "connected_slaves:1").process(true), "abc");
        assert_eq!(facts(&always, "master_replid2:0f0").process(true), "abc");
        assert_eq!(facts(&always, "master_replid2:000").process(true), "log");
        assert_eq!(facts(&[], "").process(true), "abc");
        let everysec = [("appendonly", "yes"), ("appendfsync", "everysec")];
        assert_eq!(facts(&everysec, "").process(true), "abc");
        let off = [("appendonly", "no"), ("appendfsync", "always")];
        assert_eq!(facts(&off, "").log, Some(Log::None));
    }
}
