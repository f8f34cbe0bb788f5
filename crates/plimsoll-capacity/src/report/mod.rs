//! A plan for people: a table for the terminal, a page for the browser.

pub mod number;
