//! Steps as a table for people: a row for each figure, a column for each step.

use super::Step;

/// The table; empty when there are no figures.
pub fn of(steps: &[Step]) -> String {
    let mut rows: Vec<(&str, &str)> = Vec::new();
    for figure in steps.iter().flat_map(|step| &step.figures) {
        if !rows.iter().any(|(key, _)| *key == figure.key) {
            rows.push((figure.key, figure.label));
        }
    }
    if rows.is_empty() {
        return String::new();
    }
    let mut cells: Vec<Vec<String>> = Vec::with_capacity(rows.len() + 1);
    let names = steps.iter().map(|step| step.name.clone());
    cells.push(std::iter::once(String::new()).chain(names).collect());
    for (key, label) in rows {
        let values = steps.iter().map(|step| step.get(key).map_or("-".into(), number));
        cells.push(std::iter::once(label.to_owned()).chain(values).collect());
    }
    let columns = steps.len() + 1;
    let width = |at: usize| {
        cells.iter().filter_map(|row| row.get(at)).map(|cell| cell.chars().count()).max()
    };
    let widths: Vec<usize> = (0..columns).map(|at| width(at).unwrap_or_default()).collect();
    let mut text = String::new();
    for row in &cells {
        for (at, (cell, width)) in row.iter().zip(&widths).enumerate() {
            match at {
                0 => text.push_str(&format!("{cell:<width$}")),
                _ => text.push_str(&format!("  {cell:>width$}")),
            }
        }
        text.truncate(text.trim_end().len());
        text.push('\n');
    }
    text
}

/// Three digits that count, and commas between thousands.
pub fn number(value: f64) -> String {
    let size = value.abs();
    let digits = match size {
        _ if value.fract() == 0.0 || size >= 100.0 => 0,
        _ if size >= 10.0 => 1,
        _ if size >= 1.0 => 2,
        _ => 3,
    };
    let text = format!("{value:.digits$}");
    let (whole, rest) = text.split_at(text.find('.').unwrap_or(text.len()));
    let (sign, whole) = whole.split_at(usize::from(whole.starts_with('-')));
    let mut grouped = String::new();
    for (at, digit) in whole.chars().enumerate() {
        if at > 0 && (whole.len() - at) % 3 == 0 {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    format!("{sign}{grouped}{rest}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers() {
        for (value, expect) in [
            (0.0, "0"),
            (0.012_34, "0.012"),
            (1.234, "1.23"),
            (12.34, "12.3"),
            (123.4, "123"),
            (1_234.5, "1,234"),
            (1_234_567.0, "1,234,567"),
            (-1_234.0, "-1,234"),
            (999.6, "1,000"),
        ] {
            assert_eq!(number(value), expect, "{value}");
        }
    }

    #[test]
    fn a_table() {
        let mut one = Step::named("one");
        one.add("a_ms", "a, ms", 1.5);
        let mut two = Step::named("second");
        two.add("a_ms", "a, ms", 20.0);
        two.add("bytes", "b", 1_000.0);
        let expect = "        one  second\na, ms  1.50      20\nb         -   1,000\n";
        assert_eq!(of(&[one, two]), expect);
        assert_eq!(of(&[]), "");
    }
}
