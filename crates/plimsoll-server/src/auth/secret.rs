//! A text that must not be seen in logs or dumps.

use std::fmt;
use std::hint::black_box;

/// A key or secret. `Debug` never shows it; comparing takes the same time wherever two texts
/// of the same length differ.
#[derive(Clone, Default, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps `text`.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The secret itself, for the one place that needs it.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Is none set?
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Is `given` this secret? An unset secret matches nothing, so that a missing key in the
    /// configuration opens no door.
    pub fn matches(&self, given: &[u8]) -> bool {
        !self.is_empty() && same(self.0.as_bytes(), given)
    }

    /// The text, to be filled by the configuration.
    pub(crate) fn text_mut(&mut self) -> &mut String {
        &mut self.0
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        same(self.0.as_bytes(), other.0.as_bytes())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() { "[unset]" } else { "[redacted]" })
    }
}

/// Every byte is looked at: an early return would tell by its time how much was right.
fn same(a: &[u8], b: &[u8]) -> bool {
    let differing = a.iter().zip(b).fold(0u8, |acc, (x, y)| black_box(acc | (x ^ y)));
    a.len() == b.len() && black_box(differing) == 0
}
