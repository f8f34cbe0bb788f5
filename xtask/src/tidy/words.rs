//! What must not stand in the repository. The words are put together here, or this file would
//! be the first to be found.

use super::Findings;
use crate::shell::{self, Result};

struct Word {
    text: &'static str,
    /// Extensions it is looked for in; none means all text files.
    only: &'static [&'static str],
    why: &'static str,
}

const HOST: &str = "a registry's host name; name the package instead";
const PATH: &str = "a path of one machine; say it relative to the repository";
const LATER: &str = "an unfinished place; finish it or open an issue";
const OFF: &str = "a test that is switched off; mend it or delete it";
const ELSEWHERE: &str = "a page that is not in the repository; say the reason itself";

const WORDS: &[Word] = &[
    Word { text: concat!("crates", ".io"), only: &[], why: HOST },
    Word { text: concat!("npm", "js.com"), only: &[], why: HOST },
    Word { text: concat!("npm", "js.org"), only: &[], why: HOST },
    Word { text: concat!("py", "pi.org"), only: &[], why: HOST },
    Word { text: concat!("python", "hosted.org"), only: &[], why: HOST },
    Word { text: concat!("proxy.", "golang.org"), only: &[], why: HOST },
    Word { text: concat!("/", "work/"), only: &[], why: PATH },
    Word { text: concat!("/", "root/"), only: &[], why: PATH },
    Word { text: concat!("/", "home/"), only: &[], why: PATH },
    Word { text: concat!("shared/", "design"), only: &[], why: ELSEWHERE },
    Word { text: concat!("hot-path", "-facts"), only: &[], why: ELSEWHERE },
    Word { text: concat!("style", "-anchors"), only: &[], why: ELSEWHERE },
    Word { text: concat!("TO", "DO"), only: &[], why: LATER },
    Word { text: concat!("FIX", "ME"), only: &[], why: LATER },
    Word { text: concat!("to", "do!("), only: &["rs"], why: LATER },
    Word { text: concat!("unimple", "mented!("), only: &["rs"], why: LATER },
    Word { text: concat!("#[", "ignore"), only: &["rs"], why: OFF },
    // In Rust `skip` is an iterator's; in the JavaScript runners it switches a test off.
    Word { text: concat!(".", "skip("), only: &["js", "mjs", "ts"], why: OFF },
    Word { text: concat!("skip", ": true"), only: &["js", "mjs", "ts"], why: OFF },
];

/// Written by cargo, which names its index in every entry.
const EXEMPT: &[&str] = &["Cargo.lock", "fuzz/Cargo.lock"];

/// The check.
pub fn check() -> Result<Findings> {
    let mut found = Findings::default();
    for file in shell::files()? {
        if !EXEMPT.contains(&file.as_str()) {
            search(&file, &shell::read(&file), &mut found);
        }
    }
    Ok(found)
}

fn search(file: &str, text: &str, found: &mut Findings) {
    let extension = file.rsplit_once('.').map_or("", |(_, e)| e);
    for word in WORDS.iter().filter(|w| w.only.is_empty() || w.only.contains(&extension)) {
        for (i, _) in text.lines().enumerate().filter(|(_, l)| l.contains(word.text)) {
            found.problem(format!("{file}:{}: `{}` is {}", i + 1, word.text, word.why));
        }
    }
    if file.ends_with("package-lock.json") && text.contains("\"resolved\"") {
        found.problem(format!(
            "{file}: names its registry; npm leaves that out with \
             `--omit-lockfile-registry-resolved`"
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(file: &str, text: &str, problems: usize) {
        let mut found = Findings::default();
        search(file, text, &mut found);
        assert_eq!(found.problems.len(), problems, "{file}: {text}: {:?}", found.problems);
    }

    #[test]
    fn words_are_found_where_they_mean_something() {
        check("a.md", "see /workers/ and iter.skip(1)", 0);
        check("a.rs", "iter.skip(1)", 0);
        check("a.mjs", concat!("test.", "skip('x')"), 1);
        check("a.rs", concat!("#[", "ignore]\n#[", "ignore = \"slow\"]"), 2);
        check("a.md", concat!("from crates", ".io"), 1);
        check("b/package-lock.json", "{\"resolved\": \"x\"}", 1);
    }
}
