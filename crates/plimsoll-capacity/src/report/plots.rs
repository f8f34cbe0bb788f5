//! The four plots of a report.

use super::number::{count, grouped, money, percent, scaled};
use super::svg::{Anchor, Plot, WIDTH, ticks};
use crate::plan::limits::Factor;
use crate::plan::{Input, Plan, plan};
use crate::sensitivity::{Answer, Row};

/// Inputs that the sensitivity plot shows; the table has all.
const TORNADO_ROWS: usize = 8;
/// Points of the curve over users.
const CURVE_POINTS: u32 = 40;
/// The curve goes to so many times the users of the plan.
const CURVE_END: f64 = 2.0;
/// Hour around which the peak is drawn.
const PEAK_AROUND_H: f64 = 20.0;

/// What is used of each resource: demand against the capacity of all nodes that run.
pub fn utilisation(plan: &Plan) -> String {
    let mut plot = Plot::default();
    let row_height = 44.0;
    for (at, row) in plan.resources.iter().enumerate() {
        let y = at as f64 * row_height;
        let limiting = row.factor == plan.limiting_factor;
        let name = if limiting { "label strong" } else { "label" };
        plot.text(0.0, y + 13.0, name, Anchor::Start, row.factor.label());
        let whole = row.capacity_per_node * plan.servers_to_run as f64;
        let says = format!(
            "{} of {} {} · {}",
            scaled(row.demand),
            scaled(whole),
            row.unit,
            percent(row.utilisation)
        );
        plot.text(WIDTH, y + 13.0, "value", Anchor::End, &says);
        let share = |value: f64| WIDTH * value.clamp(0.0, 1.0);
        let bar = |from: f64, to: f64| [share(from), y + 19.0, share(to) - share(from), 12.0];
        plot.rect(bar(0.0, 1.0), "track");
        let used = row.utilisation;
        plot.rect(bar(0.0, used), if limiting { "fill-strong" } else { "fill" });
        if let Some(lost) = row.utilisation_node_lost {
            plot.rect(bar(used, lost), "fill-lost");
        }
        let target = share(row.target_utilisation);
        plot.line([target, y + 17.0, target, y + 33.0], "target");
    }
    let bottom = plan.resources.len() as f64 * row_height + 10.0;
    plot.line([2.0, bottom - 7.0, 2.0, bottom + 5.0], "target");
    plot.text(9.0, bottom + 4.0, "note", Anchor::Start, "used to at most");
    plot.rect([128.0, bottom - 5.0, 12.0, 9.0], "fill-lost");
    plot.text(146.0, bottom + 4.0, "note", Anchor::Start, "more when one node is lost");
    let says = (plan.resources.iter())
        .map(|r| format!("{} {}", r.factor.label(), percent(r.utilisation)))
        .collect::<Vec<_>>()
        .join(", ");
    let nodes = count(plan.servers_to_run, "node");
    let description = format!("Share of the capacity of {nodes} in use at peak: {says}.");
    plot.finish("use", "Demand against capacity", &description, bottom + 14.0)
}

/// One point of the curve over users.
struct Point {
    users: f64,
    nodes: f64,
    second: Option<f64>,
}

/// Nodes against users, everything else as planned.
pub fn curve(input: &Input, planned: &Plan) -> String {
    let now = input.workload.concurrent_users as f64;
    let points: Vec<Point> = (1..=CURVE_POINTS)
        .filter_map(|n| {
            point(input, planned, now * CURVE_END * f64::from(n) / f64::from(CURVE_POINTS))
        })
        .collect();
    let highest = points.iter().map(|p| p.nodes).fold(planned.servers_to_run as f64, f64::max);
    let frame = Frame::new(now * CURVE_END, &ticks(highest));
    let mut plot = Plot::default();
    frame.draw(&mut plot, scaled, scaled, "nodes", "users");
    let line: Vec<_> = points.iter().map(|p| (frame.x(p.users), frame.y(p.nodes))).collect();
    let dashed: Vec<_> =
        (points.iter()).filter_map(|p| Some((frame.x(p.users), frame.y(p.second?)))).collect();
    plot.path(&dashed, "curve-second");
    plot.path(&line, "curve");
    let (x, y) = (frame.x(now), frame.y(planned.servers_to_run as f64));
    plot.line([x, y, x, frame.bottom], "guide");
    plot.dot(x, y, "dot");
    let here = format!("{} users: {}", scaled(now), count(planned.servers_to_run, "node"));
    plot.text(x - 9.0, y - 8.0, "label strong", Anchor::End, &here);
    plot.line([92.0, 8.0, 114.0, 8.0], "curve");
    plot.text(120.0, 12.0, "note", Anchor::Start, "nodes to run");
    if let Some(second) = planned.second_factor.filter(|_| !dashed.is_empty()) {
        plot.line([222.0, 8.0, 244.0, 8.0], "curve-second");
        plot.text(250.0, 12.0, "note", Anchor::Start, &format!("{} alone", second.label()));
    }
    if points.last().is_some_and(|p| p.users < now * CURVE_END * 0.999) {
        let x = line.last().map_or(0.0, |p| p.0);
        plot.text(x.min(WIDTH - 130.0) + 4.0, 24.0, "note", Anchor::Start, "no number of nodes");
    }
    let ends = points.first().zip(points.last()).map_or(String::new(), |(a, b)| {
        let at = |p: &Point| format!("{} nodes for {} users", grouped(p.nodes), scaled(p.users));
        format!("From {} to {}.", at(a), at(b))
    });
    plot.finish("curve", "Nodes against users", &format!("{here}. {ends}"), frame.height)
}

