//! A plan as one HTML page: no script, no other file, readable on a phone and on paper.

use super::number::{money, percent};
use super::svg::escape;
use super::{plots, words};
use crate::plan::{Input, Plan};
use std::fmt::Write;

const STYLE: &str = include_str!("style.css");
/// A ring with a line through it: the load line of a ship.
const MARK: &str = r#"<svg class="mark" viewBox="0 0 48 32" aria-hidden="true">
<circle cx="24" cy="16" r="12"/>
<line x1="2" y1="16" x2="46" y2="16"/></svg>"#;

/// The page. `plan` should have its sensitivity; without it that plot and table are left out.
pub fn page(input: &Input, plan: &Plan) -> String {
    let title = format!("Capacity plan: {}", super::number::count(plan.servers_to_run, "node"));
    let mut out = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n\
         <title>{}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n",
        escape(&title)
    );
    answer(&mut out, plan);
    if !plan.warnings.is_empty() {
        out.push_str("<section class=\"mind\"><h2>Mind</h2><ul>");
        for warning in &plan.warnings {
            let _ = write!(out, "<li>{}</li>", escape(warning));
        }
        out.push_str("</ul></section>\n");
    }
    figures(&mut out, input, plan);
    tables(&mut out, plan);
    assumptions(&mut out, plan);
    out.push_str("<footer>Made by <code>plimsoll plan --html</code>.</footer>\n");
    out.push_str("</main>\n</body>\n</html>\n");
    out
}

fn answer(out: &mut String, plan: &Plan) {
    let nodes = super::number::grouped(plan.servers_to_run as f64);
    let noun = if plan.servers_to_run == 1 { "node" } else { "nodes" };
    let cost = &plan.cost;
    let zone = plan.survive_one_zone.map_or("no number".to_owned(), |n| format!("{n} nodes"));
    let tiles = [
        (
            "A month",
            money(cost.total, &cost.currency),
            format!("{} of it for nodes", percent(cost.nodes / cost.total.max(1e-9))),
        ),
        (
            "Limited by",
            plan.limiting_factor.label().to_owned(),
            plan.second_factor.map_or(String::new(), |f| format!("then {}", f.label())),
        ),
        (
            "Real headroom",
            headroom(plan),
            format!("until {} is at its end", plan.headroom_factor.label()),
        ),
        ("To lose a zone", zone, format!("of {}, evenly spread", plan.zones)),
    ];
    let _ = write!(
        out,
        "<header><p class=\"brand\">{MARK}<span>Plimsoll capacity plan</span></p>\n\
         <h1><strong>{nodes}</strong> {noun}</h1>\n<p class=\"because\">{}</p>\n\
         <dl class=\"tiles\">",
        escape(&words::because(plan))
    );
    for (name, value, note) in tiles {
        let (name, value, note) = (escape(name), escape(&value), escape(&note));
        let _ =
            write!(out, "<div><dt>{name}</dt><dd>{value}</dd><dd class=\"note\">{note}</dd></div>");
    }
    out.push_str("</dl></header>\n");
}

fn headroom(plan: &Plan) -> String {
    if plan.headroom_percent > 100_000.0 {
        return "over 1000 ×".to_owned();
    }
    percent(plan.headroom_percent / 100.0)
}

fn figures(out: &mut String, input: &Input, plan: &Plan) {
    out.push_str("<div class=\"plots\">\n");
    let mut figure = |title: &str, note: &str, svg: String| {
        let _ = writeln!(
            out,
            "<figure><figcaption><h2>{}</h2><p>{}</p></figcaption>{svg}</figure>",
            escape(title),
            escape(note)
        );
    };
    let nodes = super::number::count(plan.servers_to_run, "node");
    figure(
        "Demand against capacity",
        &format!("At peak, of what {nodes} have together."),
        plots::utilisation(plan),
    );
    figure(
        "Nodes against users",
        "If the number of users changes and nothing else does.",
        plots::curve(input, plan),
    );
    figure(
        "Cost over a day",
        "Of an hour, if nodes follow the load. The peak is drawn in the evening.",
        plots::day(plan),
    );
    if !plan.sensitivity.is_empty() {
        figure(
            "What moves the cost",
            "A month's cost with half (½) and twice (×2) of one input.",
            plots::tornado(plan),
        );
    }
    out.push_str("</div>\n");
}

