//! Pieces of inline SVG. Everything is 400 units wide, so that text stays readable on a phone.

use std::fmt::Write;

/// Width of a plot.
pub const WIDTH: f64 = 400.0;

/// Text that may stand in HTML and SVG, in content and in quoted attributes.
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            // Nothing else that HTML or XML would stumble over.
            c if c.is_control() && c != '\n' => out.push(' '),
            c => out.push(c),
        }
    }
    out
}

/// Which side of a text is at its x.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Anchor {
    /// It begins there.
    Start,
    /// It is around it.
    Middle,
    /// It ends there.
    End,
}

/// A plot that is being drawn.
#[derive(Debug, Default)]
pub struct Plot {
    body: String,
}

impl Plot {
    /// A text of a class of the style sheet.
    pub fn text(&mut self, x: f64, y: f64, class: &str, anchor: Anchor, text: &str) {
        let anchor = match anchor {
            Anchor::Start => "start",
            Anchor::Middle => "middle",
            Anchor::End => "end",
        };
        let text = escape(text);
        let _ = write!(
            self.body,
            r#"<text x="{x:.1}" y="{y:.1}" class="{class}" text-anchor="{anchor}">{text}</text>"#
        );
    }

    /// A filled rectangle; one of nothing is not drawn.
    pub fn rect(&mut self, [x, y, w, h]: [f64; 4], class: &str) {
        if w > 0.0 && h > 0.0 {
            let _ = write!(
                self.body,
                r#"<rect x="{x:.1}" y="{y:.1}" width="{w:.1}" height="{h:.1}" class="{class}"/>"#
            );
        }
    }

    /// A line.
    pub fn line(&mut self, [x1, y1, x2, y2]: [f64; 4], class: &str) {
        let _ = write!(
            self.body,
            r#"<line x1="{x1:.1}" y1="{y1:.1}" x2="{x2:.1}" y2="{y2:.1}" class="{class}"/>"#
        );
    }

    /// A line through points.
    pub fn path(&mut self, points: &[(f64, f64)], class: &str) {
        let mut data = String::new();
        for (at, (x, y)) in points.iter().enumerate() {
            let _ = write!(data, "{}{x:.1} {y:.1}", if at == 0 { "M" } else { "L" });
        }
        let _ = write!(self.body, r#"<path d="{data}" class="{class}"/>"#);
    }

    /// A dot.
    pub fn dot(&mut self, x: f64, y: f64, class: &str) {
        let _ = write!(self.body, r#"<circle cx="{x:.1}" cy="{y:.1}" r="5" class="{class}"/>"#);
    }

    /// The drawing, with a title and a description for those who do not see it.
    pub fn finish(self, id: &str, title: &str, description: &str, height: f64) -> String {
        let (title, description, body) = (escape(title), escape(description), self.body);
        format!(
            r#"<svg viewBox="0 0 {WIDTH} {height:.0}" role="img" aria-labelledby="{id}-t {id}-d">
<title id="{id}-t">{title}</title><desc id="{id}-d">{description}</desc>{body}</svg>"#
        )
    }
}

/// Round steps from 0 to at least `most`, three to six of them.
pub fn ticks(most: f64) -> Vec<f64> {
    if most.is_nan() || most <= 0.0 {
        return vec![0.0, 1.0];
    }
    let power = 10_f64.powf(most.log10().floor());
    let step = [0.2, 0.25, 0.5, 1.0, 2.0, 2.5]
        .map(|s| s * power)
        .into_iter()
        .find(|step| most / step <= 5.0)
        .unwrap_or(2.5 * power);
    let count = (most / step - 1e-9).ceil().max(1.0) as usize;
    (0..=count).map(|n| n as f64 * step).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markup_in_text_stays_text() {
        assert_eq!(
            escape("<b a=\"1\" c='2'>&\u{7}"),
            "&lt;b a=&quot;1&quot; c=&#39;2&#39;&gt;&amp; "
        );
    }

    #[test]
    fn ticks_are_round_and_reach_the_top() {
        assert_eq!(ticks(56.0), [0.0, 20.0, 40.0, 60.0]);
        assert_eq!(ticks(10.0), [0.0, 2.0, 4.0, 6.0, 8.0, 10.0]);
        assert_eq!(ticks(0.0), [0.0, 1.0]);
        for most in [1e-9, 0.3, 7.0, 99.0, 1e6, 3e12] {
            let all = ticks(most);
            let last = *all.last().unwrap();
            assert!(last >= most * 0.999 && (3..=7).contains(&all.len()), "{most} {all:?}");
        }
    }

    #[test]
    fn a_plot_has_words_for_it() {
        let mut plot = Plot::default();
        plot.text(1.0, 2.0, "c", Anchor::End, "<x>");
        plot.rect([0.0, 0.0, 0.0, 1.0], "none");
        let text = plot.finish("p", "A & B", "says", 10.0);
        assert!(text.contains("<title id=\"p-t\">A &amp; B</title>"), "{text}");
        assert!(text.contains("&lt;x&gt;") && !text.contains("<rect"));
    }
}
