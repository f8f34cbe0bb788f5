//! A plan for people: a table for the terminal, a page for the browser.

pub mod html;
pub mod number;
pub mod plots;
pub mod svg;
pub mod table;
pub mod words;
