//! This process and the kernel's network tables: parsers of `/proc`, and two system calls.

use super::parse;
use std::path::Path;
use std::sync::OnceLock;

/// Processor time of this process, user and system, in microseconds.
pub fn cpu_us() -> u64 {
    let clock = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    let seconds = u64::try_from(clock.tv_sec).unwrap_or_default();
    let nanoseconds = u64::try_from(clock.tv_nsec).unwrap_or_default();
    seconds.saturating_mul(1_000_000).saturating_add(nanoseconds / 1_000)
}

/// The same in seconds.
pub fn cpu_seconds() -> f64 {
    cpu_us() as f64 / 1e6
}

/// Resident bytes of this process now; 0 where `/proc` is missing.
pub fn resident_bytes() -> f64 {
    let statm = std::fs::read("/proc/self/statm").unwrap_or_default();
    resident_pages(&statm).unwrap_or_default() as f64 * page_bytes()
}

/// Descriptors this process may open; `None` without a limit.
pub fn descriptor_limit() -> Option<u64> {
    rustix::process::getrlimit(rustix::process::Resource::Nofile).current
}

/// Bytes of one page of memory.
pub fn page_bytes() -> f64 {
    rustix::param::page_size() as f64
}

/// Resident pages, from `/proc/self/statm`.
pub fn resident_pages(statm: &[u8]) -> Option<u64> {
    parse::words(statm).nth(1).and_then(parse::number)
}

/// Cores this process may run on, from `/proc/self/status`: bits of `Cpus_allowed`, which is a
/// list of hexadecimal words. Affinity and cpusets are in it, quotas are not.
pub fn allowed_cores(status: &[u8]) -> Option<u64> {
    let mask = parse::lines(status).find_map(|l| l.strip_prefix(b"Cpus_allowed:"))?;
    let mut cores = 0;
    for digit in mask.trim_ascii().iter().filter(|b| **b != b',') {
        cores += u64::from((*digit as char).to_digit(16)?.count_ones());
    }
    (cores > 0).then_some(cores)
}

/// Memory of the machine in bytes, from `/proc/meminfo`.
pub fn machine_bytes(meminfo: &[u8]) -> Option<u64> {
    parse::keyed(meminfo, "MemTotal:")?.checked_mul(1024)
}

/// Pages of TCP buffers, from `/proc/net/sockstat`.
pub fn tcp_pages(sockstat: &[u8]) -> Option<u64> {
    let line = parse::lines(sockstat).find_map(|l| l.strip_prefix(b"TCP:"))?;
    let mut words = parse::words(line);
    words.find(|w| *w == b"mem")?;
    words.next().and_then(parse::number)
}

/// What the listeners dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listens {
    /// The accept queue was full.
    pub overflows: u64,
    /// All reasons, that one among them.
    pub drops: u64,
}

/// From `/proc/net/netstat`.
pub fn listens(netstat: &[u8]) -> Option<Listens> {
    let [overflows, drops] = columns(netstat, b"TcpExt:", [b"ListenOverflows", b"ListenDrops"])?;
    Some(Listens { overflows, drops })
}

/// TCP segments sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segments {
    /// For the first time.
    pub out: u64,
    /// Repetitions.
    pub again: u64,
}

/// From `/proc/net/snmp`.
pub fn segments(snmp: &[u8]) -> Option<Segments> {
    let [out, again] = columns(snmp, b"Tcp:", [b"OutSegs", b"RetransSegs"])?;
    Some(Segments { out, again })
}

/// Numbers from a table of two lines with the same first word: names, then values.
fn columns(text: &[u8], first: &[u8], names: [&[u8]; 2]) -> Option<[u64; 2]> {
    let mut rows = parse::lines(text).filter_map(|l| l.strip_prefix(first));
    let (head, values) = (rows.next()?, rows.next()?);
    let column = |name: &[u8]| {
        let at = parse::words(head).position(|w| w == name)?;
        parse::words(values).nth(at).and_then(parse::number)
    };
    Some([column(names[0])?, column(names[1])?])
}

/// The directory of open descriptors.
pub(super) struct Descriptors {
    path: std::path::PathBuf,
    /// The size of the directory is the number of descriptors (Linux 6.2 and later), which
    /// costs one call instead of a walk over all of them.
    by_size: bool,
}

