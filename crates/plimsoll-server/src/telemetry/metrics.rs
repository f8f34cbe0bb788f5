//! `/metrics`: every metric declared once, in Prometheus' text form.

mod backbone;
mod text;

use super::live::Sample;
use super::stats::{CellOf, Histogram, WorkerStats};
use crate::bridge::BridgeFigures;
use crate::cluster::Cluster;
use crate::load::process;
use crate::load::signals;
use crate::load::watch::View;
use crate::node::Node;
use plimsoll_capacity::headroom::Load;
use plimsoll_core::quota::Limit;
use plimsoll_overload::emergency::{STEPS, StepRow};
use std::fmt::Write;
use text::{number, sum, write_histogram};

/// Where a metric's value comes from.
enum Source {
    /// A sum over the workers.
    Sum(CellOf),
    /// Sums over the workers, one for each value of a label.
    Labelled(&'static str, &'static [(&'static str, CellOf)]),
    /// A histogram, added up over the workers.
    Histogram(fn(&WorkerStats) -> &Histogram),
    /// A figure of the whole node.
    Node(fn(&Node) -> f64),
    /// A figure of the last second; the metric is absent where there is none.
    Live(fn(&Sample) -> Option<f64>),
    /// A figure of the load line.
    Line(fn(&View) -> f64),
    /// Figures of the load line by a label.
    LineBy(&'static str, fn(&View) -> Vec<(&'static str, f64)>),
    /// A figure of the way to the backbone; absent without one, like the next two.
    Backbone(fn(&Cluster) -> f64),
    /// Figures of it by a label.
    BackboneBy(&'static str, fn(&Cluster) -> Vec<(String, f64)>),
    /// A histogram of it.
    BackboneHistogram(fn(&BridgeFigures) -> &Histogram),
    /// Figures of the last second, by resource.
    Resources(fn(&Sample) -> Vec<(Load, f64)>),
}

struct Metric {
    name: &'static str,
    kind: &'static str,
    help: &'static str,
    source: Source,
}

const fn counter(name: &'static str, help: &'static str, source: Source) -> Metric {
    Metric { name, kind: "counter", help, source }
}

const fn gauge(name: &'static str, help: &'static str, source: Source) -> Metric {
    Metric { name, kind: "gauge", help, source }
}

const fn histogram(
    name: &'static str,
    help: &'static str,
    of: fn(&WorkerStats) -> &Histogram,
) -> Metric {
    Metric { name, kind: "histogram", help, source: Source::Histogram(of) }
}

impl Source {
    fn is_of_backbone(&self) -> bool {
        matches!(self, Self::Backbone(_) | Self::BackboneBy(..) | Self::BackboneHistogram(_))
    }
}

const METRICS: &[Metric] = &[
    gauge("realtime_active_connections", "WebSocket connections now.", Source::Sum(|s| &s.active)),
    gauge(
        "realtime_connection_capacity",
        "Connections this node can carry: the rated ones of capacity.file, client.connection_limit \
         or its file descriptors, whichever is least.",
        Source::Node(capacity),
    ),
    counter(
        "realtime_connections_total",
        "Connections by outcome.",
        Source::Labelled(
            "status",
            &[
                ("established", |s| &s.established),
                ("closed", |s| &s.closed),
                ("rejected", |s| &s.rejected),
                ("error", |s| &s.errors),
            ],
        ),
    ),
    histogram("realtime_connection_duration_seconds", "Lifetimes of connections.", |s| {
        &s.duration_s
    }),
    counter(
        "realtime_messages_received_total",
        "Commands received from clients.",
        Source::Sum(|s| &s.messages_in),
    ),
    counter(
        "realtime_messages_sent_total",
        "Messages sent to clients: publications, replies, pushes and pings.",
        Source::Sum(|s| &s.messages_out),
    ),
    histogram(
        "realtime_message_delivery_latency_ms",
        "From receipt of a publication to the write that carried it, per delivery.",
        |s| &s.latency_ms,
    ),
    gauge(
        "realtime_message_queue_depth",
        "Messages, or turns of them, queued for sockets that are full.",
        Source::Sum(|s| &s.queued_chunks),
    ),
    histogram(
        "realtime_fanout_recipients",
        "Subscribers of a publication, per worker that has any.",
        |s| &s.recipients,
    ),
    counter(
        "realtime_delivery_errors_total",
        "Connections cut, or publications refused, because delivery was impossible.",
        Source::Labelled(
            "error_type",
            &[
                ("slow", |s| &s.slow),
                ("write_error", |s| &s.write_errors),
                ("congested", |s| &s.congested),
                ("gap", |s| &s.gaps),
            ],
        ),
    ),
    counter(
        "realtime_presence_updates_total",
        "Joins and leaves told.",
        Source::Sum(|s| &s.presence_updates),
    ),
    counter(
        "plimsoll_presence_events_saved_total",
        "Joins and leaves not told: the member was back in time, they undid each other, or only \
         the number of members was told.",
        Source::Labelled(
            "reason",
            &[
                ("debounced", |s| &s.presence_debounced),
                ("coalesced", |s| &s.presence_coalesced),
                ("suppressed", |s| &s.presence_suppressed),
            ],
        ),
    ),
    counter(
        "plimsoll_receipts_total",
        "Read marks by what became of them: they rose, were not above the last one of their user, \
         or were refused as bad or for want of room.",
        Source::Labelled(
            "outcome",
            &[
                ("risen", |s| &s.marks.risen),
                ("old", |s| &s.marks.old),
                ("refused", |s| &s.marks.refused),
            ],
        ),
    ),
    counter(
        "plimsoll_receipts_pushes_total",
        "Publications that told read marks, each all that rose in an interval.",
        Source::Sum(|s| &s.marks.pushes),
    ),
    gauge(
        "realtime_online_users",
        "Distinct user ids now.",
        Source::Node(|n| n.population.users() as f64),
    ),
    counter("plimsoll_sockets_accepted_total", "Sockets accepted.", Source::Sum(|s| &s.accepted)),
    counter("plimsoll_received_bytes_total", "Bytes from clients.", Source::Sum(|s| &s.bytes_in)),
    counter("plimsoll_sent_bytes_total", "Bytes to clients.", Source::Sum(|s| &s.bytes_out)),
    counter(
        "plimsoll_publications_total",
        "Publications accepted.",
        Source::Sum(|s| &s.publications),
    ),
    counter(
        "plimsoll_publication_bytes_total",
        "Bytes of the payloads of publications accepted.",
        Source::Sum(|s| &s.publication_bytes),
    ),
    counter("plimsoll_deliveries_total", "Publications delivered.", Source::Sum(|s| &s.deliveries)),
    gauge(
        "plimsoll_queued_bytes",
        "Bytes queued for full sockets.",
        Source::Sum(|s| &s.queued_bytes),
    ),
    counter(
        "plimsoll_recoveries_total",
        "Recoveries by result.",
        Source::Labelled(
            "recovered",
            &[("true", |s| &s.recovered), ("false", |s| &s.not_recovered)],
        ),
    ),
    counter(
        "plimsoll_reconnects_total",
        "Connections that recovered a subscription within 10 s of their start: clients that came \
         back.",
        Source::Sum(|s| &s.reconnects),
    ),
    gauge(
        "plimsoll_headroom_ratio",
        "1 - use / load line, by resource: 1 idle, 0 at the line, at least -1.",
        Source::Resources(|s| s.headroom.clone()),
    ),
    gauge(
        "plimsoll_time_to_line_seconds",
        "Until the load line, if the last 15 minutes go on; +Inf when there is no such trend.",
        Source::Resources(seconds_to_line),
    ),
    gauge(
        "plimsoll_cost_per_connection_month",
        "Of a connection held for 720 hours, at the mean use of 15 minutes; in the currency of \
         capacity.cost_per_hour.",
        Source::Live(|s| s.costs.per_connection_month),
    ),
    gauge(
        "plimsoll_cost_per_million_deliveries",
        "Of a million deliveries, likewise.",
        Source::Live(|s| s.costs.per_million_deliveries),
    ),
    gauge(
        "plimsoll_cost_per_monthly_active_user",
        "Of a monthly active user for 720 hours, likewise.",
        Source::Live(|s| s.costs.per_monthly_active_user),
    ),
    gauge(
        "plimsoll_load_level",
        "0 normal, 1 warning, 2 degraded, 3 critical, 4 emergency; a pinned level counts.",
        Source::Line(|v| v.outcome.level.number().into()),
    ),
    gauge(
        "plimsoll_load_score",
        "The highest pressure; 1 = rated load.",
        Source::Line(|v| v.outcome.score),
    ),
    gauge(
        "plimsoll_pressure",
        "Use / rated, by resource, smoothed; absent where it is not known.",
        Source::LineBy("resource", |v| {
            let known = v.outcome.pressures.iter();
            known.filter_map(|(resource, p)| Some((resource.name(), p?))).collect()
        }),
    ),
    gauge(
        "plimsoll_action_strength",
        "What is done against the load, 0 to 1 by action.",
        Source::LineBy("action", |v| {
            v.outcome.strengths.iter().map(|(action, s)| (action.name(), s)).collect()
        }),
    ),
    counter(
        "plimsoll_level_transitions_total",
        "Changes of the level.",
        Source::Line(|v| v.outcome.transitions_total as f64),
    ),
    gauge(
        "plimsoll_signal",
        "Raw signals of the load, unit in the name; absent where the system does not say it.",
        Source::LineBy("signal", |v| signals::named(&v.signals).collect()),
    ),
    gauge(
        "plimsoll_storm",
        "1 while far more clients connect than usual, and most of them come back.",
        Source::Line(|v| f64::from(u8::from(v.outcome.storm))),
    ),
    gauge(
        "plimsoll_emergency_step",
        "1 while a step of an emergency is in force.",
        Source::LineBy("step", |v| {
            let taken = |row: &StepRow| f64::from(u8::from(v.outcome.plan.takes(row.step)));
            STEPS.iter().map(|row| (row.name, taken(row))).collect()
        }),
    ),
    counter(
        "plimsoll_memory_given_back_total",
        "Times that a worker gave its spare buffers back in an emergency.",
        Source::Sum(|s| &s.memory_given_back),
    ),
    gauge(
        "plimsoll_accepting_new_connections",
        "0 while an override keeps new connections out.",
        Source::Line(|v| f64::from(u8::from(v.accepts_new_connections()))),
    ),
    counter(
        "plimsoll_listen_dropped_total",
        "Connections that listeners of this network namespace dropped: all, and those for a full \
         accept queue.",
        Source::LineBy("reason", |v| {
            vec![("any", v.listen_drops as f64), ("overflow", v.listen_overflows as f64)]
        }),
    ),
    counter(
        "plimsoll_overload_alerts_total",
        "Alerts for overload.alert_webhook by outcome.",
        Source::LineBy("outcome", |v| v.alerts.iter().map(|(o, n)| (*o, *n as f64)).collect()),
    ),
    counter(
        "plimsoll_accept_pauses_total",
        "Pauses of 100 ms in accepting because no descriptor was left for clients.",
        Source::Sum(|s| &s.accept_pauses),
    ),
    gauge(
        "plimsoll_connects_parked",
        "Connects that wait at the door.",
        Source::Sum(|s| &s.parked),
    ),
    gauge(
        "plimsoll_handshakes_in_flight",
        "Connections accepted and not connected yet, parked ones included.",
        Source::Sum(|s| &s.handshakes),
    ),
    counter(
        "plimsoll_connects_total",
        "Connects by kind, whatever became of them. `back`: they asked for what they missed.",
        Source::Labelled("kind", &[("all", |s| &s.connects), ("back", |s| &s.connects_back)]),
    ),
    gauge(
        "plimsoll_recoveries_waiting",
        "Recoveries that wait for their turn.",
        Source::Sum(|s| &s.recoveries_waiting),
    ),
    counter(
        "plimsoll_refused_total",
        "What was refused, with a temporary error or (ephemeral) without: because of the load, or \
         (publish_rate) because one connection sends too many.",
        Source::Labelled(
            "what",
            &[
                ("connect", |s| &s.connects_refused),
                ("recovery", |s| &s.recoveries_deferred),
                ("publication", |s| &s.publications_refused),
                ("publish_rate", |s| s.of_limit(Limit::PublishRate)),
                ("ephemeral", |s| &s.ephemeral_throttled),
            ],
        ),
    ),
    counter(
        "plimsoll_quota_refused_total",
        "Connects and publications refused because a tenant or a user is over its quota.",
        Source::Labelled(
            "kind",
            &[
                ("tenant_connects", |s| s.of_limit(Limit::TenantConnects)),
                ("tenant_publishes", |s| s.of_limit(Limit::TenantPublishes)),
                ("tenant_deliveries", |s| s.of_limit(Limit::TenantDeliveries)),
                ("user_connects", |s| s.of_limit(Limit::UserConnects)),
                ("user_publishes", |s| s.of_limit(Limit::UserPublishes)),
                ("user_deliveries", |s| s.of_limit(Limit::UserDeliveries)),
            ],
        ),
    ),
    gauge(
        "plimsoll_tier_connections",
        "Connections now by tier, while tiers are on.",
        Source::Labelled(
            "tier",
            &[
                ("free", |s| &s.tier_free),
                ("pro", |s| &s.tier_pro),
                ("enterprise", |s| &s.tier_enterprise),
            ],
        ),
    ),
    counter(
        "plimsoll_unknown_tiers_total",
        "Connects whose token names a tier that does not exist.",
        Source::Sum(|s| &s.tiers_unknown),
    ),
    counter(
        "plimsoll_idle_closed_total",
        "Connections closed because their users did nothing.",
        Source::Labelled("cause", &[("timeout", |s| &s.idle_closed), ("load", |s| &s.idle_shed)]),
    ),
    counter(
        "plimsoll_dropped_ephemeral_total",
        "Ephemeral publications left out for connections that were behind, or given up.",
        Source::Sum(|s| &s.dropped_ephemeral),
    ),
    counter(
        "plimsoll_conflated_total",
        "States replaced by newer ones before a slow connection got them.",
        Source::Sum(|s| &s.conflated),
    ),
    counter(
        "plimsoll_fell_behind_total",
        "Channels of connections of which something was left out, and the client told.",
        Source::Sum(|s| &s.fell_behind),
    ),
    counter(
        "plimsoll_hot_slices_total",
        "Slices in which channels with very many subscribers were written.",
        Source::Sum(|s| &s.hot_slices),
    ),
    counter("plimsoll_error_replies_total", "Commands refused.", Source::Sum(|s| &s.error_replies)),
    counter(
        "plimsoll_bad_input_total",
        "Connections closed because what they sent is not the protocol.",
        Source::Sum(|s| &s.bad_input),
    ),
    counter("plimsoll_panics_total", "Panics caught; always a fault.", Source::Sum(|s| &s.panics)),
    gauge("plimsoll_subscriptions", "Subscriptions now.", Source::Sum(|s| &s.subscriptions)),
    gauge("plimsoll_channels", "Channels with state now.", Source::Sum(|s| &s.channels_home)),
    counter(
        "plimsoll_worker_turns_total",
        "Turns of the workers' loops.",
        Source::Sum(|s| &s.turns),
    ),
    counter(
        "plimsoll_log_lines_suppressed_total",
        "Log lines about connections beyond the rate limit.",
        Source::Sum(|s| &s.log_lines_suppressed),
    ),
    gauge(
        "plimsoll_uptime_seconds",
        "Since the start.",
        Source::Node(|n| n.started.elapsed().as_secs_f64()),
    ),
    gauge(
        "process_resident_memory_bytes",
        "Resident memory.",
        Source::Node(|_| process::resident_bytes()),
    ),
    counter("process_cpu_seconds_total", "CPU time.", Source::Node(|_| process::cpu_seconds())),
    gauge("process_open_fds", "File descriptors.", Source::Node(|_| process::open_descriptors())),
];

/// All metrics in Prometheus' text form.
pub fn render(node: &Node) -> String {
    let mut out = String::with_capacity(16 * 1024);
    let sample = node.live.sample();
    let view = node.watch.view();
    for metric in METRICS.iter().chain(backbone::METRICS) {
        let Metric { name, kind, help, source } = metric;
        if matches!(source, Source::Live(of) if of(&sample).is_none()) {
            continue;
        }
        if source.is_of_backbone() && node.cluster.is_none() {
            continue;
        }
        // Writing to a `String` cannot fail.
        let _ = write!(out, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
        let _ = match source {
            Source::Sum(cell) => writeln!(out, "{name} {}", sum(&node.stats, *cell)),
            Source::Node(value) => writeln!(out, "{name} {}", value(node)),
            Source::Live(of) => of(&sample).iter().try_for_each(|v| writeln!(out, "{name} {v}")),
            Source::Line(value) => writeln!(out, "{name} {}", number(value(&view))),
            Source::LineBy(label, of) => of(&view).iter().try_for_each(|(value, n)| {
                writeln!(out, "{name}{{{label}=\"{value}\"}} {}", number(*n))
            }),
            Source::Resources(of) => of(&sample).iter().try_for_each(|(load, value)| {
                writeln!(out, "{name}{{resource=\"{}\"}} {}", load.name(), number(*value))
            }),
            Source::Labelled(label, cells) => cells.iter().try_for_each(|(value, cell)| {
                writeln!(out, "{name}{{{label}=\"{value}\"}} {}", sum(&node.stats, *cell))
            }),
            Source::Histogram(of) => {
                write_histogram(&mut out, name, node.stats.iter().map(|w| of(w)))
            }
            Source::Backbone(of) => {
                let value = node.cluster.as_ref().map(|c| of(c));
                value.iter().try_for_each(|v| writeln!(out, "{name} {v}"))
            }
            Source::BackboneBy(label, of) => {
                let values = node.cluster.as_ref().map(|c| of(c)).unwrap_or_default();
                values
                    .iter()
                    .try_for_each(|(value, n)| writeln!(out, "{name}{{{label}=\"{value}\"}} {n}"))
            }
            Source::BackboneHistogram(of) => {
                let figures = node.cluster.iter().map(|c| of(&c.bridge.figures));
                write_histogram(&mut out, name, figures)
            }
        };
    }
    out
}

fn capacity(node: &Node) -> f64 {
    node.capacity.lines.of(Load::Connections).unwrap_or_default()
}

fn seconds_to_line(sample: &Sample) -> Vec<(Load, f64)> {
    let all = sample.seconds_to_line.iter();
    all.map(|(load, seconds)| (*load, seconds.unwrap_or(f64::INFINITY))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn every_name_is_declared_once_and_well_formed() {
        let mut names: Vec<_> = METRICS.iter().chain(backbone::METRICS).map(|m| m.name).collect();
        for m in METRICS.iter().chain(backbone::METRICS) {
            assert!(
                m.name.bytes().all(|b| b.is_ascii_lowercase() || b"_".contains(&b)),
                "{}",
                m.name
            );
            assert_eq!(m.kind == "counter", m.name.ends_with("_total"), "{}", m.name);
        }
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), METRICS.len() + backbone::METRICS.len());
    }

    #[test]
    fn numbers() {
        assert_eq!(number(f64::INFINITY), "+Inf");
        assert_eq!(number(-0.25), "-0.25");
    }

    #[test]
    fn histograms_add_up() {
        let a = Arc::new(WorkerStats::default());
        let b = Arc::new(WorkerStats::default());
        a.latency_ms.observe(0.5, 10);
        b.latency_ms.observe(7.0, 2);
        b.latency_ms.observe(5_000.0, 1);
        let mut out = String::new();
        write_histogram(&mut out, "x", [&a.latency_ms, &b.latency_ms].into_iter()).unwrap();
        for line in [
            "x_bucket{le=\"1\"} 10\n",
            "x_bucket{le=\"10\"} 12\n",
            "x_bucket{le=\"+Inf\"} 13\n",
            "x_sum 5019\n",
            "x_count 13\n",
        ] {
            assert!(out.contains(line), "{line} in {out}");
        }
    }
}
