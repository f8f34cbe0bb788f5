//! Keys of the backbone.

use super::key::{Key, Kind, Number};
use super::table::{SECOND, key};
use super::{BackboneKind, Config};

/// Keys under `backbone`.
#[rustfmt::skip]
pub(super) static BACKBONE_KEYS: &[Key<Config>] = &[
    key("backbone.kind", Kind::Choice {
            names: &BackboneKind::NAMES,
            set: |c, at| {
                c.backbone.kind = BackboneKind::ALL.get(at).copied().unwrap_or_default();
            },
            get: |c| c.backbone.kind as usize,
        },
        "The broker between nodes. `memory` = none: one node. `nats` keeps no history."),
    key("backbone.prefix", Kind::Text(|c| &mut c.backbone.prefix),
        "What all keys, channels and subjects at the broker begin with: letters, digits, `_`, `-`. \
         Clusters that share a broker have different ones."),
    key("backbone.signing_key", Kind::Secret(|c| &mut c.backbone.signing_key),
        "Signs what nodes say to each other, so that who can write to the broker cannot forge \
         messages. The same on all nodes."),
    key("backbone.linger",
        Kind::Duration(0, 3_600 * SECOND, |c| &mut c.backbone.linger_ms),
        "How long a channel stays subscribed at the broker after its last subscriber here left."),
    key("backbone.node_lease",
        Kind::Duration(5 * SECOND, 600 * SECOND, |c| &mut c.backbone.node_lease_ms),
        "A node that is silent for so long is taken for gone, and so are its members."),
    key("backbone.probe_interval",
        Kind::Duration(SECOND, 60 * SECOND, |c| &mut c.backbone.probe_interval_ms),
        "A silent link is probed so often; without an answer for two of them it is made anew."),
    key("backbone.redis.addresses", Kind::List(|c| &mut c.backbone.redis.addresses),
        "`redis://host:port/db`, `rediss://` for TLS. Of a Cluster, one or more of its nodes."),
    key("backbone.redis.user", Kind::Text(|c| &mut c.backbone.redis.user),
        "ACL user; empty = the default user."),
    key("backbone.redis.password", Kind::Secret(|c| &mut c.backbone.redis.password),
        "Password of the ACL user."),
    key("backbone.redis.ca_file", Kind::Text(|c| &mut c.backbone.redis.ca_file),
        "File with the certificates that are trusted; empty = those of the system."),
    key("backbone.redis.sentinels", Kind::List(|c| &mut c.backbone.redis.sentinels),
        "Sentinels as `host:port`; with them `addresses` is not used."),
    key("backbone.redis.sentinel_master", Kind::Text(|c| &mut c.backbone.redis.sentinel_master),
        "What the Sentinels call the master."),
    key("backbone.redis.sentinel_user", Kind::Text(|c| &mut c.backbone.redis.sentinel_user),
        "User at the Sentinels."),
    key("backbone.redis.sentinel_password",
        Kind::Secret(|c| &mut c.backbone.redis.sentinel_password),
        "Password at the Sentinels."),
    key("backbone.redis.partitions",
        Kind::Count(1, 4_096, Number::U64(|c| &mut c.backbone.redis.partitions)),
        "Parts into which a Cluster's channels are divided. The same on all nodes, for ever."),
    key("backbone.nats.urls", Kind::List(|c| &mut c.backbone.nats.urls),
        "`nats://host:port`, `tls://` for TLS; servers of one cluster."),
    key("backbone.nats.user", Kind::Text(|c| &mut c.backbone.nats.user),
        "User at NATS; empty = none."),
    key("backbone.nats.password", Kind::Secret(|c| &mut c.backbone.nats.password),
        "Password of the user at NATS."),
    key("backbone.nats.token", Kind::Secret(|c| &mut c.backbone.nats.token),
        "Token instead of a user."),
    key("backbone.nats.credentials_file", Kind::Text(|c| &mut c.backbone.nats.credentials_file),
        "File with credentials (JWT and seed)."),
    key("backbone.nats.ca_file", Kind::Text(|c| &mut c.backbone.nats.ca_file),
        "File with the certificates that are trusted; empty = those of the system."),
    key("backbone.nats.replicas",
        Kind::Count(1, 5, Number::U64(|c| &mut c.backbone.nats.replicas)),
        "Copies of each JetStream message."),
    key("backbone.nats.memory_storage", Kind::Bool(|c| &mut c.backbone.nats.memory_storage),
        "JetStream keeps messages in memory, not in files."),
];
