//! `capacity.json`: what one node was measured to carry. Written by `plimsoll bench capacity`, read
//! by the planner and by the server.

mod file;
mod shape;

pub use file::{FILE_BYTES_MAX, ReadError, read, write};
pub use shape::{Difference, Mismatch};

#[cfg(test)]
pub(crate) use file::tests::sample;

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Version of the file's form. Another one is refused.
pub const FORMAT: u32 = 1;

/// Something a node has only so much of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Resource {
    /// Connections at one time (memory, descriptors; R1).
    Connections,
    /// New connections per second, each connected and subscribed (R2).
    ConnectsPerS,
    /// Publications accepted per second, with nearly no fan-out (R3).
    PublishesPerS,
    /// Deliveries per second (R4).
    DeliveriesPerS,
    /// Bytes per second written to clients (R4).
    EgressBytesPerS,
    /// Subscribes per second (R5).
    SubscribesPerS,
    /// Subscribes with recovery per second (R5).
    RecoveriesPerS,
    /// Planned or unplanned closes per second with reconnects (R8).
    ReconnectsPerS,
}

/// What ended a ramp.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EndedBy {
    /// Goodput fell under 99 % of what was offered.
    Goodput,
    /// The latency bound was passed.
    Latency,
    /// Latency grew steadily within a step: the server did not keep up.
    Drift,
    /// The server used more than 80 % of its cores, or was throttled.
    Cpu,
    /// Memory, or descriptors, passed 80 %.
    Memory,
    /// The curve of p99 bends here (Kneedle).
    Bend,
    /// The generator could not offer more: the knee is at least this.
    Generator,
    /// The ramp ended before a knee: it is at least this.
    EndOfRamp,
}

/// A measured figure. `knee` is the largest load that kept all rules; `rated` is 0.7 of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    /// Largest load that kept all rules.
    pub knee: f64,
    /// 0.7 × `knee`: what to load a node with.
    pub rated: f64,
    /// Lower end of the 95 % confidence interval of `knee`.
    pub low: f64,
    /// Upper end of it.
    pub high: f64,
    /// What ended the ramp. With `generator` or `end_of_ramp` the knee is a lower bound.
    pub ended_by: EndedBy,
    /// Which ramp, as `R4`.
    pub ramp: String,
}

/// Bytes of memory: `base + connections × per_connection + subscriptions × per_subscription`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct MemoryModel {
    /// Resident bytes of the process without connections.
    pub base_bytes: f64,
    /// Resident bytes of the process for each connection.
    pub per_connection_bytes: f64,
    /// Bytes of the kernel for each connection (sockets), outside the process.
    pub per_connection_kernel_bytes: f64,
    /// Resident bytes for each subscription beyond a connection's first.
    pub per_subscription_bytes: f64,
}

/// CPU microseconds: `k0` per second, and the others for each of their thing, on a node that is
/// nearly idle. A busy one does more at a time, and each thing costs less: see `saving`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CostModel {
    /// Per second, whatever happens.
    pub base_us_per_s: f64,
    /// Per second for each connection (pings, timers).
    pub connection_us_per_s: f64,
    /// For each connect, with its upgrade, its first subscribe, and the close of the connection
    /// that it comes for.
    pub connect_us: f64,
    /// For each publication.
    pub publish_us: f64,
    /// For each delivery.
    pub delivery_us: f64,
    /// For each byte delivered.
    pub byte_us: f64,
    /// For each subscribe with recovery.
    pub recovery_us: f64,
    /// What a busy node saves. With the sum of the above as `demand`, in µs per second, the CPU
    /// time used is `demand / (1 + saving × demand)`; 0: all things always cost the same. Below
    /// 1 / (1e6 × cores).
    #[serde(default)]
    pub saving: f64,
    /// Share of the variance that the model explains, 0 to 1.
    pub r_squared: f64,
    /// Largest |residual| as a share of the measured value, or of two hundredths of a core where
    /// less was used.
    pub worst_residual_ratio: f64,
}

/// The Universal Scalability Law, `X(N) = λN / (1 + σ(N−1) + κN(N−1))`, over workers or nodes.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Usl {
    /// Throughput of one.
    pub lambda: f64,
    /// Contention.
    pub sigma: f64,
    /// Coherence.
    pub kappa: f64,
    /// Standard errors of the three.
    pub errors: [f64; 3],
    /// Largest N measured; never extrapolate past twice this.
    pub largest_n: f64,
}

