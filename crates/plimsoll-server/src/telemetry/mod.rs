//! Figures and logs.

pub mod live;
pub mod log;
pub mod machine;
pub mod metrics;
pub mod stats;
