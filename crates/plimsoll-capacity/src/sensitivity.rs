//! How the answer moves when one input is halved, or doubled, and the others stay.

use crate::measured::Resource;
use crate::plan::limits::Node;
use crate::plan::{Input, Plan, plan};
use serde::{Deserialize, Serialize};

/// The answer with one input changed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Answer {
    /// The input's value.
    pub value: f64,
    /// Nodes to run; none if no number of nodes carries it.
    pub nodes: Option<u64>,
    /// Money of a month; none without nodes.
    pub monthly_cost: Option<f64>,
}

/// One input.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Row {
    /// Its name, as in a file.
    pub input: String,
    /// Its value in the plan.
    pub value: f64,
    /// With half of it; none if that is out of range.
    pub halved: Option<Answer>,
    /// With twice of it; none if that is out of range.
    pub doubled: Option<Answer>,
}

impl Row {
    /// By how much the monthly cost moves at most.
    pub fn reach(&self, plan: &Plan) -> f64 {
        let answers = self.halved.iter().chain(&self.doubled);
        let moved = answers.map(|answer| {
            answer.monthly_cost.map_or(f64::MAX, |cost| (cost - plan.cost.total).abs())
        });
        moved.fold(0.0, f64::max)
    }
}

/// Every input that has a value, the one that moves the cost most first.
pub fn sensitivity(input: &Input, plan: &Plan) -> Vec<Row> {
    let mut rows: Vec<Row> = inputs(input)
        .into_iter()
        .filter_map(|(name, value, set)| {
            if value <= 0.0 {
                return None;
            }
            let with = |value: f64| {
                let mut changed = input.clone();
                set(&mut changed, value);
                answer(&changed, value)
            };
            let (halved, doubled) = (with(value / 2.0), with(value * 2.0));
            let any = halved.is_some() || doubled.is_some();
            any.then_some(Row { input: name, value, halved, doubled })
        })
        .collect();
    rows.sort_by(|a, b| b.reach(plan).total_cmp(&a.reach(plan)));
    rows
}

fn answer(input: &Input, value: f64) -> Option<Answer> {
    match plan(input) {
        Ok(plan) => Some(Answer {
            value,
            nodes: Some(plan.servers_to_run),
            monthly_cost: Some(plan.cost.total),
        }),
        Err(crate::plan::PlanError::NoNumber(_)) => {
            Some(Answer { value, nodes: None, monthly_cost: None })
        }
        Err(crate::plan::PlanError::Input(_)) => None,
    }
}

/// Name, value, and how to set it.
type Entry = (String, f64, Box<dyn Fn(&mut Input, f64)>);

macro_rules! entries {
    ($input:ident: $($name:literal => $($path:ident).+),+ $(,)?) => {
        vec![$((
            $name.to_owned(),
            $input.$($path).+,
            Box::new(|i: &mut Input, v: f64| i.$($path).+ = v) as Box<dyn Fn(&mut Input, f64)>,
        )),+]
    };
}

fn inputs(input: &Input) -> Vec<Entry> {
    let mut all: Vec<Entry> = entries![input:
        "avg_rooms_per_user" => workload.avg_rooms_per_user,
        "avg_users_per_room" => workload.avg_users_per_room,
        "msgs_per_user_per_minute" => workload.msgs_per_user_per_minute,
        "avg_message_bytes" => workload.avg_message_bytes,
        "peak_multiplier" => workload.peak_multiplier,
        "daily_peak_duration_hours" => workload.daily_peak_duration_hours,
        "typing_per_message" => workload.typing_per_message,
        "session_minutes" => workload.session_minutes,
        "ping_interval_seconds" => workload.ping_interval_seconds,
        "deliveries_per_frame" => workload.deliveries_per_frame,
        "cost_per_hour" => cost_per_hour,
        "egress.cost_per_gb" => prices.egress.cost_per_gb,
        "broker.deliveries_per_second" => prices.broker.deliveries_per_second,
    ];
    let users = input.workload.concurrent_users as f64;
    all.push((
        "concurrent_users".into(),
        users,
        Box::new(|i, v| i.workload.concurrent_users = v.round() as u64),
    ));
    match &input.node {
        Node::Figures(_) => all.extend(of_figures(input)),
        Node::Measured(file) => all.extend(file.resources.iter().map(|(resource, figure)| {
            let resource = *resource;
            let set = move |i: &mut Input, v: f64| scale(i, resource, v);
            (format!("capacity.{}", resource.name()), figure.knee, Box::new(set) as Box<_>)
        })),
    }
    all
}

/// Sets the knee of a measured resource, and what goes with it.
fn scale(input: &mut Input, resource: Resource, knee: f64) {
    let Node::Measured(file) = &mut input.node else { return };
    let Some(figure) = file.resources.get_mut(&resource) else { return };
    let by = knee / figure.knee;
    figure.knee = knee;
    figure.rated *= by;
    figure.low *= by;
    figure.high *= by;
}

fn of_figures(input: &Input) -> Vec<Entry> {
    use crate::profile::ServerCapacity as S;
    type Part = fn(&mut S) -> &mut Option<f64>;
    let parts: [(&str, Part); 5] = [
        ("max_connections", |s| &mut s.max_connections),
        ("max_msgs_per_second_in", |s| &mut s.max_msgs_per_second_in),
        ("max_msgs_per_second_out", |s| &mut s.max_msgs_per_second_out),
        ("max_bandwidth_mbps", |s| &mut s.max_bandwidth_mbps),
        ("max_connects_per_second", |s| &mut s.max_connects_per_second),
    ];
    let Node::Figures(figures) = &input.node else { return Vec::new() };
    let mut figures = *figures;
    let entry = |(name, part): (&str, Part)| {
        let value = (*part(&mut figures))?;
        let set = move |i: &mut Input, v: f64| {
            if let Node::Figures(figures) = &mut i.node {
                *part(figures) = Some(v);
            }
        };
        Some((name.to_owned(), value, Box::new(set) as Box<dyn Fn(&mut Input, f64)>))
    };
    parts.into_iter().filter_map(entry).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_limits_moves_the_answer_and_what_does_not_does_not() {
        let input = Input::example().unwrap();
        let base = plan(&input).unwrap();
        let rows = sensitivity(&input, &base);
        let find = |name: &str| rows.iter().find(|r| r.input == name).unwrap();
        let nodes = |a: &Option<Answer>| a.as_ref().unwrap().nodes.unwrap();
        let messages = find("msgs_per_user_per_minute");
        assert_eq!((nodes(&messages.halved), nodes(&messages.doubled)), (29, 110));
        let out = find("max_msgs_per_second_out");
        assert_eq!((nodes(&out.halved), nodes(&out.doubled)), (110, 29));
        let price = find("cost_per_hour");
        assert_eq!((nodes(&price.halved), nodes(&price.doubled)), (56, 56));
        // Half of two is one; a multiplier below one is refused.
        assert!(find("peak_multiplier").halved.is_some());
        assert!(find("deliveries_per_frame").halved.is_none());
        assert!(!rows.iter().any(|r| r.input == "typing_per_message"));
        assert!(rows.windows(2).all(|w| w[0].reach(&base) >= w[1].reach(&base)));
    }
}
