//! Documentation that is generated from the program.

use crate::shell::{self, Result};
use std::path::Path;

/// The generated page, relative to the top.
pub const CONFIG_PAGE: &str = "docs/reference/config.md";

/// `cargo xtask docgen`.
pub fn main(args: Vec<String>) -> Result<()> {
    shell::nothing_left(&args)?;
    let page = shell::capture(shell::cargo().args([
        "run",
        "--quiet",
        "--package",
        "plimsoll",
        "--",
        "config-doc",
    ]))?;
    let file = shell::root().join(CONFIG_PAGE);
    if let Some(dir) = file.parent() {
        std::fs::create_dir_all(dir).map_err(|e| format!("{}: {e}", dir.display()))?;
    }
    std::fs::write(&file, page).map_err(|e| format!("{CONFIG_PAGE}: {e}"))?;
    println!("wrote {CONFIG_PAGE}");
    Ok(())
}

/// Whether the page in the repository is what this binary prints.
pub fn check(binary: &Path) -> Result<()> {
    let wanted = shell::capture(shell::command(binary).arg("config-doc"))?;
    let found = shell::read(CONFIG_PAGE);
    if found == wanted {
        println!("{CONFIG_PAGE} is what `plimsoll config-doc` prints");
        return Ok(());
    }
    let at = wanted.lines().zip(found.lines()).position(|(a, b)| a != b);
    let line = at.unwrap_or_else(|| wanted.lines().count().min(found.lines().count())) + 1;
    Err(format!(
        "{CONFIG_PAGE} differs from `plimsoll config-doc` (first at line {line}): \
         run `cargo xtask docgen` and commit the page"
    ))
}
