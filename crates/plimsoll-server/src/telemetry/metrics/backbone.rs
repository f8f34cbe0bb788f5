//! Metrics of the way to the backbone.

use super::{Metric, Source, counter, gauge};
use crate::bridge::GARBAGE;
use crate::cluster::Cluster;
use crate::telemetry::stats::Cell;
use plimsoll_backbone::BrokerFigures;

pub(super) const METRICS: &[Metric] = &[
    Metric {
        name: "realtime_pubsub_publish_latency_ms",
        kind: "histogram",
        help: "From handing a publication to the backbone to its acknowledgement.",
        source: Source::BackboneHistogram(|f| &f.publish_ms),
    },
    counter(
        "realtime_pubsub_messages_received_total",
        "Messages received from the backbone.",
        Source::Backbone(|c| c.bridge.figures.received.get() as f64),
    ),
    Metric {
        name: "plimsoll_pubsub_lag_ms",
        kind: "histogram",
        help: "From the publication time, of the publishing node's clock, to the receipt here.",
        source: Source::BackboneHistogram(|f| &f.lag_ms),
    },
    Metric {
        name: "plimsoll_pubsub_batch_size",
        kind: "histogram",
        help: "Publications handed to the backbone by one call.",
        source: Source::BackboneHistogram(|f| &f.batch),
    },
    counter(
        "plimsoll_pubsub_received_bytes_total",
        "Bytes of messages received from the backbone.",
        Source::Backbone(|c| c.bridge.figures.received_bytes.get() as f64),
    ),
    counter(
        "plimsoll_pubsub_publications_total",
        "Publications handed to the backbone, by what became of them. unknown: no answer came.",
        Source::BackboneBy("outcome", |c| {
            let f = &c.bridge.figures;
            named(&[
                ("acknowledged", &f.published),
                ("refused", &f.refused),
                ("unknown", &f.unknown),
                ("not_tried", &f.broken),
            ])
        }),
    ),
    counter(
        "plimsoll_pubsub_garbage_total",
        "What came from the broker and is not ours, by reason.",
        Source::BackboneBy("reason", |c| {
            let cells = c.bridge.figures.garbage.iter();
            GARBAGE.iter().zip(cells).map(|(r, n)| ((*r).into(), n.get() as f64)).collect()
        }),
    ),
    counter(
        "plimsoll_pubsub_dropped_total",
        "Deliveries dropped because a worker did not keep up; their channels were read again.",
        Source::Backbone(|c| c.bridge.figures.dropped.get() as f64),
    ),
    counter(
        "plimsoll_pubsub_channels_total",
        "Channels subscribed, not subscribed because of an error, given back, and read again.",
        Source::BackboneBy("what", |c| {
            let f = &c.bridge.figures;
            named(&[
                ("opened", &f.opens),
                ("failed", &f.opens_failed),
                ("closed", &f.closes),
                ("read_again", &f.reads),
            ])
        }),
    ),
    gauge(
        "plimsoll_pubsub_presence_waiting",
        "Joins and leaves that the backbone has not noted yet.",
        Source::Backbone(|c| c.bridge.figures.presence_waiting.get() as f64),
    ),
    gauge(
        "plimsoll_pubsub_state",
        "0 = up, 1 = publications are tried one by one, 2 = down.",
        Source::Backbone(|c| f64::from(c.bridge.state() as u8)),
    ),
    gauge(
        "plimsoll_pubsub_up",
        "Whether the links to a broker node are there.",
        Source::BackboneBy("broker", |c| by_broker(c, |b| b.up.into())),
    ),
    counter(
        "plimsoll_pubsub_reconnects_total",
        "Links made anew, by broker node.",
        Source::BackboneBy("broker", |c| by_broker(c, |b| b.reconnects)),
    ),
    counter(
        "plimsoll_pubsub_resubscribes_total",
        "Subscriptions restored, by broker node.",
        Source::BackboneBy("broker", |c| by_broker(c, |b| b.resubscribes)),
    ),
    counter(
        "plimsoll_pubsub_gaps_total",
        "Times that deliveries may have been missed, by broker node.",
        Source::BackboneBy("broker", |c| by_broker(c, |b| b.gaps)),
    ),
    counter(
        "plimsoll_pubsub_cut_as_slow_total",
        "Links that the broker cut because this node did not read fast enough.",
        Source::BackboneBy("broker", |c| by_broker(c, |b| b.cut_as_slow)),
    ),
    gauge(
        "plimsoll_cluster_nodes",
        "Nodes of the cluster, this one among them.",
        Source::Backbone(|c| 1.0 + c.peers().len() as f64),
    ),
    counter(
        "plimsoll_channel_events_total",
        "Of channels on the backbone: holes found, publications read to fill them, repeated ones \
         left out, channels whose subscribers were told that something is missing, members of \
         nodes that went silently.",
        Source::Labelled(
            "event",
            &[
                ("hole", |s| &s.link.gaps),
                ("healed", |s| &s.link.healed),
                ("repeated", |s| &s.link.repeated),
                ("lost", |s| &s.link.lost),
                ("ghost", |s| &s.link.ghosts),
            ],
        ),
    ),
];

fn named(cells: &[(&str, &Cell)]) -> Vec<(String, f64)> {
    cells.iter().map(|(name, cell)| ((*name).to_owned(), cell.get() as f64)).collect()
}

/// One figure of every broker node. A cluster of brokers has few.
fn by_broker(cluster: &Cluster, of: fn(&BrokerFigures) -> u64) -> Vec<(String, f64)> {
    let brokers = cluster.bridge.backbone.status().brokers;
    brokers.iter().map(|b| (b.broker.clone(), of(b) as f64)).collect()
}
