//! `bench backbone`: what a broker costs, by its adapter alone and between two nodes.

use super::cluster::ClusterArgs;
use super::common::{duration, range};
use crate::clock::{now_us, process_cpu_us};
use crate::cluster::{Broker, BrokerKind, BrokerSetup};
use crate::fleet::histogram;
use crate::ledger::Judgement;
use crate::limits;
use crate::report::{Live, Step, Summary, quantile_ms};
use bytes::Bytes;
use clap::Args;
use hdrhistogram::Histogram;
use plimsoll_backbone::{Backbone, Event, Keep, NodeId, Publish, Setup, Sink, memory, nats, redis};
use std::future::Future;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::{Duration, Instant};

/// Channels that are published into.
const CHANNELS: usize = 50;
/// Bytes of a publication, as those of `bench cluster` on average.
const BYTES: usize = 200;
/// Batches that are on their way at the same time.
const IN_FLIGHT: usize = 4;
/// For what is published to be delivered, at the end of a part.
const REST: Duration = Duration::from_secs(5);
/// How a channel with history keeps.
const KEEP: Keep = Keep { size: 1_000, ttl_ms: 600_000, meta_ttl_ms: 3_600_000 };
/// Publications per second between two nodes.
const NODES_RATE: f64 = 1_000.0;

/// Measure a broker: publications and deliveries per second, CPU time of broker and process, and
/// latency, by the adapter alone and between two nodes.
#[derive(Clone, Debug, Args)]
pub struct BackboneArgs {
    /// The broker, which is started; several are measured one after the other.
    #[arg(long, value_enum, default_values = ["memory", "redis"])]
    pub backbone: Vec<BrokerKind>,
    /// Publications in one call of the adapter.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 16, 256])]
    pub batches: Vec<usize>,
    /// How long each part takes.
    #[arg(long, default_value = "3s", value_parser = duration)]
    pub duration: Duration,
    /// Directory with the brokers' programs, or a program [default: those of PATH].
    #[arg(long)]
    pub broker_bin: Option<PathBuf>,
    /// Not between nodes.
    #[arg(long)]
    pub alone: bool,
    /// The summary as a line of JSON.
    #[arg(long)]
    pub json: bool,
    /// Only the summary.
    #[arg(long)]
    pub quiet: bool,
}

impl BackboneArgs {
    /// Runs it.
    pub fn execute(&self) -> Result<Summary, String> {
        for batch in &self.batches {
            range("--batches", *batch as u64, 1, limits::BATCH_MAX as u64)?;
        }
        let live = Live::new(self.json, self.quiet, self.duration);
        let mut summary = Summary::of("backbone");
        summary.notes.push(format!(
            "Publications of {BYTES} bytes into {CHANNELS} channels. Alone: as fast as it goes, \
             {IN_FLIGHT} calls of the adapter on their way; CPU of all attached nodes together, in \
             one process. Between two nodes: {NODES_RATE} publications per second by clients, 4 \
             deliveries of each."
        ));
        for kind in &self.backbone {
            live.note(kind.name());
            self.alone(*kind, &mut summary)?;
            if !self.alone && *kind != BrokerKind::Memory {
                self.between_nodes(*kind, &mut summary)?;
            }
        }
        live.done();
        Ok(summary)
    }

    fn alone(&self, kind: BrokerKind, summary: &mut Summary) -> Result<(), String> {
        let broker = self.broker(kind)?;
        let addresses = broker.addresses();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| format!("a runtime: {error}"))?;
        let histories: &[bool] = if kind.has_history() { &[true, false] } else { &[false] };
        for &history in histories {
            for nodes in [1, 2] {
                for &batch in &self.batches {
                    let part = Part { kind, history, nodes, batch, length: self.duration };
                    let step = runtime.block_on(part.run(&broker, &addresses))?;
                    if step.get("undelivered") != Some(0.0) {
                        let lost = step.get("undelivered").unwrap_or_default();
                        let text = format!("{}: {lost} deliveries did not come", step.name);
                        // Without history a broker may lose; it is a measurement that fails then.
                        summary.finds(Judgement::Void, text);
                    }
                    summary.steps.push(step);
                }
            }
        }
        Ok(())
    }

    fn broker(&self, kind: BrokerKind) -> Result<Broker, String> {
        let programs = self.broker_bin.clone();
        Broker::start(BrokerSetup { kind, programs, durable: false, servers: 1 })
    }

    fn between_nodes(&self, kind: BrokerKind, summary: &mut Summary) -> Result<(), String> {
        let args = ClusterArgs::steady(kind, self.broker_bin.clone(), NODES_RATE, self.duration);
        let mut made = args.execute()?;
        if made.verdict != Judgement::Kept {
            let why = format!("between nodes, {}: {}", kind.name(), made.because.join("; "));
            summary.finds(made.verdict, why);
        }
        if !made.steps.is_empty() {
            let mut step = made.steps.swap_remove(0);
            step.name = format!("{}, two nodes", kind.name());
            summary.steps.push(step);
        }
        Ok(())
    }
}

