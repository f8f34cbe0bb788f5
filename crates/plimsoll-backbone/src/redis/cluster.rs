//! Redis Cluster: which master has which partition, and what to do when that changes.

use super::backbone::{Redis, Table};
use super::commands::{Commands, deadline, text};
use super::config::{Address, ConnectError, RedisConfig};
use super::join::join_all;
use super::keys::SLOTS;
use super::net::Dialer;
use super::node::{Node, Place, Shared};
use super::plain::Plain;
use super::registry::lock;
use super::subscriber;
use crate::contract::{Backbone, Failure, Later, Setup};
use crate::limits;
use redis::Value;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::time::Instant;

/// Connects to a Redis Cluster by any of its nodes. Channels are spread over its masters by
/// sharded Pub/Sub. When it returns, the links to all masters are there, or as many as came
/// within [`limits::CONNECT_MS`].
///
/// # Errors
///
/// The configuration cannot be right, no node answers, or the one that does refuses us.
pub async fn connect_cluster(
    config: RedisConfig,
    setup: Setup,
) -> Result<Arc<dyn Backbone>, ConnectError> {
    super::check(&config, &setup)?;
    let wrong = |why: &str| Err(ConnectError::Config(why.into()));
    let Some(first) = config.addresses.first() else {
        return wrong("a Cluster needs an address");
    };
    if config.sentinel.is_some() || config.db != 0 {
        return wrong("a Cluster has neither Sentinels nor a database other than 0");
    }
    let dialer = Dialer::new(config.tls.as_ref(), &super::host_of(first)?)?;
    let seeds: Result<Vec<_>, _> = config.addresses.iter().map(|a| Address::parse(a)).collect();
    let shared = Shared::new(config, setup, dialer, true);
    let table = Arc::new(Mutex::new(Arc::new(Table::default())));
    let mut cluster = Cluster {
        shared: Arc::clone(&shared),
        table: Arc::clone(&table),
        seeds: seeds?,
        known: BTreeSet::new(),
        nodes: BTreeMap::new(),
    };
    let slots = cluster.look().await?;
    cluster.apply(slots).await;
    let nodes: Vec<_> = cluster.nodes.values().cloned().collect();
    let deadline = Instant::now() + Duration::from_millis(limits::CONNECT_MS);
    while !nodes.iter().all(|n| n.commands().is_ok() && n.is_subscribed())
        && Instant::now() < deadline
    {
        tokio::time::sleep(Duration::from_millis(limits::RECONNECT_MS_MIN)).await;
    }
    if !nodes.iter().any(|n| n.commands().is_ok()) {
        shared.close();
        let why = "no master of the Cluster can be reached at the address it announces".into();
        let broker = nodes.first().map(|n| n.broker.to_string()).unwrap_or_default();
        return Err(ConnectError::Unreachable { broker, why });
    }
    tokio::spawn(cluster.follow());
    Ok(Arc::new(Redis { shared, table }))
}

/// Owners of slots, as the nodes see it.
#[derive(Debug, Default, PartialEq, Eq)]
struct Slots {
    /// Owner and configuration epoch by slot.
    owners: HashMap<usize, (Address, u64)>,
    /// All nodes that were named.
    named: BTreeSet<String>,
}

impl Slots {
    /// Takes in what one node says (`CLUSTER NODES`). Of two owners the one of the newer epoch
    /// counts: a master that was replaced does not know it yet. `asked`: a node that does not know
    /// its own address is where it was asked.
    fn take(&mut self, nodes: &str, asked: &Address) {
        for line in nodes.lines().take(limits::REDIS_CLUSTER_NODES_MAX) {
            let words: Vec<&str> = line.split(' ').collect();
            let [_, address, flags, _, _, _, epoch, _, slots @ ..] = &words[..] else { continue };
            let Some(address) = endpoint(address, asked) else { continue };
            self.named.insert(address.to_string());
            let mut flags = flags.split(',');
            if !flags.clone().any(|f| f == "master") || flags.any(|f| f == "fail" || f == "noaddr")
            {
                continue;
            }
            let Ok(epoch) = epoch.parse::<u64>() else { continue };
            for range in slots.iter().filter(|s| !s.starts_with('[')) {
                let (from, to) = range.split_once('-').unwrap_or((range, range));
                let (Ok(from), Ok(to)) = (from.parse::<usize>(), to.parse::<usize>()) else {
                    continue;
                };
                for slot in from..=to.min(SLOTS - 1) {
                    let newer = self.owners.get(&slot).is_none_or(|(_, known)| *known < epoch);
                    if newer {
                        self.owners.insert(slot, (address.clone(), epoch));
                    }
                }
            }
        }
    }
}

