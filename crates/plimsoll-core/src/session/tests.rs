//! Sessions, driven by commands and answers.