/// The mixed ramp: what the cost model said, and what was measured.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Prediction {
    /// CPU microseconds per second by the model.
    pub predicted_us_per_s: f64,
    /// The same, measured.
    pub measured_us_per_s: f64,
    /// predicted / measured − 1.
    pub error_ratio: f64,
}

/// A load beyond the knee: what a node still does, and how soon it is well again.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Overload {
    /// Offered deliveries, as a multiple of their knee.
    pub factor: f64,
    /// Deliveries made, as a share of the knee (R7); above 1 where many share a write.
    pub goodput_ratio: f64,
    /// Seconds from the end of the overload until half of the knee is carried within the latency
    /// bound; none: not within the time the ramp had.
    pub recovery_s: Option<f64>,
}

/// The machine and build the figures are for.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Fingerprint {
    /// Version of the server.
    pub version: String,
    /// Model name of the processor.
    pub cpu_model: String,
    /// Processors the server could use.
    pub cores: u32,
    /// Memory of the machine, or of its container, in bytes.
    pub memory_bytes: u64,
    /// Kernel release.
    pub kernel: String,
    /// Worker threads of the server.
    pub workers: u32,
    /// File descriptors a process may open.
    pub descriptors: u64,
}

/// One step of a ramp, as measured.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// Which ramp, as `R4`.
    pub ramp: String,
    /// What was asked for, in the ramp's unit.
    pub offered: f64,
    /// What was reached.
    pub reached: f64,
    /// Seconds measured.
    pub seconds: f64,
    /// Connections.
    pub connections: f64,
    /// Subscriptions.
    pub subscriptions: f64,
    /// Per second: connects, publications, deliveries, bytes delivered, recoveries.
    pub connects_per_s: f64,
    /// Publications per second.
    pub publishes_per_s: f64,
    /// Deliveries per second.
    pub deliveries_per_s: f64,
    /// Bytes delivered per second.
    pub bytes_per_s: f64,
    /// Recoveries per second.
    pub recoveries_per_s: f64,
    /// CPU microseconds of the server per second.
    pub server_cpu_us_per_s: f64,
    /// Microseconds per second in which the server wanted to run and its quota did not let it.
    #[serde(default)]
    pub throttled_us_per_s: f64,
    /// Microseconds per second in which the server was ready to run and something else had the
    /// processor. On a machine that does nothing else it is a few per cent of a core.
    #[serde(default)]
    pub waited_us_per_s: f64,
    /// CPU microseconds of the generator per second.
    pub generator_cpu_us_per_s: f64,
    /// Resident bytes of the server at the end of the step.
    pub server_rss_bytes: f64,
    /// Latency in milliseconds, intended time to receipt (or of the ramp's own operation): p50.
    pub p50_ms: f64,
    /// The 99th percentile.
    pub p99_ms: f64,
    /// Slope of latency within the step, ms per s, and half of its 95 % confidence interval.
    pub drift_ms_per_s: [f64; 2],
    /// How late the generator was at the 99th percentile, milliseconds.
    pub generator_late_p99_ms: f64,
}

/// Something that this machine could not show.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NotMeasured {
    /// What.
    pub what: String,
    /// Why not.
    pub why: String,
}

/// The whole file.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CapacityFile {
    /// Version of the file's form, [`FORMAT`].
    pub format: u32,
    /// Machine and build.
    pub fingerprint: Fingerprint,
    /// When, RFC 3339 in UTC.
    pub measured_at: String,
    /// Whether it was the quick form: fewer and shorter steps.
    pub quick: bool,
    /// Bound of the delivery latency's 99th percentile, milliseconds.
    pub slo_p99_ms: f64,
    /// Figures by resource. What is not here was not measured.
    pub resources: BTreeMap<Resource, Measured>,
    /// Memory, if the slopes could be measured.
    pub memory: Option<MemoryModel>,
    /// The cost model, if it explains the steps (R² > 0.97, worst residual < 15 %).
    pub cost: Option<CostModel>,
    /// Scaling over workers, if there were enough cores to measure it.
    pub scaling: Option<Usl>,
    /// Check of the cost model against the mixed ramp.
    pub mixed: Option<Prediction>,
    /// Loads beyond the knee.
    #[serde(default)]
    pub overload: Vec<Overload>,
    /// What could not be measured here, and why.
    pub not_measured: Vec<NotMeasured>,
    /// Every step.
    pub steps: Vec<Step>,
}