/// `host:port@bus[,hostname]`.
fn endpoint(text: &str, asked: &Address) -> Option<Address> {
    let text = text.split(['@', ',']).next()?;
    let (host, port) = text.rsplit_once(':')?;
    let port = port.parse().ok().filter(|p| *p != 0)?;
    let host = match (host, asked) {
        ("", Address::Tcp(asked, _)) => asked.clone(),
        ("", Address::Unix(_)) => return None,
        (host, _) => host.trim_matches(['[', ']']).to_owned(),
    };
    Some(Address::Tcp(host, port))
}

/// Follows the Cluster.
struct Cluster {
    shared: Arc<Shared>,
    table: Arc<Mutex<Arc<Table>>>,
    seeds: Vec<Address>,
    /// Nodes named by others, replicas too: to be asked when nobody else answers.
    known: BTreeSet<String>,
    nodes: BTreeMap<String, Arc<Node>>,
}

impl Cluster {
    /// Looks at the Cluster again and again: soon after each doubt, and every half minute.
    async fn follow(mut self) {
        let shared = Arc::clone(&self.shared);
        let mut settled = true;
        loop {
            let wait = if settled { limits::REDIS_CLUSTER_LOOK_MS } else { SOON_MS };
            tokio::select! {
                () = tokio::time::sleep(Duration::from_millis(wait)) => {}
                () = shared.doubt.notified() => {}
                () = shared.wait_closed() => return,
            }
            settled = match self.look().await {
                Ok(slots) => self.apply(slots).await,
                Err(error) => {
                    tracing::warn!(%error, "no node of the Redis Cluster answers");
                    false
                }
            };
            tokio::select! {
                // Doubts of many at once are one.
                () = tokio::time::sleep(Duration::from_millis(limits::RECONNECT_MS_MIN)) => {}
                () = shared.wait_closed() => return,
            }
        }
    }

    /// Asks all masters that we have links to; if none answers, all nodes that we know.
    async fn look(&mut self) -> Result<Slots, ConnectError> {
        let mut slots = Slots::default();
        let mut calls: Vec<Later<Option<(String, Address)>>> = Vec::new();
        for node in self.nodes.values() {
            let Ok(commands) = node.commands() else { continue };
            calls.push(Box::pin(async move {
                let mut command = redis::cmd("CLUSTER");
                command.arg("NODES");
                let value = commands.one(command).await.ok()?;
                Some((text(&value).to_owned(), commands.address.clone()))
            }));
        }
        for (nodes, asked) in join_all(calls).await.into_iter().flatten() {
            slots.take(&nodes, &asked);
        }
        if !slots.owners.is_empty() {
            self.known.clone_from(&slots.named);
            return Ok(slots);
        }
        let mut last = None;
        let known = self.known.iter().filter_map(|text| Address::parse(text).ok());
        for address in self.seeds.clone().into_iter().chain(known.collect::<Vec<_>>()) {
            match self.ask(&address).await {
                Ok(nodes) => slots.take(&nodes, &address),
                Err(error) => last = Some(error),
            }
            if !slots.owners.is_empty() {
                self.known.clone_from(&slots.named);
                return Ok(slots);
            }
        }
        Err(last.unwrap_or_else(|| ConnectError::Unreachable {
            broker: self.seeds.first().map(ToString::to_string).unwrap_or_default(),
            why: "the Cluster has no slots".into(),
        }))
    }