/// One measurement.
struct Part {
    kind: BrokerKind,
    history: bool,
    nodes: usize,
    batch: usize,
    length: Duration,
}

impl Part {
    fn name(&self) -> String {
        let history = if self.history { "history" } else { "no history" };
        let s = if self.nodes == 1 { "" } else { "s" };
        format!("{}, {history}, {} node{s}, batch {}", self.kind.name(), self.nodes, self.batch)
    }

    async fn run(&self, broker: &Broker, addresses: &[SocketAddr]) -> Result<Step, String> {
        let meter = Arc::new(Meter::default());
        let attached = self.attach(addresses, &meter).await?;
        let prefix = if self.history { "kept" } else { "live" };
        let channels: Vec<Arc<str>> =
            (0..CHANNELS).map(|n| format!("{prefix}:{n}").into()).collect();
        for node in &attached {
            let results = node.subscribe(channels.clone()).await;
            if let Some(failure) = results.into_iter().find_map(Result::err) {
                return Err(format!("{}: a subscribe: {failure}", self.name()));
            }
        }
        let first = attached.first().ok_or("no node")?;
        // Caches and scripts are filled before it counts.
        self.publish_for(first, &channels, Duration::from_millis(200)).await?;
        meter.forget();
        let (cpu_us, used, start) = (process_cpu_us(), broker.usage(), Instant::now());
        let published = self.publish_for(first, &channels, self.length).await?;
        let due = published * self.nodes as u64;
        let deadline = Instant::now() + REST;
        while meter.came() < due && Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let seconds = start.elapsed().as_secs_f64();
        let cpu_us = process_cpu_us().saturating_sub(cpu_us);
        let mut step = Step::named(self.name());
        let each = |us: u64| (published > 0).then(|| us as f64 / published as f64);
        step.add("published_per_s", "published/s", published as f64 / seconds);
        step.add("deliveries_per_s", "deliveries/s", meter.came() as f64 / seconds);
        step.count("undelivered", "undelivered", due.saturating_sub(meter.came()));
        let latency = meter.latency();
        step.add("latency_p50_ms", "latency p50, ms", quantile_ms(&latency, 0.5));
        step.add("latency_p99_ms", "latency p99, ms", quantile_ms(&latency, 0.99));
        step.add("nodes_us_per_publication", "nodes' CPU/publication, µs", each(cpu_us));
        if let Some((before, after)) = used.zip(broker.usage()) {
            let us = after.cpu_us.saturating_sub(before.cpu_us);
            step.add("broker_us_per_publication", "broker CPU/publication, µs", each(us));
        }
        for node in attached {
            node.close().await;
        }
        Ok(step)
    }

    async fn attach(
        &self,
        addresses: &[SocketAddr],
        meter: &Arc<Meter>,
    ) -> Result<Vec<Arc<dyn Backbone>>, String> {
        let memory = memory::Broker::new();
        let mut made = Vec::new();
        for _ in 0..self.nodes {
            let sink: Arc<dyn Sink> = Arc::clone(meter) as Arc<dyn Sink>;
            let setup = Setup {
                node: NodeId(fastrand::u64(..)),
                prefix: "bench".into(),
                sink,
                presence_lease_ms: 30_000,
                probe_interval_ms: 5_000,
            };
            made.push(connect(self.kind, addresses, setup, &memory).await?);
        }
        Ok(made)
    }

    /// Publishes as fast as it goes: how many were acknowledged.
    async fn publish_for(
        &self,
        node: &Arc<dyn Backbone>,
        channels: &[Arc<str>],
        length: Duration,
    ) -> Result<u64, String> {
        let mut next = 0;
        let mut published = 0;
        let mut calls: Vec<Call> = Vec::new();
        let deadline = Instant::now() + length;
        loop {
            while calls.len() < IN_FLIGHT && Instant::now() < deadline {
                let body = body();
                let batch = (0..self.batch).map(|_| {
                    next += 1;
                    Publish {
                        channel: Arc::clone(&channels[next % channels.len()]),
                        body: body.clone(),
                        keep: self.history.then_some(KEEP),
                        idempotency_key: None,
                        version: None,
                    }
                });
                calls.push(node.publish(batch.collect()));
            }
            if calls.is_empty() {
                return Ok(published);
            }
            for result in first_of(&mut calls).await {
                result.map_err(|failure| format!("{}: a publish: {failure}", self.name()))?;
                published += 1;
            }
        }
    }
}

