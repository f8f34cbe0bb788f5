//! Whole trees of files, as systems have them, and this system.

use super::*;
use crate::load::sampler::Counter;
use proptest::prelude::*;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// A directory that goes when it is dropped.
pub(super) struct Tree(PathBuf);

impl Tree {
    pub fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        let dir = std::env::temp_dir().join(format!("plimsoll-load-{}-{n}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        Self(dir)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    fn write(&self, files: &[(&str, &str)]) {
        for (name, text) in files {
            let path = self.0.join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
    }

    fn paths(&self) -> Paths {
        Paths { proc: self.0.join("proc"), cgroup: self.0.join("cg") }
    }

    fn sampler(&self) -> Sampler {
        Sampler::new(&self.paths(), Configured::default())
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

const PROC: &[(&str, &str)] = &[
    ("proc/meminfo", "MemTotal:       16384 kB\nMemFree:        1 kB\n"),
    ("proc/self/statm", "765 442 414 5 0 123 0\n"),
    ("proc/self/status", "Name:\tplimsoll\nCpus_allowed:\tf\nCpus_allowed_list:\t0-3\n"),
    ("proc/self/fd/0", ""),
    ("proc/self/fd/1", ""),
    ("proc/self/fd/2", ""),
    ("proc/self/fd/3", ""),
    ("proc/self/net/sockstat", "sockets: used 17\nTCP: inuse 1 orphan 0 tw 2 alloc 1 mem 63\n"),
    (
        "proc/self/net/netstat",
        "TcpExt: SyncookiesSent ListenOverflows ListenDrops\nTcpExt: 0 10 20\n",
    ),
    ("proc/self/net/snmp", "Tcp: MaxConn OutSegs RetransSegs\nTcp: -1 1000 30\n"),
];

const MOUNT_TWO: &str = "30 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n";
const PRESSURE: &str = "some avg10=5.00 avg60=1.92 avg300=1.50 total=1000\n\
    full avg10=1.00 avg60=0.00 avg300=0.00 total=500\n";

/// A container of version 2 with a namespace: its top is its own.
fn version_two(tree: &Tree) {
    tree.write(PROC);
    tree.write(&[
        ("proc/self/cgroup", "0::/\n"),
        ("proc/self/mountinfo", MOUNT_TWO),
        ("cg/cgroup.type", "domain\n"),
        ("cg/cpu.max", "150000 100000\n"),
        (
            "cg/cpu.stat",
            "usage_usec 5000000\nuser_usec 1\nsystem_usec 2\nnr_periods 100\nnr_throttled 5\n\
             throttled_usec 70000\nnr_bursts 0\nburst_usec 0\n",
        ),
        ("cg/memory.current", "300000000\n"),
        ("cg/memory.max", "536870912\n"),
        ("cg/memory.high", "500000000\n"),
        ("cg/memory.stat", "anon 1\nfile 2\nsock 4096\ninactive_file 50000000\nslab 8192\n"),
        ("cg/memory.events", "low 0\nhigh 7\nmax 3\noom 1\noom_kill 1\n"),
        ("cg/cpu.pressure", PRESSURE),
        ("cg/memory.pressure", PRESSURE),
    ]);
}

/// Controllers of version 1 without a namespace, mounted from the container's part on.
fn version_one(tree: &Tree) {
    tree.write(PROC);
    tree.write(&[
        ("proc/self/cgroup", "4:memory:/docker/x\n2:cpu,cpuacct:/docker/x\n1:name=systemd:/y\n"),
        (
            "proc/self/mountinfo",
            "32 31 0:29 /docker/x /sys/fs/cgroup/cpu,cpuacct ro - cgroup cgroup rw,cpu,cpuacct\n\
             35 31 0:32 /docker/x /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n",
        ),
        ("cg/cpu,cpuacct/cpu.cfs_quota_us", "50000\n"),
        ("cg/cpu,cpuacct/cpu.cfs_period_us", "100000\n"),
        ("cg/cpu,cpuacct/cpu.stat", "nr_periods 100\nnr_throttled 5\nthrottled_time 70000000\n"),
        ("cg/cpu,cpuacct/cpuacct.usage", "5000000000\n"),
        ("cg/memory/memory.usage_in_bytes", "300000000\n"),
        ("cg/memory/memory.limit_in_bytes", "536870912\n"),
        ("cg/memory/memory.stat", "cache 9\ninactive_file 4\ntotal_inactive_file 50000000\n"),
        ("cg/memory/memory.failcnt", "3\n"),
        ("cg/memory/memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 1\n"),
        ("cg/memory/memory.kmem.tcp.usage_in_bytes", "4096\n"),
    ]);
}

fn second(start: Instant, n: u64) -> Instant {
    start + Duration::from_secs(n)
}

fn told(sampler: &mut Sampler) -> Vec<String> {
    sampler.take_notices().into_iter().map(|n| n.signal.to_string()).collect()
}

#[test]
fn a_container_of_version_two() {
    let tree = Tree::new();
    version_two(&tree);
    let mut sampler = tree.sampler();
    let start = Instant::now();
    let first = sampler.sample(start);
    assert_eq!(told(&mut sampler), [""; 0]);
    assert_eq!(first.cpu.quota_cores, Some(1.5));
    assert_eq!(first.cpu.allowed_cores, Some(4.0));
    assert_eq!(first.cpu.limit_cores, Some(1.5));
    assert_eq!((first.cpu.used_ratio, first.cpu.periods), (None, None));
    assert_eq!(first.memory.used_bytes, Some(250e6));
    assert_eq!(first.memory.limit_bytes, Some(500e6));
    assert_eq!((first.memory.socket_bytes, first.memory.slab_bytes), (Some(4096.0), Some(8192.0)));
    assert_eq!(first.memory.machine_bytes, Some(16_384.0 * 1024.0));
    assert_eq!(first.memory.high_events, None);
    assert_eq!(first.stalls.memory_some, Stall { ratio: None, average_10s: Some(0.05) });
    assert_eq!(first.network.tcp_memory_bytes, Some(63.0 * process::page_bytes()));
    assert_eq!(first.network.listen_drops, None);
    tree.write(&[
        (
            "cg/cpu.stat",
            "usage_usec 8000000\nnr_periods 120\nnr_throttled 9\nthrottled_usec 570000\n",
        ),
        ("cg/memory.events", "low 0\nhigh 9\nmax 3\noom 0\noom_kill 1\n"),
        ("cg/cpu.pressure", "some avg10=5.00 total=501000\nfull avg10=1.00 total=500\n"),
        ("cg/memory.pressure", "some avg10=5.00 total=1000\nfull avg10=1.00 total=9999999\n"),
        ("proc/self/net/netstat", "TcpExt: ListenOverflows ListenDrops\nTcpExt: 11 23\n"),
        ("proc/self/net/snmp", "Tcp: OutSegs RetransSegs\nTcp: 2000 32\n"),
        ("cg/memory.high", "max\n"),
    ]);
    let next = sampler.sample(second(start, 2));
    assert_eq!(told(&mut sampler), [""; 0]);
    assert_eq!(next.cpu.cgroup_cores, Some(1.5));
    assert_eq!(next.cpu.used_ratio, Some(1.0));
    assert_eq!((next.cpu.periods, next.cpu.throttled_periods), (Some(20.0), Some(4.0)));
    assert_eq!(next.cpu.throttled_s, Some(0.5));
    assert_eq!(next.memory.limit_bytes, Some(536_870_912.0));
    assert_eq!((next.memory.high_events, next.memory.max_events), (Some(2.0), Some(0.0)));
    assert_eq!(next.memory.oom_events, Some(0.0), "a counter that went back");
    assert_eq!(next.stalls.cpu_some.ratio, Some(0.25));
    assert_eq!(next.stalls.memory_some.ratio, Some(0.0));
    assert_eq!(next.stalls.memory_full.ratio, Some(1.0), "never above the whole time");
    assert_eq!((next.network.listen_overflows, next.network.listen_drops), (Some(1.0), Some(3.0)));
    let segments = (next.network.segments_out, next.network.segments_again);
    assert_eq!(segments, (Some(1_000.0), Some(2.0)));
}

#[test]
fn a_container_of_version_one() {
    let tree = Tree::new();
    version_one(&tree);
    let mut sampler = tree.sampler();
    let start = Instant::now();
    let first = sampler.sample(start);
    assert_eq!(told(&mut sampler), ["pressure stalls of a cgroup of our own"]);
    assert_eq!((first.cpu.quota_cores, first.cpu.limit_cores), (Some(0.5), Some(0.5)));
    assert_eq!(first.memory.used_bytes, Some(250e6));
    assert_eq!(first.memory.limit_bytes, Some(536_870_912.0));
    assert_eq!((first.memory.socket_bytes, first.memory.slab_bytes), (Some(4096.0), None));
    assert_eq!(first.stalls, StallReadings::default());
    tree.write(&[
        ("cg/cpu,cpuacct/cpuacct.usage", "5250000000\n"),
        ("cg/cpu,cpuacct/cpu.stat", "nr_periods 110\nnr_throttled 6\nthrottled_time 170000000\n"),
        ("cg/memory/memory.failcnt", "5\n"),
        ("cg/memory/memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n"),
    ]);
    let next = sampler.sample(second(start, 1));
    assert_eq!((next.cpu.cgroup_cores, next.cpu.used_ratio), (Some(0.25), Some(0.5)));
    assert_eq!((next.cpu.throttled_periods, next.cpu.throttled_s), (Some(1.0), Some(0.1)));
    assert_eq!((next.memory.max_events, next.memory.oom_events), (Some(2.0), Some(1.0)));
    assert_eq!(next.memory.high_events, None);
}

/// Version 1 has memory, version 2 the rest, and the processor's hierarchy is the machine's root.
#[test]
fn both_versions_and_a_root() {
    let tree = Tree::new();
    version_one(&tree);
    tree.write(&[
        ("proc/self/cgroup", "4:memory:/m\n2:cpu,cpuacct:/\n0::/s\n"),
        (
            "proc/self/mountinfo",
            "32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct ro - cgroup cgroup rw,cpu,cpuacct\n\
             35 31 0:32 / /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n\
             41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n",
        ),
        ("cg/cpu,cpuacct/release_agent", ""),
        ("cg/memory/release_agent", ""),
        ("cg/memory/m/memory.usage_in_bytes", "100\n"),
        ("cg/memory/m/memory.limit_in_bytes", "9223372036854771712\n"),
        ("cg/memory/m/memory.stat", "total_inactive_file 101\n"),
        ("cg/memory/m/memory.failcnt", "0\n"),
        ("cg/memory/m/memory.oom_control", "oom_kill 0\n"),
        ("cg/unified/cpu.pressure", PRESSURE),
        ("cg/unified/memory.pressure", PRESSURE),
        ("cg/unified/s/cgroup.type", "domain\n"),
        ("cg/unified/s/cpu.pressure", "some avg10=9.00 total=1\n"),
    ]);
    let mut sampler = tree.sampler();
    let start = Instant::now();
    let first = sampler.sample(start);
    assert_eq!(
        told(&mut sampler),
        [
            "processor quota of a cgroup of our own",
            "memory of sockets",
            "memory stalls of our cgroup"
        ]
    );
    assert_eq!(first.memory.used_bytes, Some(0.0), "cache may be more than the sum says");
    assert_eq!(first.memory.limit_bytes, None);
    assert_eq!(first.stalls.cpu_some.average_10s, Some(0.09));
    assert_eq!(first.stalls.memory_some.average_10s, None, "the root's is the machine's");
    let next = sampler.sample(second(start, 1));
    assert_eq!((next.cpu.cgroup_cores, next.cpu.quota_cores), (None, None));
    assert_eq!(next.cpu.limit_cores, Some(4.0));
    assert!(next.cpu.used_ratio.is_some(), "the process's own use against its cores");
}

#[test]
fn the_limit_of_a_level_above_holds() {
    let tree = Tree::new();
    version_two(&tree);
    tree.write(&[
        ("proc/self/cgroup", "0::/pod/own\n"),
        ("cg/pod/cgroup.type", "domain\n"),
        ("cg/pod/cpu.max", "100000 100000\n"),
        ("cg/pod/cpu.stat", "usage_usec 9\nnr_periods 1\nnr_throttled 1\nthrottled_usec 1\n"),
        ("cg/pod/memory.max", "200000000\n"),
        ("cg/pod/memory.events", "high 0\nmax 0\noom 0\n"),
        ("cg/pod/own/cgroup.type", "domain\n"),
        ("cg/pod/own/cpu.max", "max 100000\n"),
        ("cg/pod/own/cpu.stat", "usage_usec 7\nnr_periods 0\nnr_throttled 0\nthrottled_usec 0\n"),
        ("cg/pod/own/memory.current", "90\n"),
        ("cg/pod/own/memory.max", "max\n"),
        ("cg/pod/own/memory.stat", "inactive_file 10\n"),
    ]);
    let mut sampler = tree.sampler();
    let start = Instant::now();
    let first = sampler.sample(start);
    assert_eq!(first.cpu.quota_cores, Some(1.0));
    assert_eq!(first.memory.limit_bytes, Some(200e6));
    assert_eq!(first.memory.used_bytes, Some(80.0));
    tree.write(&[
        ("cg/pod/cpu.stat", "usage_usec 9\nnr_periods 3\nnr_throttled 2\nthrottled_usec 1\n"),
        ("cg/pod/own/cpu.stat", "usage_usec 500007\n"),
        ("cg/pod/memory.events", "high 0\nmax 4\noom 0\n"),
    ]);
    let next = sampler.sample(second(start, 1));
    assert_eq!((next.cpu.cgroup_cores, next.cpu.throttled_periods), (Some(0.5), Some(1.0)));
    assert_eq!(next.memory.max_events, Some(4.0));
}

#[test]
fn configured_limits_count_and_the_smallest_holds() {
    let tree = Tree::new();
    version_two(&tree);
    tree.write(&[("cg/memory.max", "max\n"), ("cg/memory.high", "max\n"), ("cg/cpu.max", "max 1")]);
    let check = |memory_bytes, cpu_cores, limits: (Option<f64>, Option<f64>)| {
        let mut sampler = Sampler::new(&tree.paths(), Configured { memory_bytes, cpu_cores });
        let readings = sampler.sample(Instant::now());
        assert_eq!((readings.memory.limit_bytes, readings.cpu.limit_cores), limits);
        assert_eq!(readings.cpu.quota_cores, None);
    };
    check(None, None, (None, Some(4.0)));
    check(Some(5_000), Some(2.5), (Some(5_000.0), Some(2.5)));
    check(Some(5_000), Some(16.0), (Some(5_000.0), Some(4.0)));
    tree.write(&[("cg/memory.max", "4000\n"), ("cg/memory.high", "4500\n")]);
    check(Some(5_000), None, (Some(4_000.0), Some(4.0)));
}

/// A session of a desktop has the programs of all windows in one cgroup.
#[test]
fn without_a_limit_only_this_process_counts() {
    let tree = Tree::new();
    version_two(&tree);
    tree.write(&[("cg/memory.max", "max\n"), ("cg/memory.high", "max\n")]);
    let configured = Configured { memory_bytes: Some(20_000_000), cpu_cores: None };
    let check = |used: f64| {
        let memory = Sampler::new(&tree.paths(), configured).sample(Instant::now()).memory;
        let ratio = Some(used / 20e6);
        assert_eq!((memory.used_bytes, memory.used_ratio), (Some(used), ratio));
    };
    check(442.0 * process::page_bytes() + 4_096.0 + 8_192.0);
    tree.write(&[("cg/memory.current", "50000003\n")]);
    check(3.0);
    tree.write(&[("cg/memory.max", "10000000\n"), ("cg/memory.current", "60000000\n")]);
    let memory = tree.sampler().sample(Instant::now()).memory;
    assert_eq!(memory.used_ratio, Some(1.0));
}

#[test]
fn nothing_at_all_is_told_once() {
    let tree = Tree::new();
    let mut sampler = tree.sampler();
    let start = Instant::now();
    let first = sampler.sample(start);
    let notices = sampler.take_notices();
    // Three for the cgroup; meminfo, statm, status, fd; sockstat, netstat, snmp.
    assert_eq!(notices.len(), 10, "{notices:?}");
    assert!(notices.iter().all(|n| n.path.starts_with(tree.path())));
    let limit = process::descriptor_limit().map(|n| n as f64);
    let expect =
        Readings { descriptors: DescriptorReadings { open: None, limit }, ..Readings::default() };
    assert_eq!(first, expect);
    version_two(&tree);
    let next = sampler.sample(second(start, 60));
    assert!(next.cpu.process_cores.is_some());
    assert_eq!(Readings { cpu: CpuReadings::default(), ..next }, expect, "left alone");
    assert_eq!(told(&mut sampler), [""; 0]);
}

#[test]
fn malformed_and_huge() {
    let tree = Tree::new();
    version_two(&tree);
    tree.write(&[
        ("cg/cpu.max", "\u{0}\u{0}"),
        ("cg/cpu.stat", "usage_usec 99999999999999999999999999\nnr_periods -1\n"),
        ("cg/memory.current", "18446744073709551615\n"),
        ("cg/memory.max", "18446744073709551615\n"),
        ("cg/memory.high", ""),
        ("cg/memory.events", "high\nmax x\n"),
        ("cg/cpu.pressure", "some avg10=nan avg60=inf total=1\n"),
    ]);
    let mut sampler = tree.sampler();
    let start = Instant::now();
    let first = sampler.sample(start);
    let mut signals = told(&mut sampler);
    signals.sort();
    assert_eq!(
        signals,
        [
            "events at the memory limit",
            "memory limit",
            "processor quota",
            "processor stalls of our cgroup",
            "processor throttling",
            "processor use of our cgroup"
        ]
    );
    assert_eq!((first.cpu.quota_cores, first.memory.limit_bytes), (None, None));
    assert_eq!(first.memory.cgroup_bytes, Some(u64::MAX as f64));
    // What is mended is read again, and differences start there.
    version_two(&tree);
    let next = sampler.sample(second(start, 1));
    assert_eq!((next.cpu.quota_cores, next.cpu.periods), (Some(1.5), None));
    assert_eq!((next.memory.limit_bytes, next.memory.high_events), (Some(500e6), None));
    assert_eq!(sampler.sample(second(start, 2)).cpu.periods, Some(0.0));
    assert_eq!(told(&mut sampler), [""; 0]);
}

/// The files of a process that ends are there, and then are not.
#[test]
fn a_file_that_goes() {
    let tree = Tree::new();
    version_two(&tree);
    let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
    let own = tree.path().join("proc/self");
    std::fs::remove_dir_all(&own).unwrap();
    std::os::unix::fs::symlink(format!("/proc/{}", child.id()), &own).unwrap();
    let mut sampler = tree.sampler();
    let start = Instant::now();
    let before = sampler.sample(start);
    sampler.take_notices();
    child.kill().unwrap();
    child.wait().unwrap();
    let after = sampler.sample(second(start, 60));
    let notices = told(&mut sampler);
    assert!(before.memory.resident_bytes.is_some() && before.cpu.allowed_cores.is_some());
    assert_eq!((after.memory.resident_bytes, after.cpu.allowed_cores), (None, None));
    assert!(notices.iter().any(|n| n == "resident memory"), "{notices:?}");
    assert!(notices.iter().any(|n| n == "cores we may run on"), "{notices:?}");
    assert!(notices.iter().any(|n| n == "open descriptors"), "{notices:?}");
    sampler.sample(second(start, 120));
    assert_eq!(told(&mut sampler), [""; 0]);
}

#[test]
fn descriptors_are_counted_every_five_seconds_where_it_is_dear() {
    let tree = Tree::new();
    version_two(&tree);
    let mut sampler = tree.sampler();
    let start = Instant::now();
    // A real directory lists the descriptor that reads it; here it is a file of the tree.
    assert_eq!(sampler.sample(start).descriptors.open, Some(3.0));
    tree.write(&[("proc/self/fd/4", ""), ("proc/self/status", "Cpus_allowed:\t1\n")]);
    let soon = sampler.sample(start + Duration::from_millis(4_999));
    assert_eq!((soon.descriptors.open, soon.cpu.allowed_cores), (Some(3.0), Some(4.0)));
    let later = sampler.sample(second(start, 5));
    assert_eq!((later.descriptors.open, later.cpu.allowed_cores), (Some(4.0), Some(1.0)));
}

/// Prints what this system says: `cargo test -p plimsoll-server this_system -- --nocapture`.
#[test]
fn this_system() {
    let mut sampler = Sampler::new(&Paths::default(), Configured::default());
    let start = Instant::now();
    let first = sampler.sample(start);
    let deadline = start + Duration::from_secs(10);
    let before = process::cpu_us();
    while process::cpu_us() < before + 50_000 && Instant::now() < deadline {}
    let next = sampler.sample(Instant::now());
    let began = Instant::now();
    for _ in 0..100 {
        sampler.sample(Instant::now());
    }
    println!("{next:?}\none sample takes {} µs", began.elapsed().as_micros() / 100);
    for notice in sampler.take_notices() {
        println!("{notice}");
    }
    assert!(first.memory.resident_bytes.is_some_and(|b| b > 100_000.0));
    assert!(next.cpu.process_cores.is_some_and(|c| c > 0.0));
    assert!(next.cpu.limit_cores.is_some_and(|c| c > 0.0));
    assert!(next.descriptors.open.is_some_and(|n| n >= 3.0));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn growth_is_never_negative(values in proptest::collection::vec(any::<Option<u64>>(), 0..30),
        steps in proptest::collection::vec(0u64..2, 30)) {
        let (mut counter, mut now) = (Counter::default(), Instant::now());
        let mut last = None;
        for (value, step) in values.into_iter().zip(steps) {
            now += Duration::from_secs(step);
            let growth = counter.step(value, now);
            let expect = value.zip(last).map(|(v, l): (u64, u64)| v.saturating_sub(l) as f64);
            prop_assert_eq!(growth.map(|g| g.by), expect);
            prop_assert!(growth.is_none_or(|g| g.by >= 0.0 && g.seconds >= 0.0));
            last = value.or(last);
        }
    }

    #[test]
    fn any_bytes_in_any_file(texts in proptest::collection::vec(
        prop_oneof![
            proptest::collection::vec(any::<u8>(), 0..200),
            "(some|avg10=|total=|nr_periods|high|usage_usec|inactive_file|[0-9]{1,22}|[ \n]|max)*"
                .prop_map(String::into_bytes),
        ], 11..40))
    {
        let tree = Tree::new();
        version_two(&tree);
        let names = ["cpu.max", "cpu.stat", "memory.current", "memory.max", "memory.high",
            "memory.stat", "memory.events", "cpu.pressure", "memory.pressure"];
        let mut sampler = tree.sampler();
        let mut now = Instant::now();
        for texts in texts.chunks_exact(11) {
            for (name, text) in names.iter().zip(texts) {
                std::fs::write(tree.path().join("cg").join(name), text).unwrap();
            }
            std::fs::write(tree.path().join("proc/self/net/snmp"), &texts[9]).unwrap();
            std::fs::write(tree.path().join("proc/self/statm"), &texts[10]).unwrap();
            now += Duration::from_millis(250);
            let all = sampler.sample(now);
            let CpuReadings { cgroup_cores, quota_cores, limit_cores, used_ratio, periods, .. } =
                all.cpu;
            let memory = all.memory;
            for value in [cgroup_cores, quota_cores, limit_cores, used_ratio, periods,
                memory.used_bytes, memory.limit_bytes, memory.high_events, memory.max_events,
                all.stalls.cpu_some.ratio, all.stalls.memory_full.ratio]
            {
                prop_assert!(value.is_none_or(|v| v >= 0.0 && v.is_finite()), "{:?}", all);
            }
        }
        prop_assert!(sampler.take_notices().len() <= 2 * 20);
    }
}
