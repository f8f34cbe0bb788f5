//! `bench cluster`: nodes over a broker, clients that go from node to node, and a fault.

mod arena;
mod fault;

use super::common::{duration, range, rate};
use super::connect::let_in;
use super::run::{Books, Planned};
use super::{Bed, Common, Period, Watch, about, troubles};
use crate::clock::now_us;
use crate::cluster::BrokerKind;
use crate::fleet::{Fleet, Load, Settle, Stream};
use crate::ledger::{Judgement, Ledger, healing};
use crate::limits;
use crate::report::{Live, Step, Summary, bottleneck, traffic};
use crate::server::{LIVE, ROOM, ServerSetup, Usage};
use crate::topology::{ChannelId, Topology};
use arena::Arena;
use clap::Args;
use fault::Fault;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How clients and answers that are under way may end.
const SETTLE: Settle = Settle { answers: Duration::from_secs(30), heal: Duration::from_secs(10) };
/// Between the last publication of the load and the probes.
const REST: Duration = Duration::from_secs(1);
/// After the end of a fault the load goes on for at least so long.
const AFTER: Duration = Duration::from_secs(12);
/// From the end of a fault until publications come again in all channels (C10).
const HEAL_MS: f64 = 10_000.0;
/// The server's limit of publications in one recovery.
const RECOVERY_MAX: u64 = 300;
/// A run takes at most so many times as long as it would without any trouble, and a minute.
const SLOWER_MAX: f64 = 4.0;

/// Start nodes over a broker, have clients go from node to node, break something, and judge what
/// all of them saw.
#[derive(Clone, Debug, Args)]
pub struct ClusterArgs {
    /// Flags of all runs.
    #[command(flatten)]
    pub common: Common,
    /// The broker, which is started.
    #[arg(long, value_enum, default_value = "redis")]
    pub backbone: BrokerKind,
    /// Nodes, with --workers threads each.
    #[arg(long, default_value_t = 4)]
    pub nodes: usize,
    /// The server's program [default: this one].
    #[arg(long)]
    pub binary: Option<PathBuf>,
    /// Directory with the broker's programs, or its program [default: those of PATH].
    #[arg(long)]
    pub broker_bin: Option<PathBuf>,
    /// Setting of all nodes, as client.ping_interval="5s".
    #[arg(long)]
    pub setting: Vec<String>,
    /// Channels.
    #[arg(long, default_value_t = 50)]
    pub channels: u32,
    /// Subscribers, who publish as well.
    #[arg(long, default_value_t = 200)]
    pub clients: u32,
    /// Channels of each of them.
    #[arg(long, default_value_t = 2)]
    pub channels_per_client: u32,
    /// Publications per second, over all nodes.
    #[arg(long, default_value_t = 2_000.0)]
    pub rate: f64,
    /// Mean time until a client is cut, to come back to any node; 0s = never.
    #[arg(long, default_value = "3s", value_parser = stay)]
    pub stay: Duration,
    /// Deliveries after which the run ends.
    #[arg(long, default_value_t = 1_000_000)]
    pub deliveries: u64,
    /// What goes wrong at a third of the deliveries.
    #[arg(long)]
    pub fault: Option<Fault>,
    /// Write the books to this file; `bench verify` judges them again.
    #[arg(long)]
    pub ledger: Option<PathBuf>,
}

fn stay(text: &str) -> Result<Duration, String> {
    if text == "0s" { Ok(Duration::ZERO) } else { duration(text) }
}

impl ClusterArgs {
    /// Two nodes, four subscribers in a channel, nobody cut, nothing broken.
    pub fn steady(
        backbone: BrokerKind,
        broker_bin: Option<PathBuf>,
        rate: f64,
        length: Duration,
    ) -> Self {
        Self {
            common: Common::of_our_own(),
            backbone,
            nodes: 2,
            binary: None,
            broker_bin,
            setting: Vec::new(),
            channels: 50,
            clients: 200,
            channels_per_client: 1,
            rate,
            stay: Duration::ZERO,
            deliveries: (rate * 4.0 * length.as_secs_f64()).max(1.0) as u64,
            fault: None,
            ledger: None,
        }
    }

    /// Runs it.
    pub fn execute(&self) -> Result<Summary, String> {
        self.check()?;
        let plan = Plan::of(self);
        let setup = self.setup(&plan)?;
        let mut arena = Arena::start(self, setup.clone())?;
        let nodes = Arc::clone(&arena.nodes);
        let mut bed = Bed::of_cluster(&self.common, plan.clients, nodes, &arena.addresses())?;
        let fleet = bed.fleet(&self.common, &plan.topology, true)?;
        let length = Duration::from_secs_f64(plan.seconds);
        let mut live = Live::new(self.common.json, self.common.quiet, length);
        let mut summary = Summary::of("cluster");
        summary.notes.push(plan.describe(self));
        let ledger = self.go(&plan, &bed, &mut arena, fleet, &mut live, &setup, &mut summary);
        live.done();
        let ledger = ledger?;
        bed.look_after(&mut summary);
        if let Some(path) = &self.ledger {
            ledger.save(path).map_err(about(path.display()))?;
            summary.notes.push(format!("The books are in {}.", path.display()));
        }
        Ok(summary)
    }

