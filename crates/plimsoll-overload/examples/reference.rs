//! Prints the generated pages:
//! `cargo run -p plimsoll-overload --example reference > docs/reference/levels.md`
//! `cargo run -p plimsoll-overload --example reference picture > docs/concepts/load-line.svg`

use plimsoll_overload::{picture, reference};
use std::io::Write;

fn main() -> std::io::Result<()> {
    let page = match std::env::args().nth(1).as_deref() {
        Some("picture") => picture::picture(),
        _ => reference::reference(),
    };
    std::io::stdout().write_all(page.as_bytes())
}