    async fn ask(&self, address: &Address) -> Result<String, ConnectError> {
        let config = &self.shared.config;
        let work = async {
            let (user, password) = (config.user.as_deref(), config.password.as_deref());
            let mut plain = Plain::open(&self.shared.dialer, address, user, password).await?;
            plain.send([&b"CLUSTER"[..], b"NODES"]).await?;
            let answer = String::from_utf8_lossy(&plain.answer().await?).into_owned();
            Ok(answer.strip_prefix("txt:").unwrap_or(&answer).to_owned())
        };
        let limit = Duration::from_millis(limits::CALL_MS);
        tokio::time::timeout(limit, work).await.unwrap_or_else(|_| {
            let why = "no answer in time".into();
            Err(ConnectError::Unreachable { broker: address.to_string(), why })
        })
    }

    /// Makes links to new masters, ends those to old ones, and hands partitions over. Is
    /// everything in its place now?
    async fn apply(&mut self, slots: Slots) -> bool {
        let keys = &self.shared.keys;
        let owner = |p| slots.owners.get(&usize::from(keys.slot(p))).map(|(address, _)| address);
        let wanted: Vec<Option<String>> =
            (0..keys.partitions()).map(|p| owner(p).map(ToString::to_string)).collect();
        let masters: BTreeMap<String, Address> =
            slots.owners.values().map(|(a, _)| (a.to_string(), a.clone())).collect();
        self.note_masters(&masters);
        // Those that have some of our partitions.
        let used: BTreeSet<&String> = wanted.iter().flatten().collect();
        for (name, address) in masters.iter().filter(|(name, _)| used.contains(name)) {
            if !self.nodes.contains_key(name) {
                let node = Node::new(&self.shared, name, Place::Fixed(address.clone()));
                tokio::spawn(Arc::clone(&node).keep_commands(None));
                tokio::spawn(subscriber::keep(Arc::clone(&node), None));
                self.nodes.insert(name.clone(), node);
            }
        }
        let adopted = self.adopt(&wanted).await;
        self.switch(&wanted);
        self.nodes.retain(|name, node| {
            let stays = used.contains(name);
            if !stays {
                tracing::info!(broker = %name, "no channels on this Redis node any more");
                node.end();
                if let Ok(commands) = node.commands() {
                    commands.kill();
                }
            }
            stays
        });
        adopted
            && wanted.iter().all(Option::is_some)
            && self.nodes.values().all(|n| n.commands().is_ok() && n.is_subscribed())
    }

    /// Which masters there are; what another one says of its process is true only for these.
    fn note_masters(&self, masters: &BTreeMap<String, Address>) {
        let mut known = lock(&self.shared.masters);
        known.retain(|name, _| masters.contains_key(name));
        for name in masters.keys() {
            let node = self.nodes.get(name);
            let run_id = node.and_then(|n| Some(n.commands().ok()?.facts.run_id.clone()));
            known.insert(name.clone(), run_id);
        }
    }

    /// Tells the partitions' generations which process has them now, before it is used for them.
    async fn adopt(&self, wanted: &[Option<String>]) -> bool {
        let mut calls: Vec<Later<Result<(), Failure>>> = Vec::new();
        for (name, node) in &self.nodes {
            let Ok(commands) = node.commands() else { continue };
            let partitions: Vec<usize> =
                (0..wanted.len()).filter(|p| wanted[*p].as_ref() == Some(name)).collect();
            let node = Arc::clone(node);
            calls.push(Box::pin(async move { node.adopt(&commands, &partitions).await }));
        }
        join_all(calls).await.iter().all(Result::is_ok)
    }

    /// Puts the new table in its place, and the subscriptions with it.
    fn switch(&self, wanted: &[Option<String>]) {
        let nodes: Vec<Arc<Node>> = self.nodes.values().cloned().collect();
        let index: HashMap<&str, usize> =
            nodes.iter().enumerate().map(|(n, node)| (&*node.broker, n)).collect();
        let by_partition: Vec<Option<usize>> =
            wanted.iter().map(|name| index.get(name.as_deref()?).copied()).collect();
        *lock(&self.table) =
            Arc::new(Table { nodes: nodes.clone(), by_partition: by_partition.clone() });
        let registry = &self.shared.registry;
        for (partition, node) in by_partition.iter().enumerate() {
            let Some(node) = node.and_then(|n| nodes.get(n)) else {
                registry.lost(partition);
                registry.orphan(partition);
                continue;
            };
            if !registry.is_of(partition, &node.orders) {
                registry.lost(partition);
                registry.restore(partition, &node.orders);
                node.ask_for_services(partition);
            }
        }
        for node in &nodes {
            node.choose_probe(&node.partitions());
        }
    }
}