    fn check(&self) -> Result<(), String> {
        if !self.common.url.is_empty() {
            return Err("--url: the nodes are started; use `bench run` for others".into());
        }
        range("--nodes", self.nodes as u64, 1, limits::NODES_MAX as u64)?;
        range("--channels", self.channels.into(), 1, u64::from(u16::MAX))?;
        range("--channels-per-client", self.channels_per_client.into(), 1, self.channels.into())?;
        range("--deliveries", self.deliveries, 1, 1 << 40)?;
        rate("--rate", self.rate, limits::RATE_PER_S_MAX)?;
        if self.rate < 1.0 {
            return Err("--rate: must be at least 1".into());
        }
        if self.backbone == BrokerKind::Memory && self.nodes > 1 {
            return Err("--backbone memory: is one node, say --nodes 1".into());
        }
        self.fault.map_or(Ok(()), |fault| fault.check(self.backbone, self.nodes))
    }

    fn setup(&self, plan: &Plan) -> Result<ServerSetup, String> {
        let mut settings = Vec::new();
        for text in &self.setting {
            let (key, value) = text.split_once('=').ok_or("--setting: must be key=value")?;
            settings.push((key.trim().to_owned(), value.trim().to_owned()));
        }
        Ok(ServerSetup {
            binary: self.binary.clone(),
            workers: self.common.workers,
            history_size: if plan.has_history { plan.history_size } else { 0 },
            history_ttl_s: (plan.patience().as_secs_f64() + 600.0) as u32,
            cores: (!self.common.server_core.is_empty()).then(|| self.common.server_core.clone()),
            cgroup: self.common.server_cgroup.clone(),
            settings,
            ..ServerSetup::default()
        })
    }

    #[allow(clippy::too_many_arguments, reason = "the parts of a run, each of its own")]
    fn go(
        &self,
        plan: &Plan,
        bed: &Bed,
        arena: &mut Arena,
        fleet: Fleet,
        live: &mut Live,
        setup: &ServerSetup,
        summary: &mut Summary,
    ) -> Result<Ledger, String> {
        let mut books = Books::open(bed, &plan.topology, plan.rooms());
        let started_us = now_us();
        let mut watch = Watch::new(bed, &fleet, live);
        let quiet = Load { clients: plan.clients, handshakes_max: 64, ..Load::default() };
        let_in(&mut watch, &quiet, &plan.topology)?;
        let load = plan.load();
        fleet.apply(&load);
        let mut run = Run { plan, arena, summary, span: None };
        let cuts = run.phases(self, &mut watch, &fleet)?;
        let span = run.span;
        fleet.apply(&quiet);
        watch.hold("settling", REST);
        books.probes_from_us = Some(now_us());
        books.planned = plan.planned(self, cuts);
        books.sparse = self.backbone.is_sparse();
        // Whether a recovery could have been is known only where no history is trimmed.
        let judged = self.fault.is_none_or(|fault| !fault.may_fail_recoveries());
        books.recovery_max = judged.then_some(RECOVERY_MAX);
        let finished = fleet.finish_within(SETTLE);
        if let Some(troubles) = troubles(&finished.counters) {
            summary.notes.push(format!("What clients were told: {troubles}."));
        }
        let unknown = finished.counters.unknown;
        books.settled(bed, &finished, plan.has_history);
        let name = format!("{} nodes, {}", self.nodes, self.backbone.name());
        let ledger = books.close(&name, started_us, finished, setup, summary);
        self.conclude(summary, &ledger, span, unknown);
        Ok(ledger)
    }

