//! A fleet of clients, a ledger that judges what they saw, and ramps that measure what a node
//! carries.
//!
//! - [`dialect`]: what clients and servers say to each other, and how it is written;
//! - [`payload`]: what is published;
//! - [`fleet`]: very many clients from few threads, open loop, behind one handle;
//! - [`ledger`]: what was published, acknowledged and seen, and whether the two agree;
//! - [`cluster`]: brokers and nodes, and [`proxy`], which fails on purpose;
//! - [`server`]: a server process of our own, and what a server process uses;
//! - [`scenarios`]: the runs of `plimsoll bench`;
//! - [`ramps`]: `plimsoll bench capacity`, from steps to `capacity.json`.

pub mod cli;
pub mod clock;
pub mod cluster;
pub mod dialect;
pub mod fleet;
pub mod ledger;
pub mod limits;
pub mod payload;
pub mod proxy;
pub mod ramps;
pub mod report;
pub mod scenarios;
pub mod scrape;
pub mod server;
pub mod topology;
pub mod workload;
