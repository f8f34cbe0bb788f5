//! Running other programs, and what several commands need to know about the checkout.

use serde_json::Value;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;

/// Failures here end the command, so a sentence for the reader is all they carry.
pub type Result<T> = std::result::Result<T, String>;

/// The top of the checkout.
pub fn root() -> PathBuf {
    let own = std::env::var("CARGO_MANIFEST_DIR")
        .unwrap_or_else(|_| env!("CARGO_MANIFEST_DIR").to_owned());
    Path::new(&own).parent().map_or_else(|| PathBuf::from("."), Path::to_path_buf)
}

/// `program`, to be run at the top of the checkout.
pub fn command(program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut c = Command::new(program);
    c.current_dir(root());
    c
}

/// The cargo that started us.
pub fn cargo() -> Command {
    command(std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned()))
}

/// The command as one would type it, for messages.
pub fn shown(c: &Command) -> String {
    let mut words = vec![c.get_program().to_string_lossy().into_owned()];
    if let Some(name) = Path::new(&words[0]).file_name() {
        words[0] = name.to_string_lossy().into_owned();
    }
    words.extend(c.get_args().map(|a| a.to_string_lossy().into_owned()));
    words.join(" ")
}

/// Runs with our own input and output.
pub fn run(c: &mut Command) -> Result<()> {
    let text = shown(c);
    let status = c.status().map_err(|e| format!("`{text}` did not start: {e}"))?;
    if status.success() { Ok(()) } else { Err(format!("`{text}` failed ({status})")) }
}

/// Runs and returns standard output.
pub fn capture(c: &mut Command) -> Result<String> {
    let text = shown(c);
    let out = c.stdin(Stdio::null()).output();
    let out = out.map_err(|e| format!("`{text}` did not start: {e}"))?;
    if !out.status.success() {
        let why = String::from_utf8_lossy(&out.stderr);
        return Err(format!("`{text}` failed ({}):\n{why}", out.status));
    }
    Ok(String::from_utf8_lossy(&out.stdout).into_owned())
}

/// Runs, prints every line at once and shows it to `see`.
pub fn tee(c: &mut Command, mut see: impl FnMut(&str)) -> Result<()> {
    let text = shown(c);
    c.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = c.spawn().map_err(|e| format!("`{text}` did not start: {e}"))?;
    let (lines, received) = mpsc::channel();
    let out = child.stdout.take().map(|pipe| forward(pipe, lines.clone()));
    let err = child.stderr.take().map(|pipe| forward(pipe, lines));
    for line in received {
        println!("{line}");
        see(&line);
    }
    for thread in [out, err].into_iter().flatten() {
        let _ = thread.join();
    }
    let status = child.wait().map_err(|e| format!("`{text}`: {e}"))?;
    if status.success() { Ok(()) } else { Err(format!("`{text}` failed ({status})")) }
}

fn forward(
    pipe: impl Read + Send + 'static,
    lines: mpsc::Sender<String>,
) -> std::thread::JoinHandle<()> {
    std::thread::spawn(move || {
        // Not `lines()`: output that is not UTF-8 must not end the reading and block the child.
        let mut pipe = BufReader::new(pipe);
        let mut bytes = Vec::new();
        while matches!(pipe.read_until(b'\n', &mut bytes), Ok(n) if n > 0) {
            let line = String::from_utf8_lossy(&bytes).trim_end().to_owned();
            if lines.send(line).is_err() {
                return;
            }
            bytes.clear();
        }
    })
}

/// Whether a program of this name is found by `PATH`.
pub fn found(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|dir| dir.join(program).is_file())
}

/// Installs Debian packages where we may, or says in `sentence` what to do.
pub fn apt(packages: &[&str], sentence: &str) -> Result<()> {
    let user = capture(command("id").arg("-u")).unwrap_or_default();
    if user.trim() != "0" || !found("apt-get") {
        return Err(sentence.to_owned());
    }
    println!("installing {} by apt-get", packages.join(", "));
    let get = || {
        let mut c = command("apt-get");
        c.env("DEBIAN_FRONTEND", "noninteractive");
        c
    };
    let _ = run(get().args(["update", "-qq"]));
    run(get().args(["install", "-y", "-qq", "--no-install-recommends"]).args(packages))
        .map_err(|e| format!("{sentence} ({e})"))
}

