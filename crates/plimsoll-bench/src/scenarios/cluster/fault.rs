//! Faults, and what each of them may cost.

use super::arena::Arena;
use crate::cluster::BrokerKind;
use crate::fleet::Fleet;
use crate::proxy::Mode;
use crate::scenarios::common::duration;
use std::fmt;
use std::str::FromStr;
use std::thread::JoinHandle;
use std::time::Duration;

/// What goes wrong at a third of the run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A node is killed and comes back (F1).
    KillNode(Duration),
    /// The broker is killed and comes back, with what it had or empty (F5).
    BrokerKill(Duration, Store),
    /// The broker is stopped where it is (F6).
    BrokerStop(Duration),
    /// A master of a Redis Cluster is killed and comes back (F8).
    ClusterMasterKill(Duration),
    /// Slots of a Redis Cluster move (F8).
    SlotMigrate,
    /// The first node does not reach the broker, and its clients reach it (F11).
    Partition(Duration),
    /// Half of the clients' connections are reset at once (F14).
    ResetHalf,
    /// From the start: one channel, whose subscribers come back all the time, and a history that
    /// is hardly longer than they are away (F17).
    RecoveryRace,
    /// One of three servers of NATS is killed and comes back (F24).
    NatsKillOne(Duration),
    /// The leaders of all streams step down (F24).
    NatsStepdown,
    /// All streams are emptied (F24).
    StreamPurge,
    /// The first node reads nothing, until the broker gives it up (F24).
    SlowConsumer(Duration),
}

/// What a killed broker has when it is back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Store {
    /// What it wrote down: Redis writes each second.
    Kept,
    /// Nothing.
    Empty,
}

/// Every name, with a time where there is one.
const NAMES: &str = "kill-node[:5s], broker-kill[:1s[:empty|kept]], broker-stop[:3s], \
    cluster-master-kill[:10s], slot-migrate, partition[:60s], reset-half, recovery-race, \
    nats-kill-one[:10s], nats-stepdown, stream-purge or slow-consumer[:8s]";

impl FromStr for Fault {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut words = text.split(':');
        let name = words.next().unwrap_or_default();
        let (first, second) = (words.next(), words.next());
        let time = |usual: &str| duration(first.unwrap_or(usual));
        let made = match name {
            "kill-node" => Self::KillNode(time("5s")?),
            "broker-kill" => Self::BrokerKill(
                time("1s")?,
                match second {
                    None | Some("empty") => Store::Empty,
                    Some("kept") => Store::Kept,
                    Some(other) => return Err(format!("{other}: must be empty or kept")),
                },
            ),
            "broker-stop" => Self::BrokerStop(time("3s")?),
            "cluster-master-kill" => Self::ClusterMasterKill(time("10s")?),
            "slot-migrate" => Self::SlotMigrate,
            "partition" => Self::Partition(time("60s")?),
            "reset-half" => Self::ResetHalf,
            "recovery-race" => Self::RecoveryRace,
            "nats-kill-one" => Self::NatsKillOne(time("10s")?),
            "nats-stepdown" => Self::NatsStepdown,
            "stream-purge" => Self::StreamPurge,
            "slow-consumer" => Self::SlowConsumer(time("8s")?),
            _ => return Err(format!("must be {NAMES}")),
        };
        let most = match made {
            Self::BrokerKill(..) => 3,
            made if made.length().is_some() => 2,
            _ => 1,
        };
        if text.split(':').count() > most {
            return Err(format!("must be {NAMES}"));
        }
        Ok(made)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::KillNode(_) => "kill-node",
            Self::BrokerKill(_, Store::Kept) => "broker-kill, kept",
            Self::BrokerKill(_, Store::Empty) => "broker-kill, empty",
            Self::BrokerStop(_) => "broker-stop",
            Self::ClusterMasterKill(_) => "cluster-master-kill",
            Self::SlotMigrate => "slot-migrate",
            Self::Partition(_) => "partition",
            Self::ResetHalf => "reset-half",
            Self::RecoveryRace => "recovery-race",
            Self::NatsKillOne(_) => "nats-kill-one",
            Self::NatsStepdown => "nats-stepdown",
            Self::StreamPurge => "stream-purge",
            Self::SlowConsumer(_) => "slow-consumer",
        })?;
        match self.length() {
            Some(length) => write!(f, " for {length:?}"),
            None => Ok(()),
        }
    }
}