fn tables(out: &mut String, plan: &Plan) {
    out.push_str("<div class=\"tables\">\n");
    table(out, "Resources", &words::RESOURCE_HEAD, &words::resources(plan), true);
    if !plan.not_planned.is_empty() {
        out.push_str("<p class=\"unknown\">Not planned for: ");
        let all = plan.not_planned.iter();
        let all: Vec<String> = all.map(|n| format!("{} ({})", n.factor.label(), n.why)).collect();
        let _ = writeln!(out, "{}.</p>", escape(&all.join("; ")));
    }
    out.push_str("<div class=\"pair\">");
    out.push_str("<div>");
    table(out, "Load", &words::LOAD_HEAD, &words::load(plan), false);
    table(out, "Cost of one", &[], &words::unit_costs(plan), false);
    out.push_str("</div><div>");
    table(out, "Losses, broker and day", &[], &words::around(plan), false);
    table(out, "Cost of a month", &[], &words::cost(plan), false);
    out.push_str("</div></div>\n");
    if !plan.sensitivity.is_empty() {
        let rows = words::sensitivity(plan);
        table(out, "Sensitivity", &words::SENSITIVITY_HEAD, &rows, true);
    }
    out.push_str("</div>\n");
}

/// A table; `wide` ones become one block for each row on a narrow screen.
fn table(out: &mut String, title: &str, head: &[&str], rows: &[Vec<String>], wide: bool) {
    let class = if wide { " class=\"wide\"" } else { "" };
    let _ = write!(out, "<section><h2>{}</h2><table{class}>", escape(title));
    if !head.is_empty() {
        out.push_str("<thead><tr>");
        for name in head {
            let _ = write!(out, "<th scope=\"col\">{}</th>", escape(name));
        }
        out.push_str("</tr></thead>");
    }
    out.push_str("<tbody>");
    for row in rows {
        out.push_str("<tr>");
        for (at, cell) in row.iter().enumerate() {
            let cell = escape(cell);
            if at == 0 {
                let _ = write!(out, "<th scope=\"row\">{cell}</th>");
            } else {
                let label = head.get(at).map(|h| escape(h)).unwrap_or_default();
                let _ = write!(out, "<td data-label=\"{label}\">{cell}</td>");
            }
        }
        out.push_str("</tr>");
    }
    out.push_str("</tbody></table></section>\n");
}

fn assumptions(out: &mut String, plan: &Plan) {
    out.push_str("<section class=\"assumptions\"><h2>What this stands on</h2><dl>");
    for assumption in &plan.assumptions {
        let (about, says) = (escape(&assumption.about), escape(&assumption.says));
        let _ = write!(out, "<div><dt>{about}</dt><dd>{says}</dd></div>");
    }
    out.push_str("</dl></section>\n");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::assumptions::Assumption;
    use crate::plan::plan;
    use crate::sensitivity::sensitivity;

    fn example() -> (Input, Plan) {
        let input = Input::example().unwrap();
        let mut plan = plan(&input).unwrap();
        plan.sensitivity = sensitivity(&input, &plan);
        (input, plan)
    }

    #[test]
    fn the_page_is_whole_and_needs_nothing_else() {
        let (input, plan) = example();
        let text = page(&input, &plan);
        for part in ["<strong>56</strong> nodes", "name=\"viewport\"", "@media print", "</html>"] {
            assert!(text.contains(part), "{part}");
        }
        assert_eq!(text.matches("role=\"img\"").count(), 4);
        assert_eq!(text.matches("</desc>").count(), 4);
        for other in ["<script", "http://", "https://", "NaN", "inf\"", "url("] {
            assert!(!text.contains(other), "{other}");
        }
        for assumption in &plan.assumptions {
            assert!(text.contains(&escape(&assumption.says)), "{assumption:?}");
        }
    }

    #[test]
    fn names_from_files_stay_text() {
        let (mut input, _) = example();
        input.prices.broker.name = "<script>alert(1)</script>".into();
        input.prices.date = "\"><img src=x onerror=alert(2)>".into();
        input.notes.push(Assumption::new("<i>", "</dd>&"));
        let plan = plan(&input).unwrap();
        let text = page(&input, &plan);
        for bad in ["<script", "<img", "<i>", "</dd>&<"] {
            assert!(!text.contains(bad), "{bad}");
        }
        assert!(text.contains("&lt;script&gt;alert(1)"));
    }

    #[test]
    fn tags_are_closed_in_order() {
        let (input, plan) = example();
        let text = page(&input, &plan);
        let body = text.split_once("</style>").unwrap().1;
        let mut open: Vec<&str> = vec!["html", "head"];
        for tag in body.split('<').skip(1).map(|t| t.split('>').next().unwrap()) {
            if let Some(name) = tag.strip_prefix('/') {
                assert_eq!(open.pop(), Some(name));
            } else if !tag.ends_with('/') {
                open.push(tag.split([' ', '\n']).next().unwrap());
            }
        }
        assert!(open.is_empty(), "{open:?}");
    }
}
