//! The formula that capacity plans usually begin with, for comparison: `plimsoll plan --model
//! simple`.
//!
//! It takes the fan-out to be the whole room, multiplies users and messages by the peak, and the
//! largest quotient by 1 + headroom; then it cuts off the fraction and adds one, so that a whole
//! number becomes one more. Broker, features, headers, losses and the hours outside the peak are
//! not in it.

use crate::plan::PlanError;
use crate::plan::cost::HOURS_PER_MONTH;
use crate::plan::limits::Factor;
use crate::profile::{InputErrors, ServerCapacity, WorkloadProfile};
use serde::{Deserialize, Serialize};

/// The headroom when none is given.
pub const HEADROOM: f64 = 0.5;

/// The answer of the formula.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SimplePlan {
    /// `simple`.
    pub model: String,
    /// Servers.
    pub servers_needed: u64,
    /// The largest of the four below.
    pub limiting_factor: Factor,
    /// The headroom that was asked for, in percent.
    pub headroom_percent: f64,
    /// Servers × price × 720 h.
    pub estimated_monthly_cost: f64,
    /// Servers for connections at peak, without headroom, as a fraction.
    pub connection_limited: f64,
    /// The same for messages that come in.
    pub ingest_limited: f64,
    /// The same for messages that go out.
    pub fanout_limited: f64,
    /// The same for bandwidth.
    pub bandwidth_limited: f64,
}

/// The formula's plan. What `server` does not say is taken from the worked example.
pub fn plan(
    workload: &WorkloadProfile,
    server: &ServerCapacity,
    headroom: f64,
) -> Result<SimplePlan, PlanError> {
    workload.check()?;
    server.check()?;
    let mut found = InputErrors::default();
    found.within("headroom", headroom, 0.0, 100.0);
    found.none()?;
    let example = ServerCapacity::example();
    let of = |value: Option<f64>, else_: Option<f64>| value.or(else_).unwrap_or(1.0);
    let peak = workload.peak_multiplier;
    let users = workload.concurrent_users as f64 * peak;
    let messages_in = users * workload.msgs_per_user_per_minute / 60.0;
    let messages_out = messages_in * workload.avg_users_per_room;
    let mbps = messages_out * workload.avg_message_bytes * 8.0 / 1e6;
    let connections = users / of(server.max_connections, example.max_connections);
    let ingest = messages_in / of(server.max_msgs_per_second_in, example.max_msgs_per_second_in);
    let fanout = messages_out / of(server.max_msgs_per_second_out, example.max_msgs_per_second_out);
    let bandwidth = mbps / of(server.max_bandwidth_mbps, example.max_bandwidth_mbps);
    let all = [
        (Factor::Connections, connections),
        (Factor::MessageIngest, ingest),
        (Factor::MessageFanout, fanout),
        (Factor::Bandwidth, bandwidth),
    ];
    let (limiting_factor, most) =
        all.into_iter().fold((Factor::Connections, 0.0), |a, b| if b.1 > a.1 { b } else { a });
    // A product that is whole on paper may be a hair less in floating-point numbers.
    let servers = (most * (1.0 + headroom) * (1.0 + 1e-12)).floor() + 1.0;
    Ok(SimplePlan {
        model: "simple".into(),
        servers_needed: servers as u64,
        limiting_factor,
        headroom_percent: headroom * 100.0,
        estimated_monthly_cost: servers
            * of(server.cost_per_hour, example.cost_per_hour)
            * HOURS_PER_MONTH,
        connection_limited: connections,
        ingest_limited: ingest,
        fanout_limited: fanout,
        bandwidth_limited: bandwidth,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(peak_multiplier: f64, headroom: f64, servers: u64, cost: f64) -> SimplePlan {
        let workload = WorkloadProfile { peak_multiplier, ..WorkloadProfile::default() };
        let found = plan(&workload, &ServerCapacity::example(), headroom).unwrap();
        assert_eq!(found.servers_needed, servers);
        assert_eq!(found.limiting_factor, Factor::MessageFanout);
        assert_eq!(found.estimated_monthly_cost, cost);
        found
    }

    #[test]
    fn the_worked_example_comes_out_as_in_its_text() {
        let found = check(2.0, 0.5, 51, 18_360.0);
        let near = |a: f64, b: f64| assert!((a - b).abs() < 0.01, "{a} {b}");
        near(found.connection_limited, 20.0);
        near(found.ingest_limited, 3.33);
        near(found.fanout_limited, 33.33);
        near(found.bandwidth_limited, 2.67);
        near(found.headroom_percent, 50.0);
        check(1.0, 0.5, 26, 9_360.0);
        check(1.0, 0.0, 17, 6_120.0);
    }

    #[test]
    fn rooms_of_a_user_change_nothing() {
        let more = WorkloadProfile { avg_rooms_per_user: 20.0, ..WorkloadProfile::default() };
        let found = plan(&more, &ServerCapacity::default(), 0.5).unwrap();
        assert_eq!(found, check(2.0, 0.5, 51, 18_360.0));
    }

    #[test]
    fn nonsense_is_an_error() {
        let none = WorkloadProfile { concurrent_users: 0, ..WorkloadProfile::default() };
        assert!(plan(&none, &ServerCapacity::example(), 0.5).is_err());
        let good = WorkloadProfile::default();
        assert!(plan(&good, &ServerCapacity::example(), f64::NAN).is_err());
        assert!(plan(&good, &ServerCapacity::example(), -0.5).is_err());
    }
}