impl Fault {
    /// How long it lasts, where that is said.
    pub fn length(self) -> Option<Duration> {
        match self {
            Self::KillNode(length)
            | Self::BrokerKill(length, _)
            | Self::BrokerStop(length)
            | Self::ClusterMasterKill(length)
            | Self::Partition(length)
            | Self::NatsKillOne(length)
            | Self::SlowConsumer(length) => Some(length),
            _ => None,
        }
    }

    /// Whether it can happen with this broker, and so many nodes.
    pub fn check(self, kind: BrokerKind, nodes: usize) -> Result<(), String> {
        use BrokerKind::{Jetstream, Memory, Nats, Redis, RedisCluster};
        let fits: &[BrokerKind] = match self {
            Self::BrokerKill(..) | Self::BrokerStop(_) | Self::Partition(_) => {
                &[Redis, Nats, Jetstream]
            }
            Self::KillNode(_) => &[Redis, RedisCluster, Nats, Jetstream],
            Self::ClusterMasterKill(_) | Self::SlotMigrate => &[RedisCluster],
            Self::NatsKillOne(_) => &[Nats, Jetstream],
            Self::NatsStepdown | Self::StreamPurge => &[Jetstream],
            Self::RecoveryRace => &[Memory, Redis, RedisCluster, Jetstream],
            Self::ResetHalf | Self::SlowConsumer(_) => return Ok(()),
        };
        if !fits.contains(&kind) {
            return Err(format!("--fault {self}: cannot happen with {}", kind.name()));
        }
        if matches!(self, Self::KillNode(_)) && nodes < 2 {
            return Err("--fault kill-node: needs a node that stays".into());
        }
        Ok(())
    }

    /// Servers of NATS that it needs.
    pub fn nats_servers(self) -> usize {
        if matches!(self, Self::NatsKillOne(_) | Self::NatsStepdown) { 3 } else { 1 }
    }

    /// Redis writes an append-only file.
    pub fn is_durable(self) -> bool {
        matches!(self, Self::BrokerKill(_, Store::Kept))
    }

    /// Before its beginning so much may be lost of what was acknowledged, with its epoch; none:
    /// nothing may be lost at all. It is what the documentation says of the broker.
    pub fn loss_window(self) -> Option<Duration> {
        match self {
            // Without a file the whole store goes.
            Self::BrokerKill(_, Store::Empty) => Some(Duration::MAX),
            // A write each second, and the time of a write.
            Self::BrokerKill(_, Store::Kept) => Some(Duration::from_secs(2)),
            // What the replica had not got; the link to it is asynchronous.
            Self::ClusterMasterKill(_) => Some(Duration::from_secs(1)),
            _ => None,
        }
    }

    /// Whether a node has to fill a gap from the broker, so that recoveries may fail with a reason
    /// that clients do not see.
    pub fn may_fail_recoveries(self) -> bool {
        !matches!(self, Self::ResetHalf | Self::RecoveryRace)
    }

