//! The contract, on whatever nodes there are.

use super::cluster::{Answers, answers};
use super::commands::{self, Commands, deadline};
use super::join::join_all;
use super::keys::Kind;
use super::node::{Node, Shared};
use super::registry::{Call, lock};
use super::script::{self, Script};
use crate::contract::*;
use crate::limits;
use bytes::Bytes;
use redis::Value;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Which node has which partition.
#[derive(Clone, Default)]
pub(super) struct Table {
    pub(super) nodes: Vec<Arc<Node>>,
    /// Index into `nodes`.
    pub(super) by_partition: Vec<Option<usize>>,
}

/// The table and the links at one moment: a call uses the same ones from its begin to its end.
pub(super) struct View {
    table: Arc<Table>,
    links: Vec<Result<Arc<Commands>, Failure>>,
}

impl View {
    /// Index of the node of a partition.
    pub(super) fn node(&self, partition: usize) -> Option<usize> {
        self.table.by_partition.get(partition).copied().flatten()
    }

    fn link(&self, node: usize) -> Result<Arc<Commands>, Failure> {
        self.links.get(node).cloned().unwrap_or(Err(Failure::Down))
    }

    /// What a script on it is told of its process.
    fn process(&self, node: usize) -> String {
        self.link(node).map_or_else(|_| String::new(), |link| link.process.clone())
    }
}

/// An adapter in use; cheap to clone.
#[derive(Clone)]
pub(super) struct Redis {
    pub(super) shared: Arc<Shared>,
    pub(super) table: Arc<Mutex<Arc<Table>>>,
}

/// A part of a call: one command, and which of the call's items it carries.
pub(super) struct Step {
    pub(super) command: redis::Cmd,
    pub(super) items: Vec<usize>,
}

/// Steps of each node, in order.
pub(super) type Plan = BTreeMap<usize, Vec<Step>>;

impl Redis {
    fn table(&self) -> Arc<Table> {
        Arc::clone(&lock(&self.table))
    }

    pub(super) fn view(&self) -> View {
        let table = self.table();
        let links = table.nodes.iter().map(|node| node.commands()).collect();
        View { table, links }
    }

