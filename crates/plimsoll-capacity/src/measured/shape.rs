//! Whether a file's figures are true of this node: they are of one build on one machine.

use super::{CapacityFile, Fingerprint};
use std::fmt;

/// Two machines of one shape report memory that differs a little, by what firmware and kernel keep.
const MEMORY_DIFFERENCE_MAX: f64 = 0.1;

/// One thing that differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// What, for people.
    pub what: &'static str,
    /// As the file says.
    pub file: String,
    /// As it is here.
    pub here: String,
}

/// The file is of another build or machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mismatch {
    /// What differs, at least one thing.
    pub differences: Vec<Difference>,
}

impl Mismatch {
    /// What differs, in one line.
    pub fn differences_text(&self) -> String {
        let all = self.differences.iter();
        let all: Vec<String> = all
            .map(|Difference { what, file, here }| format!("{what} {file} there and {here} here"))
            .collect();
        all.join(", ")
    }
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "was measured on another build or machine: {}", self.differences_text())?;
        f.write_str(
            "; measure this one with `plimsoll bench capacity`, or set capacity.allow_mismatch = \
             true to use the figures as they are",
        )
    }
}

impl std::error::Error for Mismatch {}

impl CapacityFile {
    /// Whether the figures hold for `here`: the same minor version, processor, number of cores and
    /// of workers, and as much memory within 10 %. Kernel and descriptors may differ.
    pub fn fits(&self, here: &Fingerprint) -> Result<(), Mismatch> {
        let there = &self.fingerprint;
        let mut differences = Vec::new();
        let mut differ = |is: bool, what, file: String, here: String| {
            if is {
                differences.push(Difference { what, file, here });
            }
        };
        let other_version = minor(&there.version) != minor(&here.version);
        differ(other_version, "version", there.version.clone(), here.version.clone());
        let models = (there.cpu_model.clone(), here.cpu_model.clone());
        differ(models.0 != models.1, "processor", quoted(&models.0), quoted(&models.1));
        let counts = [("cores", there.cores, here.cores), ("workers", there.workers, here.workers)];
        for (what, file, here) in counts {
            differ(file != here, what, file.to_string(), here.to_string());
        }
        let (file, own) = (there.memory_bytes as f64, here.memory_bytes as f64);
        let apart = (file - own).abs() > MEMORY_DIFFERENCE_MAX * file;
        differ(apart, "memory", mebibytes(file), mebibytes(own));
        if differences.is_empty() { Ok(()) } else { Err(Mismatch { differences }) }
    }
}

/// Where control groups are mounted, nearly everywhere.
const CGROUP_MOUNT: &str = "/sys/fs/cgroup";

impl Fingerprint {
    /// What the kernel says of the machine; `read` gives the text of a file. Build, cores, workers
    /// and descriptors are for the caller to fill in.
    ///
    /// Memory is that of the machine, or of our control group if it has a smaller limit; 0 where
    /// nothing says it.
    pub fn of_machine(read: impl Fn(&str) -> Option<String>) -> Self {
        let text = |path: &str| read(path).unwrap_or_default();
        let groups = text("/proc/self/cgroup");
        // "max" and the like are no limit.
        let limit = |file: &String| read(file)?.trim().parse::<u64>().ok();
        let limits = memory_limit_files(&groups);
        let memory = limits.iter().filter_map(limit).chain(memory_total(&text("/proc/meminfo")));
        Self {
            cpu_model: Self::cpu_model_of(&text("/proc/cpuinfo")).unwrap_or_default().into(),
            memory_bytes: memory.min().unwrap_or_default(),
            kernel: text("/proc/sys/kernel/osrelease").trim().into(),
            ..Self::default()
        }
    }

    /// The processor's name in the text of `/proc/cpuinfo`.
    fn cpu_model_of(cpuinfo: &str) -> Option<&str> {
        // The first is x86's; ARM has one of the others.
        ["model name", "Model", "CPU part"].iter().find_map(|name| {
            let line = cpuinfo.lines().find(|line| line.starts_with(name))?;
            Some(line.split_once(':')?.1.trim())
        })
    }
}

fn memory_total(meminfo: &str) -> Option<u64> {
    let rest = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kibibytes: u64 = rest.split_whitespace().next()?.parse().ok()?;
    kibibytes.checked_mul(1_024)
}

