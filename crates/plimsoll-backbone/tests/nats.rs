//! The contract suite on NATS and JetStream, by real servers.
#![allow(clippy::unwrap_used, clippy::panic)]

#[path = "support/nats.rs"]
mod nats;

use bytes::Bytes;
use nats::Server;
use plimsoll_backbone::nats::{NatsConfig, connect, connect_jetstream};
use plimsoll_backbone::suite::{self, Bed, Fault, Outcome, Proxy};
use plimsoll_backbone::*;
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

struct Nats {
    servers: Mutex<Vec<Server>>,
    jetstream: bool,
    proxies: Mutex<HashMap<NodeId, Arc<Proxy>>>,
}

impl Nats {
    fn new(servers: Vec<Server>, jetstream: bool) -> Arc<Self> {
        let (servers, proxies) = (Mutex::new(servers), Mutex::default());
        Arc::new(Self { servers, jetstream, proxies })
    }

    fn config(&self, url: String) -> NatsConfig {
        let replicas = self.servers.lock().unwrap().len();
        NatsConfig { urls: vec![url], replicas, ..NatsConfig::default() }
    }
}

struct Beds(Arc<Nats>);

impl Bed for Beds {
    fn connect(&self, setup: Setup) -> Later<Arc<dyn Backbone>> {
        let bed = Arc::clone(&self.0);
        Box::pin(async move {
            let broker = {
                let servers = bed.servers.lock().unwrap();
                let at = bed.proxies.lock().unwrap().len() % servers.len();
                servers[at].address()
            };
            let proxy = Proxy::start(broker).await.unwrap();
            bed.proxies.lock().unwrap().insert(setup.node, Arc::clone(&proxy));
            let config = bed.config(format!("nats://{}", proxy.address()));
            if !bed.jetstream {
                return connect(config, setup).await.unwrap();
            }
            // Three servers have to agree on a leader first.
            let deadline = Instant::now() + Duration::from_secs(20);
            loop {
                match connect_jetstream(config.clone(), setup.clone()).await {
                    Ok(node) => return node,
                    Err(error) => assert!(Instant::now() < deadline, "{error}"),
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        })
    }

    fn faults(&self) -> &'static [Fault] {
        match self.0.servers.lock().unwrap().len() {
            1 => &[Fault::Cut, Fault::Stall, Fault::RestartEmpty, Fault::Garbage],
            // A node that is cut off from one server finds another: no fault for it.
            _ => &[Fault::Garbage],
        }
    }

    fn inject(&self, fault: Fault, node: NodeId, channel: &str, is_on: bool) -> Later<()> {
        let (bed, channel) = (Arc::clone(&self.0), channel.to_owned());
        let proxy = bed.proxies.lock().unwrap().get(&node).cloned();
        Box::pin(async move {
            match (fault, proxy) {
                (Fault::Cut, Some(proxy)) if is_on => proxy.cut(),
                (Fault::Stall, Some(proxy)) if is_on => proxy.freeze(),
                (Fault::Cut | Fault::Stall, Some(proxy)) => proxy.heal(),
                (Fault::RestartEmpty, _) => {
                    let mut servers = bed.servers.lock().unwrap();
                    servers[0].kill();
                    servers[0].forget();
                    servers[0].up();
                }
                (Fault::Garbage, _) => {
                    let url = bed.servers.lock().unwrap()[0].url();
                    let client = async_nats::connect(url).await.unwrap();
                    let token = names::to_token(&channel);
                    for (class, body) in [("x", "garbage"), ("100-60000", ""), ("x.y", "\0\u{7f}")]
                    {
                        let subject = format!("{}.out.{class}.{token}", "suite");
                        client.publish(subject, Bytes::from(body)).await.unwrap();
                    }
                    client.flush().await.unwrap();
                }
                (Fault::Cut | Fault::Stall, None) => panic!("an unknown node"),
            }
        })
    }

    fn is_contiguous(&self) -> bool {
        false
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn core_of_the_distribution() {
    let bed = Beds(Nats::new(vec![Server::start(false)], false));
    let left = suite::run(&bed).await;
    assert!(left.iter().all(|(_, o)| matches!(o, Outcome::NotOffered(_))), "{left:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn core_of_the_newest() {
    let bed = Beds(Nats::new(vec![Server::start(true)], false));
    let left = suite::run(&bed).await;
    assert!(left.iter().all(|(_, o)| matches!(o, Outcome::NotOffered(_))), "{left:?}");
}

/// All but versions.
fn only_versions(left: &[(&str, Outcome)]) {
    let names: Vec<&str> = left.iter().map(|(name, _)| *name).collect();
    assert_eq!(names, ["an_old_version_is_not_published"], "{left:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn jetstream_of_the_newest() {
    only_versions(&suite::run(&Beds(Nats::new(vec![Server::start(true)], true))).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn jetstream_of_three_servers() {
    let left = suite::run(&Beds(Nats::new(Server::three(true), true))).await;
    let other = |o: &&(&str, Outcome)| !matches!(o.1, Outcome::NotStaged(_));
    let left: Vec<_> = left.iter().filter(other).copied().collect();
    only_versions(&left);
}