    fn verb(&self) -> &'static str {
        if self.shared.sharded { "SPUBLISH" } else { "PUBLISH" }
    }

    /// The partition whose generation counts, and whose items may share a script.
    pub(super) fn group(&self, partition: usize) -> usize {
        if self.shared.sharded { partition } else { 0 }
    }

    /// Runs all nodes' steps at once and hands out the answers by item.
    pub(super) async fn run<T: Send>(
        &self,
        view: &View,
        plan: Plan,
        ordered: bool,
        results: &mut [Result<T, Failure>],
        read: impl Fn(Value, &[usize], &mut [Result<T, Failure>]) + Send,
    ) {
        let mut items = Vec::new();
        let mut calls: Vec<Later<Answers>> = Vec::new();
        for (node, steps) in plan {
            let mut pipeline = redis::pipe();
            let mut of_node = Vec::with_capacity(steps.len());
            for step in steps {
                pipeline.add_command(step.command);
                of_node.push(step.items);
            }
            let (table, link) = (Arc::clone(&view.table), view.link(node));
            calls.push(Box::pin(answers(table, link, pipeline, ordered)));
            items.push(of_node);
        }
        for (steps, answer) in items.into_iter().zip(join_all(calls).await) {
            match answer {
                Ok(values) => {
                    for (items, value) in steps.iter().zip(values) {
                        match value {
                            Ok(value) => {
                                self.doubt(&value);
                                read(value, items, results);
                            }
                            Err(failure) => fail(items.iter(), failure, results),
                        }
                    }
                }
                Err(failure) => fail(steps.iter().flatten(), failure, results),
            }
        }
    }

    /// Answers that show that the Cluster is not as we think.
    fn doubt(&self, value: &Value) {
        if let Value::ServerError(e) = value {
            if matches!(e.code(), "MOVED" | "ASK" | "CLUSTERDOWN" | "STALE" | "READONLY") {
                self.shared.doubt.notify_one();
            } else if !matches!(e.code(), "TRYAGAIN" | "LOADING" | "OOM" | "BUSY") {
                tracing::warn!(error = %e, "Redis refused a command");
            }
        }
    }

    /// What to send for a batch, by node; what cannot be sent is answered at once.
    fn plan_publish(
        &self,
        view: &View,
        batch: &[Publish],
        results: &mut [Result<Published, Failure>],
    ) -> Plan {
        // By node and group: the script that is being filled.
        let mut plan = Plan::new();
        let mut open: BTreeMap<usize, (usize, Vec<usize>)> = BTreeMap::new();
        for (index, p) in batch.iter().enumerate() {
            let partition = self.shared.keys.partition(&p.channel);
            let node = view.node(partition);
            let fit = p.body.len() <= limits::ENVELOPE_BYTES_MAX;
            let (Some(node), true) = (node, fit) else {
                results[index] = Err(if fit { Failure::Down } else { Failure::TooLarge });
                continue;
            };
            let group = self.group(partition);
            if p.keep.is_none() && p.idempotency_key.is_none() && p.version.is_none() {
                if let Some((node, items)) = open.remove(&group) {
                    plan.entry(node)
                        .or_default()
                        .push(self.script(view, node, batch, group, items));
                }
                let mut command = redis::cmd(self.verb());
                command.arg(self.shared.keys.name(partition, Kind::Channel, &p.channel));
                command.arg([b"n", &p.body[..]].concat());
                plan.entry(node).or_default().push(Step { command, items: vec![index] });
                continue;
            }
            let (_, items) = open.entry(group).or_insert((node, Vec::new()));
            items.push(index);
            if items.len() >= limits::REDIS_SCRIPT_MAX
                && let Some((node, items)) = open.remove(&group)
            {
                plan.entry(node).or_default().push(self.script(view, node, batch, group, items));
            }
        }
        for (group, (node, items)) in open {
            plan.entry(node).or_default().push(self.script(view, node, batch, group, items));
        }
        plan
    }

    /// One call of the publishing script.
    fn script(
        &self,
        view: &View,
        node: usize,
        batch: &[Publish],
        group: usize,
        items: Vec<usize>,
    ) -> Step {
        let keys = &self.shared.keys;
        let mut names = vec![keys.name(group, Kind::Generation, "")];
        for p in items.iter().filter_map(|i| batch.get(*i)) {
            let partition = keys.partition(&p.channel);
            if p.keep.is_some() {
                names.push(keys.name(partition, Kind::Stream, &p.channel));
                names.push(keys.name(partition, Kind::Meta, &p.channel));
            }
            if let Some(key) = &p.idempotency_key {
                names.push(keys.idempotency(partition, &p.channel, key));
            }
            if p.version.is_some() {
                names.push(keys.name(partition, Kind::Version, &p.channel));
            }
        }
        let script = if self.shared.sharded { Script::PublishSharded } else { Script::Publish };
        let mut command = script.call(&names);
        command
            .arg(view.process(node))
            .arg(script::new_epoch().as_str())
            .arg(script::new_epoch().as_str())
            .arg(limits::IDEMPOTENCY_MS);
        for p in items.iter().filter_map(|i| batch.get(*i)) {
            let partition = keys.partition(&p.channel);
            script::publication(&mut command, p, &keys.name(partition, Kind::Channel, &p.channel));
        }
        Step { command, items }
    }

    async fn publish(self, batch: Vec<Publish>) -> Vec<Result<Published, Failure>> {
        let view = self.view();
        let mut results = vec![Err(Failure::Down); batch.len()];
        let plan = self.plan_publish(&view, &batch, &mut results);
        let read =
            |value: Value, items: &[usize], results: &mut [Result<Published, Failure>]| match value
            {
                Value::Int(_) => {
                    let published = Published { position: None, is_new: true };
                    fill(items, Ok(published), results);
                }
                Value::Array(answers) if answers.len() == items.len() => {
                    for (item, answer) in items.iter().zip(&answers) {
                        results[*item] = script::published(answer, batch[*item].keep.is_some());
                    }
                }
                Value::ServerError(e) => fill(items, Err(commands::failure(e.code())), results),
                _ => fill(items, Err(Failure::Unknown), results),
            };
        self.run(&view, plan, true, &mut results, read).await;
        results
    }

    async fn read(self, reads: Vec<Read>) -> Vec<Result<Page, Failure>> {
        let view = self.view();
        let keys = &self.shared.keys;
        let mut plan = Plan::new();
        for (index, r) in reads.iter().enumerate() {
            let partition = keys.partition(&r.channel);
            let Some(node) = view.node(partition) else { continue };
            let mut command = Script::Read.call(&[
                keys.name(self.group(partition), Kind::Generation, ""),
                keys.name(partition, Kind::Stream, &r.channel),
                keys.name(partition, Kind::Meta, &r.channel),
            ]);
            let (from, offset, limit) = match r.want {
                Want::After { offset, limit } => ("a", offset.to_string(), limit),
                Want::Before { offset: u64::MAX, limit } => ("b", "-".into(), limit),
                Want::Before { offset, limit } => ("b", offset.to_string(), limit),
            };
            command
                .arg(view.process(node))
                .arg(script::new_epoch().as_str())
                .arg(script::new_epoch().as_str())
                .arg(r.keep.size.max(1))
                .arg(r.keep.ttl_ms.max(1))
                .arg(r.keep.meta_ttl_ms.max(r.keep.ttl_ms))
                .arg(limits::EMPTY_STREAM_MS)
                .arg(from)
                .arg(offset)
                .arg(limit);
            plan.entry(node).or_default().push(Step { command, items: vec![index] });
        }
        let mut results = vec![Err(Failure::Down); reads.len()];
        let read = |value: Value, items: &[usize], results: &mut [Result<Page, Failure>]| {
            fill(items, script::page(value), results);
        };
        self.run(&view, plan, false, &mut results, read).await;
        results
    }

    /// One command to the node of a partition.
    pub(super) async fn one(
        &self,
        partition: usize,
        command: redis::Cmd,
    ) -> Result<Value, Failure> {
        let view = self.view();
        let commands = view.link(view.node(partition).ok_or(Failure::Down)?)?;
        let mut pipeline = redis::pipe();
        pipeline.add_command(command);
        let value =
            commands.run(&pipeline, false, deadline()).await?.pop().ok_or(Failure::Unknown)?;
        self.doubt(&value);
        match value {
            Value::ServerError(e) => Err(commands::failure(e.code())),
            value => Ok(value),
        }
    }

    /// Indices, those of one partition together: they can share a command.
    fn by_partition(&self, channels: &[Arc<str>]) -> Vec<usize> {
        let mut order: Vec<usize> = (0..channels.len()).collect();
        if self.shared.sharded {
            order.sort_by_key(|index| self.shared.keys.partition(&channels[*index]));
        }
        order
    }

    async fn subscribe(self, channels: Vec<Arc<str>>) -> Vec<Result<(), Failure>> {
        if channels.is_empty() {
            return Vec::new();
        }
        let (call, done) = Call::new(channels.len());
        for index in self.by_partition(&channels) {
            self.shared.registry.subscribe(&channels[index], &call, index);
        }
        let limit = Duration::from_millis(limits::SUBSCRIBE_MS);
        let in_time = tokio::time::timeout(limit, done).await;
        let results = call.results();
        if in_time.is_err() {
            for (channel, result) in channels.iter().zip(&results) {
                if result.is_err() {
                    self.shared.registry.unsubscribe(channel);
                }
            }
        }
        results
    }
}

