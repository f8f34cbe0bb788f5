//! Figures and logs.

pub mod log;
pub mod memory;
pub mod metrics;
pub mod stats;