fn point(input: &Input, planned: &Plan, users: f64) -> Option<Point> {
    let mut changed = input.clone();
    changed.workload.concurrent_users = users.round() as u64;
    let found = plan(&changed).ok()?;
    let alone = |factor: Factor| {
        found.resources.iter().find(|r| r.factor == factor).map(|r| r.nodes as f64)
    };
    let second = planned.second_factor.and_then(alone);
    Some(Point { users, nodes: found.servers_to_run as f64, second })
}

/// What an hour costs, over a day.
pub fn day(plan: &Plan) -> String {
    let (peak, off, currency) = (plan.cost.peak_hour, plan.cost.off_peak_hour, &plan.cost.currency);
    let whole = |h: &crate::plan::cost::HourCost| h.nodes + h.egress + h.other;
    let frame = Frame::new(24.0, &ticks(whole(&peak).max(whole(&off))));
    let hours = plan.day.peak_hours;
    let from = (PEAK_AROUND_H - hours / 2.0).clamp(0.0, 24.0 - hours);
    let mut plot = Plot::default();
    let hour = |h: f64| if h == 0.0 { "0 h".to_owned() } else { super::number::short(h) };
    frame.draw_with(&mut plot, &[0.0, 6.0, 12.0, 18.0, 24.0], |v| money_short(v, currency), hour);
    for (begin, end, cost) in
        [(0.0, from, off), (from, from + hours, peak), (from + hours, 24.0, off)]
    {
        let mut below = 0.0;
        for (part, class) in
            [(cost.nodes, "part-1"), (cost.egress, "part-2"), (cost.other, "part-3")]
        {
            let (x, y) = (frame.x(begin), frame.y(below + part));
            plot.rect([x, y, frame.x(end) - x, frame.y(below) - y], class);
            below += part;
        }
    }
    let middle = frame.x(from + hours / 2.0);
    let label =
        format!("{} · {}/h", count(plan.day.peak_nodes, "node"), money(whole(&peak), currency));
    if hours > 0.0 {
        // The peak's label must stay inside at both ends of the day.
        let x = middle.clamp(frame.left + 75.0, WIDTH - 75.0);
        plot.text(x, frame.y(whole(&peak)) - 6.0, "label strong", Anchor::Middle, &label);
    }
    if hours < 18.0 {
        let says = format!(
            "{} · {}/h",
            count(plan.day.off_peak_nodes, "node"),
            money(whole(&off), currency)
        );
        plot.text(frame.x(1.0), frame.y(whole(&off)) - 6.0, "label", Anchor::Start, &says);
    }
    let y = frame.height + 6.0;
    let legend = [("part-1", "nodes"), ("part-2", "egress"), ("part-3", "broker and the rest")];
    let mut x = frame.left;
    for (class, name) in legend {
        plot.rect([x, y - 9.0, 11.0, 10.0], class);
        plot.text(x + 16.0, y, "note", Anchor::Start, name);
        x += 36.0 + name.len() as f64 * 7.0;
    }
    let description = format!(
        "{} h at {}/h with {} nodes, the other hours at {}/h with {} nodes.",
        super::number::short(hours),
        money(whole(&peak), currency),
        plan.day.peak_nodes,
        money(whole(&off), currency),
        plan.day.off_peak_nodes
    );
    plot.finish("day", "Cost over a day", &description, frame.height + 14.0)
}

fn money_short(value: f64, currency: &str) -> String {
    let amount = scaled(value);
    if currency == "USD" { format!("${amount}") } else { amount }
}

