//! The node: workers, control runtime, configuration, authentication, API, admin.

pub mod auth;
pub mod bridge;
pub mod cluster;
pub mod config;
pub mod control;
pub mod load;
pub mod node;
pub mod telemetry;
pub mod worker;
