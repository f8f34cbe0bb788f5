//! From measured steps to figures: a cost model, a scalability law, the knee of a ramp.
//!
//! Every fit says how good it is, and none is given when the figures do not carry it.

mod cost;
mod knee;
mod line;
pub mod nnls;
mod usl;

pub use cost::{COST_R_SQUARED_MIN, COST_WORST_RESIDUAL_MAX, NoModel, QUIET_US_PER_S, Rates, cost};
pub use knee::{Knee, KneeRules, knee};
pub use line::{Line, interval, line};
pub use usl::{NoUsl, USL_POINTS_MIN, usl};