    /// Begins; what is returned has to be ended.
    pub fn begin(self, arena: &mut Arena, fleet: &Fleet) -> Result<Begun, String> {
        let mut begun = Begun { fault: self, moving: None, note: None };
        match self {
            Self::KillNode(_) => arena.nodes.kill(arena.nodes.addresses().len() - 1),
            Self::BrokerKill(..) | Self::ClusterMasterKill(_) => arena.broker.kill(0),
            Self::NatsKillOne(_) => arena.broker.kill(1),
            Self::BrokerStop(_) => arena.broker.pause(true),
            Self::SlotMigrate => begun.moving = Some(arena.broker.move_slots()?),
            Self::Partition(_) => arena.to_broker.iter().for_each(|p| p.set(Mode::BlackHole)),
            Self::ResetHalf => {
                let all: usize = arena.to_nodes.iter().map(|p| p.reset_one_of(2)).sum();
                let connected = fleet.counters().connected;
                begun.note = Some(format!("{all} of {connected} connections were reset."));
            }
            Self::RecoveryRace => {}
            Self::NatsStepdown => {
                let streams = arena.broker.step_down()?;
                begun.note = Some(format!("The leaders of {streams} streams stepped down."));
            }
            Self::StreamPurge => {
                let streams = arena.broker.purge()?;
                begun.note = Some(format!("{streams} streams were emptied."));
            }
            Self::SlowConsumer(_) => arena.nodes.pause(0, true),
        }
        Ok(begun)
    }
}

/// A fault that has begun.
pub struct Begun {
    fault: Fault,
    moving: Option<JoinHandle<Result<String, String>>>,
    /// What there is to say about it.
    pub note: Option<String>,
}

impl Begun {
    /// Whether it is over by itself.
    pub fn is_over(&self) -> bool {
        self.moving.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Ends it.
    pub fn end(self, arena: &mut Arena) -> Result<(), String> {
        match self.fault {
            Fault::KillNode(_) => arena.nodes.start_again(arena.nodes.addresses().len() - 1)?,
            Fault::BrokerKill(_, store) => arena.broker.start_again(0, store == Store::Empty)?,
            Fault::ClusterMasterKill(_) => arena.broker.start_again(0, false)?,
            Fault::NatsKillOne(_) => arena.broker.start_again(1, false)?,
            Fault::BrokerStop(_) => arena.broker.pause(false),
            Fault::Partition(_) => arena.to_broker.iter().for_each(|p| p.set(Mode::Pass)),
            Fault::SlowConsumer(_) => arena.nodes.pause(0, false),
            Fault::SlotMigrate => {
                let moved = self.moving.and_then(|moving| moving.join().ok());
                moved.unwrap_or_else(|| Err("the slots were not moved".into()))?;
            }
            Fault::ResetHalf | Fault::RecoveryRace | Fault::NatsStepdown | Fault::StreamPurge => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        let read = |text: &str| text.parse::<Fault>().ok();
        let seconds = Duration::from_secs;
        assert_eq!(read("kill-node"), Some(Fault::KillNode(seconds(5))));
        let kept = Fault::BrokerKill(seconds(20), Store::Kept);
        assert_eq!(read("broker-kill:20s:kept"), Some(kept));
        assert_eq!(read("broker-kill"), Some(Fault::BrokerKill(seconds(1), Store::Empty)));
        assert_eq!(read("partition"), Some(Fault::Partition(seconds(60))));
        assert_eq!(read("partition:9s"), Some(Fault::Partition(seconds(9))));
        assert_eq!(read("reset-half"), Some(Fault::ResetHalf));
        for bad in ["", "reset-half:3s", "kill", "kill-node:x", "broker-kill:1s:half", "a:b:c:d"] {
            assert_eq!(read(bad), None, "{bad}");
        }
        assert_eq!(kept.to_string(), "broker-kill, kept for 20s");
    }

    #[test]
    fn a_fault_needs_its_broker() {
        let check = |text: &str, kind, nodes| text.parse::<Fault>().unwrap().check(kind, nodes);
        assert!(check("kill-node", BrokerKind::Redis, 4).is_ok());
        assert!(check("kill-node", BrokerKind::Redis, 1).is_err());
        assert!(check("broker-kill", BrokerKind::Memory, 1).is_err());
        assert!(check("slot-migrate", BrokerKind::RedisCluster, 2).is_ok());
        assert!(check("slot-migrate", BrokerKind::Redis, 2).is_err());
        assert!(check("recovery-race", BrokerKind::Nats, 2).is_err());
        assert!(check("reset-half", BrokerKind::Memory, 1).is_ok());
    }
}