    /// What the ledger alone does not say.
    fn conclude(
        &self,
        summary: &mut Summary,
        ledger: &Ledger,
        span: Option<(u64, u64)>,
        unknown: u64,
    ) {
        let counts = summary.ledger.as_ref().map(|verdict| verdict["counts"].clone());
        let count = |name: &str| -> u64 {
            counts.as_ref().and_then(|counts| counts[name].as_u64()).unwrap_or_default()
        };
        let code = |name: &str, code: &str| -> u64 {
            counts.as_ref().and_then(|counts| counts[name][code].as_u64()).unwrap_or_default()
        };
        let mut step = Step::named("all");
        step.count("acknowledged", "acknowledged", count("acknowledged"));
        step.count("refused", "refused", count("refused"));
        step.count("unknown", "unknown", unknown);
        step.count("recovered", "subscriptions recovered", count("recoveries"));
        step.count("not_recovered", "not recovered", count("failed_recoveries"));
        step.count("ended_2500", "subscriptions ended (2500)", code("unsubscribes", "2500"));
        step.count("closed_3010", "connections closed (3010)", code("closes", "3010"));
        let lost = count("acks_lost_with_epoch");
        step.count("acks_lost", "acks lost with an epoch", lost);
        let since = |us: u64| us.saturating_sub(ledger.run.started_us) as f64 / 1e6;
        if let Some((begun_us, healed_us)) = span {
            step.add("fault_from_s", "fault from, s", since(begun_us));
            step.add("fault_until_s", "fault until, s", since(healed_us));
            let healing = healing(ledger, healed_us);
            step.add("first_again_ms", "first delivery after it, ms", healing.first_ms);
            step.add("channels_again_ms", "in all channels, ms", healing.channels_ms);
            step.add("all_again_ms", "to all subscriptions, ms", healing.subscriptions_ms);
            let late = healing.channels_ms.is_none_or(|ms| ms > HEAL_MS);
            if late || healing.channels_dead > 0 {
                let text = format!("C10: the fault was over, and then: {healing:?}");
                summary.finds(Judgement::Broken, text);
            }
        }
        let lost_us = counts.as_ref().and_then(|counts| {
            let both = counts["acks_lost_us"].as_array()?;
            Some((both.first()?.as_u64()?, both.last()?.as_u64()?))
        });
        if let Some((first, last)) = lost_us {
            step.add("lost_from_s", "lost acks from, s", first as f64 / 1e6);
            step.add("lost_until_s", "lost acks until, s", last as f64 / 1e6);
        }
        summary.steps.push(step);
        let window = self.fault.and_then(Fault::loss_window);
        let allowed = match (window, span, lost_us) {
            (_, _, None) => lost == 0,
            (Some(window), Some((begun_us, healed_us)), Some((first, last))) => {
                let window_us = u64::try_from(window.as_micros()).unwrap_or(u64::MAX);
                let from = begun_us.saturating_sub(ledger.run.started_us);
                let until = healed_us.saturating_sub(ledger.run.started_us);
                first >= from.saturating_sub(window_us) && last <= until
            }
            _ => false,
        };
        if !allowed {
            let text = format!("C5: {lost} acknowledged publications are lost outside of a window");
            summary.finds(Judgement::Broken, text);
        }
    }
}

/// The load and how long it takes.
struct Plan {
    topology: Arc<Topology>,
    clients: u32,
    rate: f64,
    cuts_per_s: f64,
    deliveries: u64,
    seconds: f64,
    history_size: u32,
    has_history: bool,
}

impl Plan {
    fn of(args: &ClusterArgs) -> Self {
        let race = args.fault == Some(Fault::RecoveryRace);
        // With one channel everybody gets everything: fewer people, who hear less.
        let (channels, clients, each, rate) = match race {
            true => (1, args.clients.div_ceil(5), 1, args.rate / 4.0),
            false => (args.channels, args.clients, args.channels_per_client, args.rate),
        };
        let has_history = args.backbone.has_history();
        let prefix = if has_history { ROOM } else { LIVE };
        let names = (0..channels).map(|n| format!("{prefix}{n}").into()).collect();
        // A client's channels are spread, and each has as many subscribers as the others.
        let step = (channels / each).max(1);
        let of = |client: u32| (0..each).map(|n| (client + n * step) % channels).collect();
        let topology = Arc::new(Topology::new(names, (0..clients).map(of)));
        let subscribers = topology.subscriptions() as f64 / f64::from(channels);
        let seconds = args.deliveries as f64 / (rate * subscribers).max(1.0);
        let said = rate * seconds * SLOWER_MAX / f64::from(channels);
        let history_size = if race { rate * 0.8 } else { (said + 300.0).min(100_000.0) };
        let stay_s = args.stay.as_secs_f64() / if race { 3.0 } else { 1.0 };
        let cuts_per_s = if stay_s > 0.0 { f64::from(clients) / stay_s } else { 0.0 };
        Self {
            topology,
            clients,
            rate,
            cuts_per_s: cuts_per_s.min(limits::CUTS_PER_S_MAX),
            deliveries: args.deliveries,
            seconds,
            history_size: history_size as u32,
            has_history,
        }
    }

    fn rooms(&self) -> std::ops::Range<ChannelId> {
        if self.has_history { self.topology.all_channels() } else { 0..0 }
    }

