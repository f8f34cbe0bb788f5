//! Licences, bans and sources of what we build upon, by the lists in `deny.toml`.
//!
//! `cargo deny` reads the same file. It has to be built first and wants a database from the
//! network for advisories, so it is used where it is installed and nobody has to have it.

use super::Findings;
use crate::shell::{self, Result};
use serde_json::Value;

/// The check.
pub fn check() -> Result<Findings> {
    let mut found = Findings::default();
    let lists = Lists::load()?;
    let all = shell::metadata()?;
    let packages = all["packages"].as_array().map(Vec::as_slice).unwrap_or_default();
    for package in packages.iter().filter(|p| p["source"].is_string()) {
        lists.examine(package, &mut found);
    }
    if !shell::found("cargo-deny") {
        found.note("cargo-deny is not installed: advisories were not checked");
        return Ok(found);
    }
    let strict = ["deny", "--log-level", "error", "check", "bans", "licenses", "sources"];
    if let Err(e) = shell::run(shell::cargo().args(strict)) {
        found.problem(e);
    }
    if let Err(e) = shell::run(shell::cargo().args(["deny", "check", "advisories"])) {
        // Either there is an advisory, or the database is out of reach: only a person can tell.
        found.note(format!("{e}: read why above; this does not fail tidy"));
    }
    Ok(found)
}

struct Lists {
    licences: Vec<String>,
    banned: Vec<(String, Vec<String>)>,
}

impl Lists {
    fn load() -> Result<Lists> {
        let text = shell::read("deny.toml");
        let table: toml::Table = toml::from_str(&text).map_err(|e| format!("deny.toml: {e}"))?;
        let names = |v: &toml::Value| -> Vec<String> {
            let all = v.as_array().map(Vec::as_slice).unwrap_or_default();
            all.iter().filter_map(|n| n.as_str().map(str::to_owned)).collect()
        };
        let licences = table.get("licenses").and_then(|t| t.get("allow")).map(names);
        let banned = table.get("bans").and_then(|t| t.get("deny")).and_then(toml::Value::as_array);
        let banned = banned.map(Vec::as_slice).unwrap_or_default().iter().filter_map(|entry| {
            let name = entry.get("crate")?.as_str()?.to_owned();
            Some((name, entry.get("wrappers").map(names).unwrap_or_default()))
        });
        Ok(Lists { licences: licences.unwrap_or_default(), banned: banned.collect() })
    }

    fn examine(&self, package: &Value, found: &mut Findings) {
        let name = package["name"].as_str().unwrap_or_default();
        let licence = package["license"].as_str().unwrap_or_default();
        if !allowed(licence, &self.licences) {
            found.problem(format!("{name}: licence `{licence}` is not in deny.toml"));
        }
        // Who pulls a banned crate in is known to `cargo deny` only; here any wrapper will do
        // to let it pass, and there are few.
        let banned = self.banned.iter().any(|(b, wrappers)| b == name && wrappers.is_empty());
        if banned && is_built(name) {
            found.problem(format!("{name}: is banned by deny.toml"));
        }
        let source = package["source"].as_str().unwrap_or_default();
        if !source.starts_with("registry+https://github.com/rust-lang/") {
            found.problem(format!("{name}: comes from `{source}`, not from the public registry"));
        }
    }
}

/// Whether a licence expression can be satisfied by the allowed licences alone. `AND` binds
/// tighter than `OR`; the old form `A/B` means `A OR B`.
fn allowed(expression: &str, licences: &[String]) -> bool {
    let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut at = 0;
    !words.is_empty() && either(&words, &mut at, licences) && at == words.len()
}

fn either(words: &[&str], at: &mut usize, licences: &[String]) -> bool {
    let mut ok = both(words, at, licences);
    while words.get(*at) == Some(&"OR") {
        *at += 1;
        ok |= both(words, at, licences);
    }
    ok
}

fn both(words: &[&str], at: &mut usize, licences: &[String]) -> bool {
    let mut ok = one(words, at, licences);
    while words.get(*at) == Some(&"AND") {
        *at += 1;
        ok &= one(words, at, licences);
    }
    ok
}

fn one(words: &[&str], at: &mut usize, licences: &[String]) -> bool {
    let Some(word) = words.get(*at) else { return false };
    *at += 1;
    if *word == "(" {
        let ok = either(words, at, licences);
        *at += 1;
        return ok;
    }
    let mut name = (*word).to_owned();
    if words.get(*at) == Some(&"WITH") {
        name = format!("{name} WITH {}", words.get(*at + 1).unwrap_or(&""));
        *at += 2;
    }
    licences.contains(&name)
}

/// `cargo metadata` lists optional crates that a weak feature (`ring?/alloc`) only mentions.
fn is_built(name: &str) -> bool {
    let mut tree = shell::cargo();
    tree.args(["tree", "--workspace", "--target", "all", "--edges", "normal,build", "-i", name]);
    shell::capture(&mut tree).map_or(true, |shown| !shown.trim().is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(expression: &str, expect: bool) {
        let licences = ["MIT", "Apache-2.0", "Unicode-3.0"].map(str::to_owned);
        assert_eq!(allowed(expression, &licences), expect, "{expression}");
    }

    #[test]
    fn licence_expressions() {
        check("MIT", true);
        check("GPL-3.0", false);
        check("MIT/GPL-3.0", true);
        check("GPL-3.0 OR Apache-2.0", true);
        check("(MIT OR Apache-2.0) AND Unicode-3.0", true);
        check("(MIT OR Apache-2.0) AND GPL-3.0", false);
        check("MIT OR Apache-2.0 AND GPL-3.0", true);
        check("Apache-2.0 WITH LLVM-exception OR MIT", true);
        check("Apache-2.0 WITH LLVM-exception", false);
        check("", false);
        check("MIT MIT", false);
    }

    #[test]
    fn the_lists_are_there() {
        let lists = Lists::load().unwrap();
        assert!(lists.licences.iter().any(|l| l == "MIT"));
        assert!(lists.banned.iter().any(|(b, _)| b == "openssl"));
    }
}