/// What `cargo metadata` says, for Linux (the only system the server runs on).
pub fn metadata() -> Result<Value> {
    let mut c = cargo();
    c.args(["metadata", "--format-version", "1", "--filter-platform"]);
    c.arg("x86_64-unknown-linux-gnu");
    serde_json::from_str(&capture(&mut c)?).map_err(|e| format!("cargo metadata: {e}"))
}

/// Where builds go: `CARGO_TARGET_DIR`, or whatever else cargo was told.
pub fn target_dir() -> Result<PathBuf> {
    let mut c = cargo();
    c.args(["metadata", "--format-version", "1", "--no-deps"]);
    let all: Value =
        serde_json::from_str(&capture(&mut c)?).map_err(|e| format!("cargo metadata: {e}"))?;
    let dir = all["target_directory"].as_str();
    dir.map(PathBuf::from).ok_or_else(|| "cargo metadata names no target directory".to_owned())
}

/// Builds the server for release and returns the binary's path.
pub fn release_binary() -> Result<PathBuf> {
    run(cargo().args(["build", "--release", "--package", "plimsoll"]))?;
    Ok(target_dir()?.join("release/plimsoll"))
}

/// Every file that is in the repository or would be added by `git add .`, relative to the top.
pub fn files() -> Result<Vec<String>> {
    let list = ["ls-files", "--cached", "--others", "--exclude-standard"];
    let text = capture(command("git").args(list))?;
    let top = root();
    let mut all: Vec<String> =
        text.lines().filter(|f| top.join(f).is_file()).map(str::to_owned).collect();
    all.sort();
    all.dedup();
    Ok(all)
}

/// A file of the repository as text; a file that is not text has none.
pub fn read(file: &str) -> String {
    std::fs::read_to_string(root().join(file)).unwrap_or_default()
}

/// Takes `--name VALUE` or `--name=VALUE` out of `args`.
pub fn option(args: &mut Vec<String>, name: &str) -> Result<Option<String>> {
    let with_value = format!("{name}=");
    if let Some(at) = args.iter().position(|a| a.starts_with(&with_value)) {
        return Ok(Some(args.remove(at)[with_value.len()..].to_owned()));
    }
    let Some(at) = args.iter().position(|a| a == name) else { return Ok(None) };
    args.remove(at);
    if at == args.len() {
        return Err(format!("{name} needs a value"));
    }
    Ok(Some(args.remove(at)))
}

/// Takes `--name A,B` out of `args`; every entry must be one of `known`.
pub fn choice(args: &mut Vec<String>, name: &str, known: &[&str]) -> Result<Vec<String>> {
    let text = option(args, name)?.unwrap_or_default();
    let chosen: Vec<String> =
        text.split(',').filter(|s| !s.is_empty()).map(str::to_owned).collect();
    match chosen.iter().find(|c| !known.contains(&c.as_str())) {
        Some(c) => Err(format!("{name}: there is no `{c}`; there are {}", known.join(", "))),
        None => Ok(chosen),
    }
}

/// Takes the bare flag `name` out of `args`.
pub fn flag(args: &mut Vec<String>, name: &str) -> bool {
    let before = args.len();
    args.retain(|a| a != name);
    args.len() < before
}

/// Complains about whatever the command did not take.
pub fn nothing_left(args: &[String]) -> Result<()> {
    match args.first() {
        Some(a) => Err(format!("unknown argument `{a}`; `cargo xtask` alone prints the usage")),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn options_are_taken_out() {
        let mut a = args("--reps 5 --quick --only=x,y rest");
        assert_eq!(option(&mut a, "--reps").unwrap().as_deref(), Some("5"));
        assert!(flag(&mut a, "--quick"));
        assert_eq!(choice(&mut a, "--only", &["x", "y", "z"]).unwrap(), ["x", "y"]);
        assert!(nothing_left(&a).unwrap_err().contains("`rest`"));
    }

    #[test]
    fn options_that_make_no_sense_are_told() {
        assert!(option(&mut args("--reps"), "--reps").unwrap_err().contains("needs a value"));
        let unknown = choice(&mut args("--only q"), "--only", &["x"]).unwrap_err();
        assert!(unknown.contains("there is no `q`"));
    }

    #[test]
    fn tee_sees_both_outputs_and_the_failure() {
        let mut seen = Vec::new();
        let mut c = command("sh");
        c.args(["-c", "echo one; echo two >&2; exit 3"]);
        let failed = tee(&mut c, |l| seen.push(l.to_owned())).unwrap_err();
        seen.sort();
        assert_eq!(seen, ["one", "two"]);
        assert!(failed.contains("exit status: 3"));
    }
}
