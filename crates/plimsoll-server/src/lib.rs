//! The node: workers, control runtime, configuration, authentication, API, admin.

pub mod auth;
pub mod config;
