//! What is wrong with a configuration, and where.

use std::fmt;

/// Where a value was given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Place {
    /// Nowhere: it is a default.
    #[default]
    Default,
    /// In the file.
    File {
        /// The name given to `load`.
        name: String,
        /// From 1.
        line: usize,
        /// In characters, from 1.
        column: usize,
    },
    /// In the environment variable of this name.
    Env(String),
    /// On the command line.
    Flag,
}

/// One thing that is wrong.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConfigError {
    /// Where it was given.
    pub place: Place,
    /// Path of the key; empty if there is none (a file that is not TOML).
    pub path: String,
    /// What is wrong. Never shows the value of a secret.
    pub message: String,
    /// What was probably meant.
    pub suggestion: Option<String>,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Place::Default => (),
            Place::File { name, line, column } => write!(f, "{name}:{line}:{column}: ")?,
            Place::Env(name) => write!(f, "environment {name}: ")?,
            Place::Flag => f.write_str("command line: ")?,
        }
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.message)?;
        match &self.suggestion {
            Some(name) => write!(f, "; did you mean `{name}`?"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for ConfigError {}