/// Files that may hold the memory limit, from the text of `/proc/self/cgroup`. In a container the
/// own group is often mounted as the root.
fn memory_limit_files(groups: &str) -> Vec<String> {
    let lines = groups.lines().filter_map(|line| {
        let (_, rest) = line.split_once(':')?;
        let (controllers, path) = rest.split_once(':')?;
        Some((controllers, path.trim_end_matches('/')))
    });
    let mut files = Vec::new();
    for (controllers, path) in lines {
        let (mount, file) = if controllers.is_empty() {
            (CGROUP_MOUNT.to_owned(), "memory.max")
        } else if controllers.split(',').any(|name| name == "memory") {
            (format!("{CGROUP_MOUNT}/memory"), "memory.limit_in_bytes")
        } else {
            continue;
        };
        files.extend([format!("{mount}{path}/{file}"), format!("{mount}/{file}")]);
    }
    files
}

/// `1.2` of `1.2.3`.
fn minor(version: &str) -> &str {
    let dots: Vec<usize> = version.match_indices('.').map(|(at, _)| at).collect();
    dots.get(1).and_then(|at| version.get(..*at)).unwrap_or(version)
}

fn quoted(text: &str) -> String {
    format!("\"{text}\"")
}

fn mebibytes(bytes: f64) -> String {
    format!("{:.0} MiB", bytes / 1_048_576.0)
}

#[cfg(test)]
mod tests {
    use super::super::sample;
    use super::*;

    #[test]
    fn another_shape_is_refused_and_told() {
        let check = |change: fn(&mut Fingerprint), told: &str| {
            let file = sample();
            let mut here = file.fingerprint.clone();
            change(&mut here);
            match file.fits(&here) {
                Ok(()) => assert_eq!(told, ""),
                Err(mismatch) => {
                    let text = mismatch.to_string();
                    assert!(!told.is_empty() && text.contains(told), "{text}");
                    assert!(text.contains("capacity.allow_mismatch"), "{text}");
                }
            }
        };
        check(|_| (), "");
        check(|f| f.version = "0.1.9".into(), "");
        check(|f| f.version = "0.2.0".into(), "version 0.1.0 there and 0.2.0 here");
        check(|f| f.version = "0.10.0".into(), "0.10.0 here");
        check(|f| f.version = "next".into(), "next here");
        check(|f| f.cores = 8, "cores 2 there and 8 here");
        check(|f| f.workers = 1, "workers 2 there and 1 here");
        check(|f| f.cpu_model = "Slow 1".into(), "processor \"Fast 3\" there and \"Slow 1\" here");
        check(|f| f.memory_bytes = 7_400_000_000, "");
        check(|f| f.memory_bytes = 7_000_000_000, "memory 7629 MiB there and 6676 MiB here");
        check(|f| f.memory_bytes = 16_000_000_000, "here");
        check(|f| f.kernel = "6.9".into(), "");
        check(|f| (f.cores, f.workers) = (1, 1), "cores 2 there and 1 here, workers 2");
    }

    #[test]
    fn a_machine_is_read() {
        let of = |memory: &'static str| {
            Fingerprint::of_machine(move |path| {
                let text = match path {
                    "/proc/cpuinfo" => "model name\t: Fast 3\n",
                    "/proc/meminfo" => "MemTotal:       8000 kB\nMemFree: 1 kB\n",
                    "/proc/sys/kernel/osrelease" => "6.1\n",
                    "/proc/self/cgroup" => "0::/a\n",
                    "/sys/fs/cgroup/a/memory.max" => memory,
                    _ => return None,
                };
                Some(text.into())
            })
        };
        let free = of("max\n");
        assert_eq!((free.cpu_model.as_str(), free.kernel.as_str()), ("Fast 3", "6.1"));
        assert_eq!((free.memory_bytes, of("1000\n").memory_bytes), (8_192_000, 1_000));
        assert_eq!(Fingerprint::of_machine(|_| None), Fingerprint::default());
        assert_eq!(memory_total("MemTotal: lots\n"), None);
    }

    #[test]
    fn limits_are_looked_for_in_both_versions() {
        let check = |groups: &str, expect: &[&str]| {
            let expect: Vec<_> = expect.iter().map(|f| format!("{CGROUP_MOUNT}/{f}")).collect();
            assert_eq!(memory_limit_files(groups), expect, "{groups}");
        };
        check("0::/a/b\n", &["a/b/memory.max", "memory.max"]);
        check("0::/\n", &["memory.max", "memory.max"]);
        let one = ["memory/a/memory.limit_in_bytes", "memory/memory.limit_in_bytes"];
        check("9:cpu,cpuacct:/x\n4:memory:/a\n", &one);
        check("nonsense\n\n", &[]);
    }

    #[test]
    fn processors() {
        let model = Fingerprint::cpu_model_of;
        assert_eq!(model("processor\t: 0\nmodel name\t: Fast 3\n"), Some("Fast 3"));
        assert_eq!(model("CPU part\t: 0xd0c\n"), Some("0xd0c"));
        assert_eq!(model("model name\n"), None);
        assert_eq!(model(""), None);
    }
}
