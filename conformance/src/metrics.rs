//! Metrics in the text form of Prometheus.

use std::collections::{BTreeMap, BTreeSet};

/// The series of one scrape, by name with labels as written.
#[derive(Clone, Debug, Default)]
pub struct Scrape {
    series: BTreeMap<String, f64>,
}

impl Scrape {
    /// Reads the exposition text.
    pub fn parse(text: &str) -> Self {
        let lines = text.lines().filter(|l| !l.starts_with('#'));
        let pairs = lines.filter_map(|l| {
            let (name, value) = l.trim().rsplit_once(' ')?;
            Some((name.to_owned(), value.parse().ok()?))
        });
        Self { series: pairs.collect() }
    }

    /// The series with exactly this name (and labels).
    pub fn get(&self, series: &str) -> Option<f64> {
        self.series.get(series).copied()
    }

    /// The sum of a family's series over all labels; `None` when it has no series.
    pub fn sum(&self, family: &str) -> Option<f64> {
        let of_family = |name: &str| name.split('{').next() == Some(family);
        let mut values = self.series.iter().filter(|(n, _)| of_family(n)).map(|(_, v)| *v);
        let first = values.next()?;
        Some(first + values.sum::<f64>())
    }

    /// A family's series whose labels hold `label` (as in `status="closed"`).
    pub fn labelled(&self, family: &str, label: &str) -> Option<f64> {
        let found = self.series.iter().find(|(n, _)| {
            n.strip_prefix(family).is_some_and(|r| r.starts_with('{') && r.contains(label))
        });
        found.map(|(_, v)| *v)
    }

    /// How much a family grew since an earlier scrape.
    pub fn growth(&self, earlier: &Self, family: &str) -> f64 {
        self.sum(family).unwrap_or(f64::NAN) - earlier.sum(family).unwrap_or(0.0)
    }

    /// Number of series.
    pub fn len(&self) -> usize {
        self.series.len()
    }

    /// Nothing was read.
    pub fn is_empty(&self) -> bool {
        self.series.is_empty()
    }

    /// Names of all families (a histogram has three).
    pub fn families(&self) -> BTreeSet<&str> {
        self.series.keys().filter_map(|n| n.split('{').next()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_read() {
        let s = Scrape::parse(
            "# HELP a x\n# TYPE a counter\na{s=\"x\"} 2\na{s=\"y\"} 3\nab 7\n\
             c_bucket{le=\"+Inf\"} 1\n",
        );
        assert_eq!(s.sum("a"), Some(5.0));
        assert_eq!(s.labelled("a", "s=\"y\""), Some(3.0));
        assert_eq!(s.get("ab"), Some(7.0));
        assert_eq!(s.sum("absent"), None);
        assert_eq!(s.families(), BTreeSet::from(["a", "ab", "c_bucket"]));
        let later = Scrape::parse("a{s=\"x\"} 12\n");
        assert_eq!(later.growth(&s, "a"), 7.0);
    }
}
