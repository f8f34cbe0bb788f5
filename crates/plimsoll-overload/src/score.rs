//! One number out of nine.

use crate::signals::{Pressures, Resource};

/// How pressures become a score.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Score {
    /// The highest pressure: one exhausted resource is enough to fail.
    #[default]
    Max,
    /// 0.2 CPU + 0.2 memory + 0.3 connections + 0.3 outbound queue. For comparison only: a node
    /// that is out of memory and otherwise at 40 % scores 0.52 and does nothing.
    Weighted,
}

/// The weights of [`Score::Weighted`].
pub const WEIGHTS: [(Resource, f64); 4] = [
    (Resource::Cpu, 0.2),
    (Resource::Memory, 0.2),
    (Resource::Connections, 0.3),
    (Resource::Outbound, 0.3),
];

/// A score, and the resource it comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Scored {
    /// 1.0 = rated load.
    pub value: f64,
    /// The resource with the highest pressure; `None` if none is known.
    pub hot: Option<Resource>,
}

impl Score {
    /// The score of `resources`. The weighted one knows its own four and looks at nothing else.
    pub fn of(self, pressures: &Pressures, resources: &[Resource]) -> Scored {
        let highest = pressures.highest(resources);
        let hot = highest.map(|(resource, _)| resource);
        match self {
            Self::Max => Scored { value: highest.map_or(0.0, |(_, p)| p), hot },
            Self::Weighted => {
                let part =
                    |(r, weight): &(Resource, f64)| pressures.get(*r).unwrap_or(0.0) * weight;
                Scored { value: WEIGHTS.iter().map(part).sum(), hot }
            }
        }
    }

    /// Its name in configuration.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Max => "max",
            Self::Weighted => "weighted",
        }
    }

    /// The score of that name.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Max, Self::Weighted].into_iter().find(|s| s.name() == text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// CPU, memory, connections, queue.
    fn check(used: [f64; 4], max: f64, weighted: f64, hot: Resource) {
        let mut pressures = Pressures::default();
        for ((resource, _), pressure) in WEIGHTS.iter().zip(used) {
            pressures.set(*resource, Some(pressure));
        }
        let found = Score::Max.of(&pressures, &Resource::ALL);
        assert_eq!(found, Scored { value: max, hot: Some(hot) });
        let other = Score::Weighted.of(&pressures, &Resource::ALL);
        assert!((other.value - weighted).abs() < 1e-9, "{used:?}: {other:?}");
    }

    #[test]
    fn the_saturated_resource_decides() {
        check([1.0, 0.4, 0.4, 0.4], 1.0, 0.52, Resource::Cpu);
        check([0.4, 1.0, 0.4, 0.4], 1.0, 0.52, Resource::Memory);
        check([0.4, 0.4, 1.0, 0.4], 1.0, 0.58, Resource::Connections);
        check([0.4, 0.4, 0.4, 1.0], 1.0, 0.58, Resource::Outbound);
        check([1.0, 1.0, 0.5, 0.5], 1.0, 0.70, Resource::Cpu);
        check([0.5, 0.5, 1.0, 1.0], 1.0, 0.80, Resource::Outbound);
        check([0.4, 0.4, 0.4, 0.4], 0.4, 0.40, Resource::Cpu);
    }

    #[test]
    fn nothing_known_scores_nothing() {
        let unknown = Pressures::default();
        assert_eq!(Score::Max.of(&unknown, &Resource::ALL), Scored::default());
        assert_eq!(Score::Weighted.of(&unknown, &Resource::ALL), Scored::default());
        assert_eq!(Score::parse("weighted"), Some(Score::Weighted));
        assert_eq!(Score::parse("mean"), None);
    }
}