/// Between two looks while something is not in its place, in milliseconds.
const SOON_MS: u64 = 250;

/// An answer for each command, or why there is none at all.
pub(super) type Answers = Result<Vec<Result<Value, Failure>>, Failure>;

/// Runs one node's commands. Those whose keys are elsewhere already are sent there, if (`ordered`)
/// nothing was sent after them.
pub(super) async fn answers(
    table: Arc<Table>,
    link: Result<Arc<Commands>, Failure>,
    pipeline: redis::Pipeline,
    ordered: bool,
) -> Answers {
    let link = link?;
    let (mine, deadline) = (link.sent() + 1, deadline());
    let values = link.run(&pipeline, ordered, deadline).await?;
    let mut answers = Vec::with_capacity(values.len());
    for (n, value) in values.into_iter().enumerate() {
        let asked = asked(&value).filter(|_| !ordered || link.sent() == mine);
        answers.push(match (asked, pipeline.cmd_iter().nth(n)) {
            (Some(to), Some(command)) => ask(&table, &to, command, deadline).await,
            _ => Ok(value),
        });
    }
    Ok(answers)
}

/// The node that has the keys already while their slot moves: `ASK <slot> <host:port>`.
fn asked(value: &Value) -> Option<String> {
    match value {
        Value::ServerError(e) if e.code() == "ASK" => {
            Some(e.details()?.split(' ').nth(1)?.to_owned())
        }
        _ => None,
    }
}

/// Sends a command to where its keys are.
async fn ask(
    table: &Table,
    to: &str,
    command: &redis::Cmd,
    deadline: Instant,
) -> Result<Value, Failure> {
    let node = table.nodes.iter().find(|n| &*n.broker == to).ok_or(Failure::Busy)?;
    let mut pipeline = redis::pipe();
    pipeline.cmd("ASKING").add_command(command.clone());
    node.commands()?.call(&pipeline, deadline).await?.pop().ok_or(Failure::Unknown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owners_are_read_and_the_newer_epoch_counts() {
        let asked = Address::Tcp("seed".into(), 7_000);
        let mut slots = Slots::default();
        slots.take(
            "a 10.0.0.1:7001@17001,host myself,master - 0 0 1 connected 0-2 5 [6->-b]\n\
             b :7002@17002 master - 0 0 2 connected 3-4\n\
             c 10.0.0.3:7003@17003 slave a 0 0 1 connected\n\
             d 10.0.0.4:7004@17004 master,fail - 0 0 9 connected 0-16383\n\
             e :0@0 master,noaddr - 0 0 9 disconnected 7\n\
             garbage\nf x y z",
            &asked,
        );
        let owner = |slots: &Slots, n: usize| slots.owners.get(&n).map(|(a, _)| a.to_string());
        assert_eq!(owner(&slots, 2).as_deref(), Some("10.0.0.1:7001"));
        assert_eq!(owner(&slots, 5).as_deref(), Some("10.0.0.1:7001"));
        assert_eq!(owner(&slots, 3).as_deref(), Some("seed:7002"));
        assert_eq!((owner(&slots, 6), owner(&slots, 7)), (None, None));
        assert_eq!(slots.named.len(), 4);
        // Another node says that somebody else has taken over, and an old master that it has not.
        slots.take("c 10.0.0.3:7003@1 master - 0 0 3 connected 0-2", &asked);
        slots.take("a 10.0.0.1:7001@1 myself,master - 0 0 1 connected 0-2", &asked);
        assert_eq!(owner(&slots, 1).as_deref(), Some("10.0.0.3:7003"));
        slots.take("z h:1@1 master - 0 0 4 connected 5-99999999999", &asked);
        assert_eq!(slots.owners.len(), SLOTS);
    }
}