    fn load(&self) -> Load {
        Load {
            clients: self.clients,
            handshakes_max: 64,
            streams: vec![Stream {
                per_s: self.rate,
                bytes: 100..300,
                channels: self.topology.all_channels(),
                by: None,
            }],
            cuts_per_s: self.cuts_per_s,
            ..Load::default()
        }
    }

    fn patience(&self) -> Duration {
        Duration::from_secs_f64(self.seconds * SLOWER_MAX + 60.0)
    }

    fn planned(&self, args: &ClusterArgs, cuts: u64) -> Planned {
        let each = self.topology.subscriptions() as f64 / f64::from(self.clients);
        // While there is a fault, and in the race, many find no history.
        let ratio = if args.fault.is_some() { 0.1 } else { 0.5 };
        let recoveries = if self.has_history { cuts as f64 * each * ratio } else { 0.0 };
        Planned { deliveries: self.deliveries, recoveries: recoveries as u64 }
    }

    fn describe(&self, args: &ClusterArgs) -> String {
        let fault = args.fault.map_or("none".into(), |fault| fault.to_string());
        format!(
            "{} nodes over {}; {} clients in {} channels, {} subscriptions; {:.0} publications \
             and {:.0} cuts per second; fault: {fault}.",
            args.nodes,
            args.backbone.name(),
            self.clients,
            self.topology.all_channels().len(),
            self.topology.subscriptions(),
            self.rate,
            self.cuts_per_s,
        )
    }
}

/// The part with the load.
struct Run<'a> {
    plan: &'a Plan,
    arena: &'a mut Arena,
    summary: &'a mut Summary,
    /// The fault's beginning and end.
    span: Option<(u64, u64)>,
}

impl Run<'_> {
    /// Everything until there were enough deliveries: how many cuts there were.
    fn phases(
        &mut self,
        args: &ClusterArgs,
        watch: &mut Watch<'_>,
        fleet: &Fleet,
    ) -> Result<u64, String> {
        let before = watch.mark();
        let (all, deadline) = (self.plan.deliveries, Instant::now() + self.plan.patience());
        let third = if args.fault.is_some() { all / 3 } else { all };
        self.until("before", watch, third, deadline);
        if let Some(fault) = args.fault {
            self.fault(fault, watch, fleet)?;
            let part = watch.hold("after", AFTER);
            self.step("after", &part, None);
            if fleet.counters().deliveries < all {
                self.until("rest", watch, all, deadline);
            }
        }
        Ok(watch.since(&before).during.cuts)
    }

    fn fault(&mut self, fault: Fault, watch: &mut Watch<'_>, fleet: &Fleet) -> Result<(), String> {
        let (mark, begun_us) = (watch.mark(), now_us());
        let mut begun = fault.begin(self.arena, fleet)?;
        self.summary.notes.extend(begun.note.take());
        let length = fault.length().unwrap_or_default();
        let deadline = Instant::now() + length;
        while Instant::now() < deadline || !begun.is_over() {
            let left = deadline.saturating_duration_since(Instant::now());
            watch.hold("fault", left.clamp(Duration::from_millis(50), Duration::from_secs(1)));
        }
        begun.end(self.arena)?;
        self.span = Some((begun_us, now_us()));
        let part = watch.since(&mark);
        self.step("fault", &part, None);
        Ok(())
    }

    fn until(&mut self, name: &'static str, watch: &mut Watch<'_>, n: u64, deadline: Instant) {
        let (mark, broker) = (watch.mark(), self.arena.broker.usage());
        let left = deadline.saturating_duration_since(Instant::now());
        watch.until(name, left, &mut |counters| counters.deliveries >= n);
        let part = watch.since(&mark);
        self.step(name, &part, broker.zip(self.arena.broker.usage()));
    }

    fn step(&mut self, name: &'static str, period: &Period, broker: Option<(Usage, Usage)>) {
        let during = &period.during;
        let mut step = Step::named(name);
        traffic(&mut step, during, period.seconds, period.used);
        step.count("cuts", "cuts", during.cuts);
        step.count("recovered", "subscriptions recovered", during.recoveries[0]);
        step.count("not_recovered", "not recovered", during.recoveries[1]);
        step.count("unknown", "unknown", during.unknown);
        step.count("refused", "errors", during.errors.values().sum());
        let each = |us: u64| (during.published > 0).then(|| us as f64 / during.published as f64);
        if let Some((before, after)) = period.used {
            let us = after.cpu_us.saturating_sub(before.cpu_us);
            step.add("nodes_us_per_publication", "nodes' CPU/publication, µs", each(us));
        }
        if let Some((before, after)) = broker {
            let us = after.cpu_us.saturating_sub(before.cpu_us);
            step.add("broker_us_per_publication", "broker CPU/publication, µs", each(us));
        }
        self.summary.notes.extend(bottleneck(&step, None));
        self.summary.steps.push(step);
    }
}