/// How a month's cost moves with each input.
pub fn tornado(plan: &Plan) -> String {
    let now = plan.cost.total;
    let rows: Vec<&Row> =
        plan.sensitivity.iter().filter(|r| r.reach(plan) > 0.0).take(TORNADO_ROWS).collect();
    let costs = rows.iter().flat_map(|r| r.halved.iter().chain(&r.doubled));
    let costs: Vec<f64> = costs.filter_map(|a| a.monthly_cost).collect();
    let low = costs.iter().copied().fold(now, f64::min);
    let high = costs.iter().copied().fold(now, f64::max);
    // Room for the words at both ends of the longest bars.
    let (left, right) = (78.0, WIDTH - 78.0);
    let x = |cost: f64| left + (cost - low) / (high - low).max(1e-9) * (right - left);
    let mut plot = Plot::default();
    let row_height = 46.0;
    let bottom = rows.len() as f64 * row_height + 24.0;
    plot.line([x(now), 18.0, x(now), bottom], "base");
    let currency = &plan.cost.currency;
    for (at, row) in rows.iter().enumerate() {
        let y = at as f64 * row_height + 26.0;
        plot.text(0.0, y + 9.0, "label", Anchor::Start, &row.input);
        for (answer, mark) in [(&row.halved, "½"), (&row.doubled, "×2")] {
            let Some(answer) = answer else { continue };
            bar(&mut plot, answer, mark, (x(now), y + 17.0), &x, currency);
        }
    }
    let planned = format!("as planned: {}", money(now, currency));
    plot.text(x(now).clamp(90.0, WIDTH - 90.0), 12.0, "label strong", Anchor::Middle, &planned);
    let names: Vec<&str> = rows.iter().map(|r| r.input.as_str()).collect();
    let description = format!(
        "A month's cost when an input is halved or doubled, the largest effect first: {}. The \
         table of sensitivity has the figures.",
        names.join(", ")
    );
    plot.finish("tornado", "What moves the cost", &description, bottom + 4.0)
}

fn bar(
    plot: &mut Plot,
    answer: &Answer,
    mark: &str,
    (base, y): (f64, f64),
    x: &impl Fn(f64) -> f64,
    currency: &str,
) {
    let class = if mark == "½" { "half" } else { "double" };
    let Some(cost) = answer.monthly_cost else {
        plot.rect([base, y, WIDTH - base - 80.0, 12.0], "fill-lost");
        plot.text(WIDTH, y + 10.0, "note", Anchor::End, &format!("{mark} no number"));
        return;
    };
    let to = x(cost);
    plot.rect([to.min(base), y, (to - base).abs(), 12.0], class);
    let says = format!("{mark} {}", money_short(cost, currency));
    if to < base - 0.5 {
        plot.text(to - 5.0, y + 10.0, "note", Anchor::End, &says);
    } else if to > base + 0.5 {
        plot.text(to + 5.0, y + 10.0, "note", Anchor::Start, &says);
    }
}

/// Axes of a plot.
struct Frame {
    left: f64,
    top: f64,
    right: f64,
    bottom: f64,
    height: f64,
    x_most: f64,
    y_ticks: Vec<f64>,
}

impl Frame {
    fn new(x_most: f64, y_ticks: &[f64]) -> Self {
        Self {
            left: 46.0,
            top: 30.0,
            right: WIDTH - 10.0,
            bottom: 220.0,
            height: 246.0,
            x_most,
            y_ticks: y_ticks.to_vec(),
        }
    }

    fn x(&self, value: f64) -> f64 {
        self.left + value / self.x_most * (self.right - self.left)
    }

    fn y(&self, value: f64) -> f64 {
        let most = self.y_ticks.last().copied().unwrap_or(1.0);
        self.bottom - value / most * (self.bottom - self.top)
    }

    fn draw(
        &self,
        plot: &mut Plot,
        y_text: impl Fn(f64) -> String,
        x_text: impl Fn(f64) -> String,
        y_unit: &str,
        x_unit: &str,
    ) {
        let x_ticks: Vec<f64> =
            ticks(self.x_most).into_iter().filter(|x| *x <= self.x_most * 1.001).collect();
        self.draw_with(plot, &x_ticks, y_text, x_text);
        plot.text(0.0, 12.0, "note", Anchor::Start, y_unit);
        plot.text(self.right, self.height - 24.0 - 8.0, "note", Anchor::End, x_unit);
    }

    fn draw_with(
        &self,
        plot: &mut Plot,
        x_ticks: &[f64],
        y_text: impl Fn(f64) -> String,
        x_text: impl Fn(f64) -> String,
    ) {
        for value in &self.y_ticks {
            let y = self.y(*value);
            plot.line([self.left, y, self.right, y], if *value == 0.0 { "axis" } else { "grid" });
            plot.text(self.left - 7.0, y + 4.0, "note", Anchor::End, &y_text(*value));
        }
        for value in x_ticks {
            let x = self.x(*value);
            plot.line([x, self.bottom, x, self.bottom + 4.0], "axis");
            let at_end = x > self.right - 8.0;
            let anchor = if at_end { Anchor::End } else { Anchor::Middle };
            let x = if at_end { self.right + 6.0 } else { x };
            plot.text(x, self.bottom + 18.0, "note", anchor, &x_text(*value));
        }
    }
}