impl Descriptors {
    /// Tries which way works here.
    pub fn new(proc: &Path) -> Self {
        let path = proc.join("self/fd");
        // Another thread may open or close something between the two looks.
        let by_size = (0..3).any(|_| {
            let counted = count(&path);
            counted.is_some() && counted == size(&path)
        });
        Self { path, by_size }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether `open` may be called at each sample.
    pub fn is_cheap(&self) -> bool {
        self.by_size
    }

    /// Descriptors open now.
    pub fn open(&self) -> Option<u64> {
        if self.by_size { size(&self.path) } else { count(&self.path) }
    }
}

/// Descriptors of this process that are open now, for the metrics; 0 where that cannot be known.
pub fn open_descriptors() -> f64 {
    static HERE: OnceLock<Descriptors> = OnceLock::new();
    let here = HERE.get_or_init(|| Descriptors::new(Path::new("/proc")));
    here.open().unwrap_or_default() as f64
}

fn size(path: &Path) -> Option<u64> {
    Some(std::fs::metadata(path).ok()?.len())
}

fn count(path: &Path) -> Option<u64> {
    // One of them is the directory itself while it is being read.
    Some((std::fs::read_dir(path).ok()?.count() as u64).saturating_sub(1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn cores_are_bits() {
        let check = |mask: &str, expect| {
            let text = format!("Name:\tx\nCpus_allowed:\t{mask}\nCpus_allowed_list:\t0-1\n");
            assert_eq!(allowed_cores(text.as_bytes()), expect, "{mask}");
        };
        check("3", Some(2));
        check("ff,ffffffff", Some(40));
        check("00000000,00000000,00000001", Some(1));
        check("0", None);
        check("", None);
        check("3-4", None);
        assert_eq!(allowed_cores(b"Name:\tx\n"), None);
    }

    #[test]
    fn pages() {
        assert_eq!(resident_pages(b"765 442 414 5 0 123 0\n"), Some(442));
        assert_eq!(resident_pages(b"765"), None);
        assert_eq!(resident_pages(b"1 x 2"), None);
        let sockstat = b"sockets: used 17\nTCP: inuse 1 orphan 0 tw 2 alloc 1 mem 63\n\
            UDP: inuse 0 mem 4\n";
        assert_eq!(tcp_pages(sockstat), Some(63));
        assert_eq!(tcp_pages(b"UDP: inuse 0 mem 4\n"), None);
        assert_eq!(tcp_pages(b"TCP: inuse 1 mem\nx 5\n"), None);
        assert_eq!(machine_bytes(b"MemTotal:       24684096 kB\n"), Some(24_684_096 * 1024));
        assert_eq!(machine_bytes(b"MemTotal: 18446744073709551615 kB\n"), None);
    }

    #[test]
    fn tables_of_two_lines() {
        let netstat = b"TcpExt: SyncookiesSent ListenOverflows ListenDrops\nTcpExt: 0 7 9\n\
            MPTcpExt: ListenDrops\nMPTcpExt: 1\n";
        assert_eq!(listens(netstat), Some(Listens { overflows: 7, drops: 9 }));
        assert_eq!(listens(b"TcpExt: ListenOverflows ListenDrops\nTcpExt: 7\n"), None);
        assert_eq!(listens(b"TcpExt: ListenOverflows ListenDrops\n"), None);
        assert_eq!(listens(b"TcpExt: ListenDrops\nTcpExt: 7\n"), None);
        let snmp = b"Ip: A\nIp: 1\nTcp: RtoMax MaxConn OutSegs RetransSegs\nTcp: 5 -1 20 3\n";
        assert_eq!(segments(snmp), Some(Segments { out: 20, again: 3 }));
    }

    #[test]
    fn descriptors_are_counted_both_ways() {
        let here = Descriptors::new(Path::new("/proc"));
        assert!(here.open().unwrap() > 2);
        // Other tests open and close files meanwhile, so only the two ways are compared.
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
        let walk = Descriptors { path: here.path.clone(), by_size: false };
        while here.open() != walk.open() {
            assert!(std::time::Instant::now() < deadline, "never the same");
        }
        assert_eq!(Descriptors::new(Path::new("/nowhere")).open(), None);
    }

    #[test]
    fn the_clock_of_the_process_goes_on() {
        let before = cpu_us();
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
        while cpu_us() == before {
            assert!(std::time::Instant::now() < deadline, "it stands");
        }
        assert!(cpu_us() > before);
    }

    proptest! {
        #[test]
        fn any_bytes(text in proptest::collection::vec(any::<u8>(), 0..400)) {
            run_all(&text);
        }

        #[test]
        fn anything_that_looks_alike(
            text in "(TcpExt:|Tcp:|Cpus_allowed:|MemTotal:|mem|OutSegs|[0-9a-f]{1,25}|[ \t\n,-]){0,40}"
        ) {
            run_all(text.as_bytes());
        }
    }

    fn run_all(text: &[u8]) {
        let _ = (resident_pages(text), allowed_cores(text), machine_bytes(text));
        let _ = (tcp_pages(text), listens(text), segments(text));
    }
}
