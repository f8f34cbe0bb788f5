//! Which crate may use which. What a manifest does not name cannot be imported, so this reads
//! manifests only.

use super::Findings;
use crate::shell::{self, Result};
use serde_json::Value;

struct Rule {
    name: &'static str,
    /// Crates of ours it may use.
    ours: &'static [&'static str],
    /// For a pure crate, every crate of others it may use; for the rest `None`: anything.
    others: Option<&'static [&'static str]>,
}

const fn rule(
    name: &'static str,
    ours: &'static [&'static str],
    others: Option<&'static [&'static str]>,
) -> Rule {
    Rule { name, ours, others }
}

const TRANSPORT: &[&str] = &["base64", "flate2", "httparse", "sha1_smol", "simdutf8"];
const CORE: &[&str] = &["foldhash", "hashbrown", "regex-lite", "smallvec"];
const CAPACITY: &[&str] = &["serde", "serde_json", "thiserror", "toml"];
const SERVER: &[&str] = &[
    "plimsoll-core",
    "plimsoll-protocol",
    "plimsoll-transport",
    "plimsoll-capacity",
    "plimsoll-overload",
    "plimsoll-backbone",
];
const BENCH: &[&str] = &["plimsoll-backbone", "plimsoll-capacity", "plimsoll-transport"];

/// A new crate gets a line here, and with it the question what it may know.
const RULES: &[Rule] = &[
    rule("plimsoll-transport", &[], Some(TRANSPORT)),
    rule("plimsoll-core", &["plimsoll-overload"], Some(CORE)),
    rule("plimsoll-protocol", &["plimsoll-core"], Some(&["serde", "serde_json"])),
    rule("plimsoll-overload", &[], Some(&[])),
    rule("plimsoll-capacity", &[], Some(CAPACITY)),
    rule("plimsoll-backbone", &["plimsoll-core"], None),
    rule("plimsoll-server", SERVER, None),
    rule("plimsoll-bench", BENCH, None),
    rule("plimsoll", &["plimsoll-server", "plimsoll-bench", "plimsoll-capacity"], None),
    rule("plimsoll-models", &["plimsoll-core"], Some(&["loom"])),
    // Nothing of ours: what is tested must not check itself.
    rule("plimsoll-conformance", &[], None),
    rule("xtask", &[], None),
];

/// The check.
pub fn check() -> Result<Findings> {
    let mut found = Findings::default();
    let all = shell::metadata()?;
    let packages = all["packages"].as_array().map(Vec::as_slice).unwrap_or_default();
    for package in packages.iter().filter(|p| p["source"].is_null()) {
        examine(package, &mut found);
    }
    Ok(found)
}

fn examine(package: &Value, found: &mut Findings) {
    let name = package["name"].as_str().unwrap_or_default();
    let Some(rule) = RULES.iter().find(|r| r.name == name) else {
        found.problem(format!("{name}: has no rule in xtask/src/tidy/arrows.rs"));
        return;
    };
    let dependencies = package["dependencies"].as_array().map(Vec::as_slice).unwrap_or_default();
    for dependency in dependencies {
        let target = dependency["name"].as_str().unwrap_or_default();
        let ours = dependency["path"].is_string();
        // Tests may use anything of others (oracles, generators), and nothing above them.
        if !ours && dependency["kind"].as_str() == Some("dev") {
            continue;
        }
        // A crate's own tests may want a feature of it.
        if ours && target != name && !rule.ours.contains(&target) {
            found.problem(format!("{name} -> {target}: the arrow is not allowed"));
        }
        if !ours && rule.others.is_some_and(|o| !o.contains(&target)) {
            found.problem(format!("{name} -> {target}: a pure crate may not use it"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(package: Value, expect: &[&str]) {
        let mut found = Findings::default();
        examine(&package, &mut found);
        assert_eq!(found.problems, expect);
    }

    #[test]
    fn arrows_point_down_only() {
        let up = json!({"name": "plimsoll-core", "dependencies": [
            {"name": "plimsoll-server", "path": "x"}, {"name": "smallvec"}, {"name": "tokio"},
            {"name": "proptest", "kind": "dev"}]});
        check(
            up,
            &[
                "plimsoll-core -> plimsoll-server: the arrow is not allowed",
                "plimsoll-core -> tokio: a pure crate may not use it",
            ],
        );
        let down = json!({"name": "plimsoll-server", "dependencies": [
            {"name": "plimsoll-core", "path": "x"}, {"name": "tokio"}]});
        check(down, &[]);
        let unknown = json!({"name": "plimsoll-new", "dependencies": []});
        check(unknown, &["plimsoll-new: has no rule in xtask/src/tidy/arrows.rs"]);
    }
}
