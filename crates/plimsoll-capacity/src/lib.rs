//! From a workload and a measured capacity to a plan: how many nodes, which resource limits, what
//! it costs, and how much room is left while it runs.
//!
//! Pure: text and figures come in, figures and text go out. It knows no server.

pub mod fit;
pub mod headroom;
pub mod measured;
pub mod plan;
pub mod prices;
pub mod profile;
pub mod report;
pub mod sensitivity;
pub mod simple;
