//! `/admin/status`: the state of the node in one object.

use super::capacity::Capacity;
use super::overload;
use crate::load::process;
use crate::node::Node;
use crate::telemetry::live::Sample;
use plimsoll_capacity::headroom::Load;
use plimsoll_core::tier::Tier;
use plimsoll_overload::signals::BackboneState;
use serde_json::{Map, Value, json};

/// What is lost when this node ends.
const LOSS_WINDOW: &str = "history, presence and positions live in this process and end with it";

/// The object.
pub fn render(node: &Node) -> String {
    let sample = node.live.sample();
    let rates = sample.rates.iter();
    let rates: Map<String, Value> =
        rates.map(|(name, rate)| (format!("{name}_per_second"), (*rate).into())).collect();
    let workers: Vec<_> = node
        .stats
        .iter()
        .map(|s| {
            json!({
                "connections": s.active.get(),
                "subscriptions": s.subscriptions.get(),
                "channels": s.channels_local.get(),
                "queued_bytes": s.queued_bytes.get(),
                "turns": s.turns.get(),
            })
        })
        .collect();
    let backbone = node.cluster.as_ref().map(|c| c.bridge.backbone.status());
    let channels: u64 = node.stats.iter().map(|s| s.channels_home.get()).sum();
    let status = json!({
        "version": env!("CARGO_PKG_VERSION"),
        "name": node.name,
        "uid": node.uid,
        "started_at": node.started_unix_s,
        "uptime_seconds": node.started.elapsed().as_secs(),
        "stopping": node.is_stopping(),
        "workers": workers,
        "connections": node.population.connections(),
        "users": node.population.users(),
        "tiers": tiers(node),
        "channels": channels,
        "rates": rates,
        "load": overload::load(&node.watch.view()),
        "memory": { "resident_bytes": process::resident_bytes() as u64 },
        "usage": by_load(Load::ALL.map(|load| (load, Some(sample.usage.of(load))))),
        "headroom": by_load(sample.headroom.iter().map(|(load, ratio)| (*load, Some(*ratio)))),
        "limiting": limiting(&sample).map(Load::name),
        "time_to_line_seconds": by_load(sample.seconds_to_line.iter().copied()),
        "cost": cost(&sample, &node.capacity),
        "capacity": capacity(&node.capacity),
        "fingerprint": node.capacity.here,
        "loss_window": backbone.as_ref().map_or(LOSS_WINDOW, |b| b.loss_window.as_str()),
        "backbone": backbone.as_ref().map(|b| self::backbone(node, b)),
    });
    format!("{status:#}\n")
}

/// The backbone and the other nodes.
fn backbone(node: &Node, status: &plimsoll_backbone::Status) -> Value {
    let Some(cluster) = &node.cluster else { return Value::Null };
    let figures = &cluster.bridge.figures;
    let brokers = status.brokers.iter().map(|b| {
        json!({
            "broker": b.broker,
            "up": b.up,
            "reconnects": b.reconnects,
            "resubscribes": b.resubscribes,
            "gaps": b.gaps,
            "cut_as_slow": b.cut_as_slow,
            "deliveries": b.deliveries,
            "in_flight": b.in_flight,
        })
    });
    let peers = cluster.peers();
    let nodes = peers.iter().map(|(id, name, _)| json!({ "uid": id.to_string(), "name": name }));
    json!({
        "kind": cluster.kind,
        "state": match cluster.bridge.state() {
            BackboneState::Up => "up",
            BackboneState::Probing => "probing",
            BackboneState::Down => "down",
        },
        "server": status.server,
        "brokers": brokers.collect::<Vec<_>>(),
        "published": figures.published.get(),
        "refused": figures.refused.get() + figures.broken.get(),
        "unknown": figures.unknown.get(),
        "received": figures.received.get(),
        "other_nodes": nodes.collect::<Vec<_>>(),
    })
}

/// Connections by tier; null while tiers are off.
fn tiers(node: &Node) -> Value {
    let count = |tier: Tier| node.stats.iter().map(|s| s.of_tier(tier).get()).sum::<u64>();
    let counts = Tier::ALL.map(|tier| (tier.name().to_owned(), count(tier).into()));
    match node.config.policy.tiers.enabled {
        true => Value::Object(counts.into_iter().collect()),
        false => Value::Null,
    }
}

/// The load with the least headroom.
fn limiting(sample: &Sample) -> Option<Load> {
    let least = sample.headroom.iter().min_by(|a, b| a.1.total_cmp(&b.1));
    least.map(|(load, _)| *load)
}

fn by_load(values: impl IntoIterator<Item = (Load, Option<f64>)>) -> Map<String, Value> {
    values.into_iter().map(|(load, value)| (load.name().to_owned(), json!(value))).collect()
}

fn cost(sample: &Sample, capacity: &Capacity) -> Value {
    let known = |value: f64| Some(value).filter(|v| *v > 0.0);
    let price = &capacity.price;
    json!({
        "per_hour": known(price.cost_per_hour),
        "monthly_users_per_concurrent": known(price.monthly_users_per_concurrent),
        "per_connection_month": sample.costs.per_connection_month,
        "per_million_deliveries": sample.costs.per_million_deliveries,
        "per_monthly_active_user": sample.costs.per_monthly_active_user,
    })
}

/// Where the load lines come from, and what they are.
fn capacity(capacity: &Capacity) -> Value {
    let lines = Load::ALL.into_iter().filter_map(|load| Some((load, capacity.lines.of(load)?)));
    let rated = by_load(lines.map(|(load, line)| (load, Some(line))));
    match &capacity.source {
        None => json!({ "source": "machine", "rated": rated }),
        Some(source) => json!({
            "source": "measured",
            "file": source.path,
            "measured_at": source.file.measured_at,
            "quick": source.file.quick,
            "mismatch": source.mismatch,
            "rated": rated,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::control::capacity;
    use plimsoll_capacity::headroom::Costs;

    #[test]
    fn the_least_headroom_limits() {
        let check = |headroom: &[(Load, f64)], expect: Option<Load>| {
            let sample = Sample { headroom: headroom.to_vec(), ..Sample::default() };
            assert_eq!(limiting(&sample), expect);
        };
        check(&[], None);
        check(&[(Load::Cpu, 0.4), (Load::Memory, -0.1), (Load::Egress, 0.9)], Some(Load::Memory));
    }

    #[test]
    fn what_is_not_known_is_null() {
        let mut config = Config::default();
        config.policy.client.connection_limit = 500;
        let unpriced = capacity::load(&config).unwrap();
        let value = capacity(&unpriced);
        assert_eq!(
            (&value["source"], &value["rated"]["connections"]),
            (&json!("machine"), &json!(500.0))
        );
        assert!(value["rated"].get("deliveries").is_none());
        let sample = Sample {
            costs: Costs { per_connection_month: Some(0.01), ..Costs::default() },
            ..Sample::default()
        };
        let value = cost(&sample, &unpriced);
        assert_eq!(
            (&value["per_hour"], &value["per_connection_month"]),
            (&Value::Null, &json!(0.01))
        );
        let times = by_load([(Load::Cpu, None), (Load::Memory, Some(60.0))]);
        assert_eq!(json!(times), json!({ "cpu": null, "memory": 60.0 }));
    }
}