async fn connect(
    kind: BrokerKind,
    addresses: &[SocketAddr],
    setup: Setup,
    memory: &Arc<memory::Broker>,
) -> Result<Arc<dyn Backbone>, String> {
    let urls = addresses.iter().map(|address| format!("nats://{address}")).collect();
    let at_nats = nats::NatsConfig { urls, ..Default::default() };
    match kind {
        BrokerKind::Memory => Ok(memory.attach(setup)),
        BrokerKind::Redis => {
            let addresses = addresses.iter().map(SocketAddr::to_string).collect();
            let config = redis::RedisConfig { addresses, ..Default::default() };
            redis::connect(config, setup).await.map_err(|error| error.to_string())
        }
        BrokerKind::Nats => nats::connect(at_nats, setup).await.map_err(|e| e.to_string()),
        BrokerKind::Jetstream => {
            nats::connect_jetstream(at_nats, setup).await.map_err(|e| e.to_string())
        }
        BrokerKind::RedisCluster => Err("redis_cluster is not measured alone".into()),
    }
}

type Answers = Vec<Result<plimsoll_backbone::Published, plimsoll_backbone::Failure>>;
type Call = Pin<Box<dyn Future<Output = Answers> + Send>>;

/// The first of the calls that is answered; all of them go on meanwhile.
async fn first_of(calls: &mut Vec<Call>) -> Answers {
    std::future::poll_fn(|context| {
        for at in 0..calls.len() {
            let Some(call) = calls.get_mut(at) else { break };
            if let Poll::Ready(answers) = call.as_mut().poll(context) {
                drop(calls.remove(at));
                return Poll::Ready(answers);
            }
        }
        Poll::Pending
    })
    .await
}

/// Now, and then nothing.
fn body() -> Bytes {
    let mut body = vec![0; BYTES];
    if let Some(first) = body.get_mut(..8) {
        first.copy_from_slice(&now_us().to_be_bytes());
    }
    body.into()
}

/// Counts what is delivered to all nodes.
struct Meter {
    came: AtomicU64,
    latency_us: Mutex<Histogram<u64>>,
}

impl Default for Meter {
    fn default() -> Self {
        Self { came: AtomicU64::new(0), latency_us: Mutex::new(histogram()) }
    }
}

impl Meter {
    fn came(&self) -> u64 {
        self.came.load(Ordering::Relaxed)
    }

    fn latency(&self) -> Histogram<u64> {
        self.latency_us.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn forget(&self) {
        self.came.store(0, Ordering::Relaxed);
        self.latency_us.lock().unwrap_or_else(PoisonError::into_inner).reset();
    }
}

impl Sink for Meter {
    fn take(&self, events: &mut Vec<Event>) {
        let now_us = now_us();
        let mut latency_us = self.latency_us.lock().unwrap_or_else(PoisonError::into_inner);
        for event in events.drain(..) {
            let Event::Delivery(delivery) = event else { continue };
            let Some(first) = delivery.body.first_chunk::<8>() else { continue };
            let us = now_us.saturating_sub(u64::from_be_bytes(*first));
            // It grows by itself, so that everything up to the bound fits.
            let _ = latency_us.record(us.clamp(1, limits::LATENCY_US_MAX));
            self.came.fetch_add(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_memory_broker_is_measured() {
        let args = BackboneArgs {
            backbone: vec![BrokerKind::Memory],
            batches: vec![1, 8],
            duration: Duration::from_millis(100),
            broker_bin: None,
            alone: true,
            json: false,
            quiet: true,
        };
        let summary = args.execute().unwrap();
        assert_eq!((summary.verdict, summary.steps.len()), (Judgement::Kept, 8));
        for step in &summary.steps {
            assert!(step.get("published_per_s") > Some(0.0), "{step:?}");
            assert!(step.get("latency_p50_ms") > Some(0.0), "{step:?}");
            assert_eq!(step.get("undelivered"), Some(0.0), "{step:?}");
            let ratio = step.get("deliveries_per_s").zip(step.get("published_per_s"));
            let nodes = ratio.map(|(deliveries, published)| deliveries / published);
            let expect = if step.name.contains("2 nodes") { 2.0 } else { 1.0 };
            assert!(nodes.is_some_and(|nodes| (nodes - expect).abs() < 0.01), "{step:?}");
        }
    }
}
