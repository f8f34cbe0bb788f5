//! The picture of levels and actions, drawn from the tables.

use crate::actions::ACTIONS;
use crate::level::{Level, Thresholds};

const WIDTH: f64 = 860.0;
/// Where the pressure axis begins and ends, in pixels and in pressure.
const LEFT: f64 = 330.0;
const RIGHT: f64 = 840.0;
const FROM: f64 = 0.55;
const TO: f64 = 1.08;
const BAND_TOP: f64 = 46.0;
const BAND_HEIGHT: f64 = 44.0;
const ROW_HEIGHT: f64 = 30.0;

/// From calm to storm, each readable under dark text.
const COLOURS: [&str; 5] = ["#cfe8d5", "#f7efb2", "#fbd9a0", "#f6b394", "#e58a8a"];

/// The picture `docs/concepts/load-line.svg`.
pub fn picture() -> String {
    let rows_top = BAND_TOP + BAND_HEIGHT + 34.0;
    let bottom = rows_top + ROW_HEIGHT * ACTIONS.len() as f64;
    let height = bottom + 34.0;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" \
         font-family=\"sans-serif\" font-size=\"13\" fill=\"#1d2733\">\n\
         <title>Levels and actions by pressure</title>\n\
         <rect width=\"{WIDTH}\" height=\"{height}\" fill=\"#ffffff\"/>\n"
    );
    text(&mut svg, 16.0, 26.0, "start", "font-size=\"16\" font-weight=\"bold\"", "The load line");
    text(&mut svg, 16.0, BAND_TOP + 27.0, "start", "", "level (score = the highest pressure)");
    let caption = "action, and the resources that drive it";
    text(&mut svg, 16.0, rows_top - 12.0, "start", "fill=\"#5b6773\"", caption);
    bands(&mut svg);
    marks(&mut svg, bottom);
    for (at, _) in ACTIONS.iter().enumerate() {
        action(&mut svg, at, rows_top + ROW_HEIGHT * at as f64);
    }
    let note = "solid line: the level is entered · dashed line: below it the level may be left";
    text(&mut svg, 16.0, height - 8.0, "start", "font-size=\"11\" fill=\"#5b6773\"", note);
    svg.push_str("</svg>\n");
    svg
}

fn x(pressure: f64) -> f64 {
    LEFT + (RIGHT - LEFT) * (pressure - FROM) / (TO - FROM)
}

fn text(svg: &mut String, x: f64, y: f64, anchor: &str, more: &str, what: &str) {
    let space = if more.is_empty() { "" } else { " " };
    svg.push_str(&format!(
        "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\"{space}{more}>{what}</text>\n"
    ));
}

fn bands(svg: &mut String) {
    let enter = Thresholds::default().enter;
    let edges = [FROM, enter[0], enter[1], enter[2], enter[3], TO];
    for (level, (edge, colour)) in Level::ALL.iter().zip(edges.windows(2).zip(COLOURS)) {
        let (left, right) = (x(edge[0]), x(edge[1]));
        svg.push_str(&format!(
            "<rect x=\"{left:.1}\" y=\"{BAND_TOP}\" width=\"{:.1}\" height=\"{BAND_HEIGHT}\" \
             fill=\"{colour}\"/>\n",
            right - left
        ));
        let middle = (left + right) / 2.0;
        let number = level.number().to_string();
        text(svg, middle, BAND_TOP + 18.0, "middle", "font-weight=\"bold\"", &number);
        text(svg, middle, BAND_TOP + 35.0, "middle", "font-size=\"9.5\"", level.name());
    }
}

fn marks(svg: &mut String, bottom: f64) {
    let thresholds = Thresholds::default();
    let below = BAND_TOP + BAND_HEIGHT;
    let small = "font-size=\"10\"";
    for (enter, exit) in thresholds.enter.into_iter().zip(thresholds.exit) {
        svg.push_str(&format!(
            "<path d=\"M{0:.1} {BAND_TOP}V{bottom:.1}\" stroke=\"#1d2733\"/>\n\
             <path d=\"M{1:.1} {below:.1}V{bottom:.1}\" stroke=\"#8b96a1\" \
             stroke-dasharray=\"3 4\"/>\n",
            x(enter),
            x(exit)
        ));
        text(svg, x(enter), BAND_TOP - 6.0, "middle", small, &format!("{enter:.2}"));
        text(svg, x(exit), bottom + 13.0, "middle", small, &format!("{exit:.2}"));
    }
}

fn action(svg: &mut String, at: usize, top: f64) {
    let row = &ACTIONS[at];
    let resources: Vec<_> = row.resources.iter().map(|r| r.name()).collect();
    text(svg, 16.0, top + 13.0, "start", "", &row.name.replace('_', " "));
    let small = "font-size=\"10\" fill=\"#5b6773\"";
    text(svg, 16.0, top + 25.0, "start", small, &resources.join(", "));
    let base = top + ROW_HEIGHT - 5.0;
    svg.push_str(&format!(
        "<path d=\"M{:.1} {base:.1}L{:.1} {:.1}H{RIGHT:.1}V{base:.1}Z\" fill=\"#2f6f9f\" \
         fill-opacity=\"0.75\"/>\n<path d=\"M{LEFT:.1} {base:.1}H{RIGHT:.1}\" \
         stroke=\"#c3cbd3\"/>\n",
        x(row.start),
        x(row.full),
        top + 3.0
    ));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_picture_is_what_the_tables_say() {
        let drawn = include_str!("../../../docs/concepts/load-line.svg");
        let run = "cargo run -p plimsoll-overload --example reference picture";
        assert!(drawn == picture(), "run `{run} > docs/concepts/load-line.svg`");
    }
}