pub(super) fn fill<T: Clone>(
    items: &[usize],
    result: Result<T, Failure>,
    results: &mut [Result<T, Failure>],
) {
    for item in items {
        if let Some(slot) = results.get_mut(*item) {
            slot.clone_from(&result);
        }
    }
}

fn fail<'a, T>(
    items: impl Iterator<Item = &'a usize>,
    failure: Failure,
    results: &mut [Result<T, Failure>],
) {
    for item in items {
        if let Some(slot) = results.get_mut(*item) {
            *slot = Err(failure);
        }
    }
}

impl Backbone for Redis {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            kind: if self.shared.sharded { "redis_cluster" } else { "redis" },
            history: true,
            idempotency: true,
            versions: true,
            body_bytes_max: limits::ENVELOPE_BYTES_MAX,
        }
    }

    fn publish(&self, batch: Vec<Publish>) -> Later<Vec<Result<Published, Failure>>> {
        Box::pin(self.clone().publish(batch))
    }

    fn subscribe(&self, channels: Vec<Arc<str>>) -> Later<Vec<Result<(), Failure>>> {
        Box::pin(self.clone().subscribe(channels))
    }

    fn unsubscribe(&self, channels: Vec<Arc<str>>) -> Later<()> {
        let this = self.clone();
        Box::pin(async move {
            for index in this.by_partition(&channels) {
                this.shared.registry.unsubscribe(&channels[index]);
            }
        })
    }

    fn read(&self, reads: Vec<Read>) -> Later<Vec<Result<Page, Failure>>> {
        Box::pin(self.clone().read(reads))
    }

    fn clear(&self, channel: Arc<str>) -> Later<Result<(), Failure>> {
        let this = self.clone();
        Box::pin(async move {
            let partition = this.shared.keys.partition(&channel);
            let mut command = redis::cmd("XTRIM");
            command.arg(this.shared.keys.name(partition, Kind::Stream, &channel));
            command.arg("MAXLEN").arg("=").arg(0);
            this.one(partition, command).await.map(|_| ())
        })
    }

    fn tell(&self, to: Option<NodeId>, body: Bytes) -> Later<Result<(), Failure>> {
        let this = self.clone();
        Box::pin(async move {
            if body.len() > limits::ENVELOPE_BYTES_MAX {
                return Err(Failure::TooLarge);
            }
            let name = to.map_or_else(|| super::EVERYBODY.to_owned(), |node| node.to_string());
            let partition = this.shared.keys.partition(&name);
            let mut command = redis::cmd(this.verb());
            command.arg(this.shared.keys.name(partition, Kind::Node, &name)).arg(&body[..]);
            this.one(partition, command).await.map(|_| ())
        })
    }

    fn note_presence(&self, changes: Vec<PresenceChange>) -> Later<Result<(), Failure>> {
        Box::pin(self.clone().note_presence(changes))
    }

    fn keep_presence(&self, channels: Vec<Arc<str>>) -> Later<Result<(), Failure>> {
        Box::pin(self.clone().keep_presence(channels))
    }

    fn presence(&self, channel: Arc<str>, most: usize) -> Later<Result<Vec<Member>, Failure>> {
        let this = self.clone();
        Box::pin(async move { this.members(&channel, most).await })
    }

    fn presence_stats(&self, channel: Arc<str>) -> Later<Result<Tally, Failure>> {
        let this = self.clone();
        Box::pin(async move { Ok(this.count(&channel, None).await?.0) })
    }

    fn probe(&self) -> Later<Result<(), Failure>> {
        let table = self.table();
        Box::pin(async move {
            if table.by_partition.iter().any(Option::is_none) {
                return Err(Failure::Down);
            }
            let mut probes: Vec<Later<_>> = Vec::new();
            for node in &table.nodes {
                let node = Arc::clone(node);
                probes.push(Box::pin(async move { node.probe().await }));
            }
            join_all(probes).await.into_iter().collect()
        })
    }

    fn status(&self) -> Status {
        let table = self.table();
        let facts: Vec<_> =
            table.nodes.iter().filter_map(|n| Some(n.commands().ok()?.facts.clone())).collect();
        let mut windows: Vec<String> = facts.iter().map(|f| f.loss_window()).collect();
        windows.sort();
        windows.dedup();
        Status {
            brokers: table.nodes.iter().map(|n| n.broker_figures()).collect(),
            loss_window: windows.join("; "),
            server: facts.first().map(|f| f.server.clone()).unwrap_or_default(),
        }
    }

    fn close(&self) -> Later<()> {
        let this = self.clone();
        Box::pin(async move {
            this.shared.close();
            for node in &this.table().nodes {
                if let Ok(commands) = node.commands() {
                    commands.kill();
                }
            }
        })
    }
}
