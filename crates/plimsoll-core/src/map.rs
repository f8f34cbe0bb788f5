//! Hash maps keyed by what peers choose: fast, and seeded so that nobody can aim for collisions.

/// A map whose hasher is seeded by the caller: [`with_seed`].
pub type Map<K, V> = std::collections::HashMap<K, V, foldhash::quality::FixedState>;

/// An empty map. The seed is random in a server, fixed in a simulation.
pub fn with_seed<K, V>(seed: u64) -> Map<K, V> {
    Map::with_hasher(foldhash::quality::FixedState::with_seed(seed))
}
