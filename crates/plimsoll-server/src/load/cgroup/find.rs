//! Finds our own cgroup. `/proc/self/cgroup` names it in each hierarchy, the mount table says
//! where the hierarchies are and which part of them is visible.

use crate::load::Paths;
use crate::load::files::Desk;
use crate::load::parse::{lines, number, words};
use plimsoll_core::limits::{CGROUP_HIERARCHIES_MAX, CGROUP_LEVELS_MAX};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

/// Where cgroups are mounted on all systems we know.
pub const USUAL_MOUNT: &str = "/sys/fs/cgroup";

/// Version of a cgroup hierarchy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// One hierarchy for each controller, or few of them.
    One,
    /// One hierarchy for all.
    Two,
}

/// A directory of ours and those above it, as far as they are visible.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// Of the hierarchy.
    pub version: Version,
    /// Our own first. Never empty, and without the root of the machine, which is nobody's own.
    pub levels: Vec<PathBuf>,
}

impl Group {
    /// Our own directory.
    pub fn own(&self) -> &Path {
        self.levels.first().map_or(Path::new(""), PathBuf::as_path)
    }
}

/// Our cgroup by controller; `None` if it is the root of the machine or cannot be found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Quota and throttling.
    pub cpu: Option<Group>,
    /// Use of the processor: `cpuacct` in version 1, the same as `cpu` in version 2.
    pub cpuacct: Option<Group>,
    /// Memory.
    pub memory: Option<Group>,
    /// Version 2, with controllers or without: pressure stall information is there.
    pub unified: Option<Group>,
}

/// Looks it up. Processes are hardly ever moved, so once is enough.
pub fn find(paths: &Paths) -> Found {
    let mut desk = Desk::new();
    let mut text = |name| desk.once(&paths.proc.join(name), |t| Some(t.to_vec()));
    let (cgroup, mountinfo) = (text("self/cgroup"), text("self/mountinfo"));
    let places = hierarchies(&cgroup.unwrap_or_default(), &mountinfo.unwrap_or_default());
    let [cpu, cpuacct, memory, unified] = places.map(|place| {
        let place = place?;
        let levels = levels(&place, &paths.cgroup);
        (!levels.is_empty()).then_some(Group { version: place.version, levels })
    });
    Found { cpu, cpuacct, memory, unified }
}

/// Where one controller's files of ours are, before it is known which directories exist.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hierarchy {
    /// Version.
    pub version: Version,
    /// The visible top, as in the mount table.
    pub mount: PathBuf,
    /// Our cgroup below it; empty if the top is ours.
    pub below: PathBuf,
}

/// Places of `cpu`, `cpuacct`, `memory` and of version 2, from the texts of `/proc/self/cgroup`
/// and `/proc/self/mountinfo`.
pub fn hierarchies(cgroup: &[u8], mountinfo: &[u8]) -> [Option<Hierarchy>; 4] {
    let (memberships, mut mounts) = (memberships(cgroup), mounts_of(mountinfo));
    // A host's tree may be mounted into a container beside its own.
    mounts.sort_by_key(|m| !m.point.starts_with(USUAL_MOUNT));
    [Some("cpu"), Some("cpuacct"), Some("memory"), None]
        .map(|controller| hierarchy(&memberships, &mounts, controller))
}

/// A line of `/proc/self/cgroup`.
struct Membership {
    /// Empty in version 2.
    controllers: Vec<Vec<u8>>,
    path: PathBuf,
}

fn memberships(text: &[u8]) -> Vec<Membership> {
    let all = lines(text).filter_map(|line| {
        let mut parts = line.splitn(3, |b| *b == b':');
        let id = number(parts.next()?)?;
        let controllers: Vec<_> =
            parts.next()?.split(|b| *b == b',').filter(|c| !c.is_empty()).map(Vec::from).collect();
        let path = PathBuf::from(std::ffi::OsStr::from_bytes(parts.next()?));
        // Only version 2 has no controllers in this file, and only it has the number 0.
        (controllers.is_empty() == (id == 0)).then_some(Membership { controllers, path })
    });
    all.take(CGROUP_HIERARCHIES_MAX).collect()
}

/// A mount of a cgroup hierarchy.
struct Mount {
    version: Version,
    /// The part of the hierarchy that is mounted.
    root: PathBuf,
    point: PathBuf,
    /// Options of the hierarchy, the controllers among them.
    options: Vec<Vec<u8>>,
}

fn mounts_of(text: &[u8]) -> Vec<Mount> {
    lines(text).filter_map(mount_of).take(CGROUP_HIERARCHIES_MAX).collect()
}

/// `id parent device root point options [field…] - type source options`.
fn mount_of(line: &[u8]) -> Option<Mount> {
    let mut words = words(line);
    let (root, point) = (words.nth(3)?, words.next()?);
    words.find(|w| *w == b"-")?;
    let version = match words.next()? {
        b"cgroup" => Version::One,
        b"cgroup2" => Version::Two,
        _ => return None,
    };
    let options = words.nth(1)?.split(|b| *b == b',').map(Vec::from).collect();
    Some(Mount { version, root: unescape(root), point: unescape(point), options })
}

/// Blanks and backslashes stand as three octal digits in the mount table.
fn unescape(text: &[u8]) -> PathBuf {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, tail)) = rest.split_first() {
        let code = tail
            .get(..3)
            .filter(|_| *first == b'\\')
            .and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok());
        out.push(code.unwrap_or(*first));
        rest = if code.is_some() { tail.get(3..).unwrap_or_default() } else { tail };
    }
    PathBuf::from(std::ffi::OsStr::from_bytes(&out))
}

/// The place of a controller (version 1 if it is there, else version 2), or of version 2. Version
/// 1 shadows version 2 even where our cgroup is its root: the controller is not in both.
fn hierarchy(
    memberships: &[Membership],
    mounts: &[Mount],
    controller: Option<&str>,
) -> Option<Hierarchy> {
    let has =
        |list: &[Vec<u8>]| list.iter().any(|c| Some(c.as_slice()) == controller.map(str::as_bytes));
    let one = memberships.iter().find(|m| has(&m.controllers));
    let (membership, mount) = match one {
        Some(m) => (m, mounts.iter().find(|x| x.version == Version::One && has(&x.options))?),
        None => (
            memberships.iter().find(|m| m.controllers.is_empty())?,
            mounts.iter().find(|x| x.version == Version::Two)?,
        ),
    };
    let plain = |p: &Path| p.components().all(|c| c != Component::ParentDir);
    if !plain(&membership.path) || !plain(&mount.point) {
        // Outside of what our namespace shows.
        return None;
    }
    // A mount of another part can only be a container's, made for us: its top is what we have.
    let below = membership.path.strip_prefix(&mount.root).unwrap_or(Path::new(""));
    Some(Hierarchy {
        version: mount.version,
        mount: mount.point.clone(),
        below: below.components().filter(|c| *c != Component::RootDir).collect(),
    })
}

/// Directories from our own up to the visible top, without the machine's root. Empty if our own
/// is that root or is not there: one above it is not ours.
fn levels(place: &Hierarchy, usual: &Path) -> Vec<PathBuf> {
    let top = match place.mount.strip_prefix(USUAL_MOUNT) {
        Ok(rest) => usual.components().chain(rest.components()).collect(),
        Err(_) => place.mount.clone(),
    };
    place
        .below
        .ancestors()
        .map(|below| top.components().chain(below.components()).collect::<PathBuf>())
        .take(CGROUP_LEVELS_MAX)
        .take_while(|dir| dir.is_dir() && !is_machine_root(dir, place.version))
        .collect()
}

/// The kernel keeps one file out of the root in version 2, and has one only there in version 1.
/// The top of a namespace looks like any other directory.
fn is_machine_root(dir: &Path, version: Version) -> bool {
    match version {
        Version::One => dir.join("release_agent").exists(),
        Version::Two => !dir.join("cgroup.type").exists(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const V2: &str =
        "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n";
    const V1: &str = "32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n\
        35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n";

    /// Expected: mount and path below it, for cpu, cpuacct, memory, version 2; "" is none.
    fn check(cgroup: &str, mounts: &str, expect: [&str; 4]) {
        let found = hierarchies(cgroup.as_bytes(), mounts.as_bytes()).map(|place| {
            place.map_or(String::new(), |h| {
                format!("{:?} {} {}", h.version, h.mount.display(), h.below.display())
            })
        });
        assert_eq!(found, expect, "{cgroup}{mounts}");
    }

    #[test]
    fn version_two() {
        let all = |text| [text; 4];
        check("0::/\n", V2, all("Two /sys/fs/cgroup "));
        let service = "Two /sys/fs/cgroup system.slice/plimsoll.service";
        check("0::/system.slice/plimsoll.service\n", V2, all(service));
        let odd = "9 8 0:26 / /my\\040cgroups rw - cgroup2 none rw\n";
        check("0::/a:b c\n", odd, all("Two /my cgroups a:b c"));
        // A part of the tree is mounted, without a namespace.
        let part = "9 8 0:26 /docker/x /sys/fs/cgroup ro - cgroup2 cgroup rw\n";
        check("0::/docker/x\n", part, all("Two /sys/fs/cgroup "));
        check("0::/docker/x/y\n", part, all("Two /sys/fs/cgroup y"));
        check("0::/other\n", part, all("Two /sys/fs/cgroup "));
        // Another tree beside our own.
        let two = format!("9 8 0:26 / /host/cgroup ro - cgroup2 cgroup rw\n{V2}");
        check("0::/x\n", &two, all("Two /sys/fs/cgroup x"));
    }

    #[test]
    fn version_one() {
        let (cpu, memory) = ("One /sys/fs/cgroup/cpu,cpuacct a", "One /sys/fs/cgroup/memory b/c");
        check("4:memory:/b/c\n1:cpu,cpuacct:/a\n", V1, [cpu, cpu, memory, ""]);
        check("4:memory:/b/c\n", V1, ["", "", memory, ""]);
    }

    #[test]
    fn hybrid() {
        let mounts = format!(
            "{V1}41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n\
             37 31 0:34 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd\n"
        );
        let unified = "Two /sys/fs/cgroup/unified s";
        let cgroup = "9:name=systemd:/s\n4:memory:/m\n0::/s\n";
        check(cgroup, &mounts, [unified, unified, "One /sys/fs/cgroup/memory m", unified]);
        // Listed, but not mounted where we are: version 2 does not have it either.
        check(
            "4:cpuset:/x\n5:memory:/m\n0::/s\n",
            V2,
            ["Two /sys/fs/cgroup s", "Two /sys/fs/cgroup s", "", "Two /sys/fs/cgroup s"],
        );
    }

    #[test]
    fn nothing_and_nonsense() {
        for (cgroup, mounts) in [
            ("", ""),
            ("0::/x\n", ""),
            ("", V2),
            ("0::/../../x\n", V2),
            ("::/x\n0:/x\nx::/y\n-1::/z\n0:cpu:/x\n5::/x\n", V2),
            ("0::/x\n", "1 2 3 / /sys/fs/cgroup rw cgroup2 cgroup2 rw\n1 -\n - cgroup2\n"),
            ("0::/x\n", "30 23 0:26 / /sys/../fs rw - cgroup2 cgroup2 rw\n"),
        ] {
            check(cgroup, mounts, [""; 4]);
        }
    }

    #[test]
    fn escapes() {
        let check = |text: &str, expect: &str| {
            assert_eq!(unescape(text.as_bytes()), Path::new(expect), "{text}");
        };
        check("/a\\040b\\134c", "/a b\\c");
        check("/a\\04", "/a\\04");
        check("/a\\999\\", "/a\\999\\");
    }

    proptest! {
        #[test]
        fn any_bytes(a in proptest::collection::vec(any::<u8>(), 0..300),
            b in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = hierarchies(&a, &b);
        }

        #[test]
        fn never_out_of_the_tree(
            a in "([0-9]|:|/|cpu|memory|,|\\.\\.|\n|0::/x){0,40}",
            b in "([0-9] |/|/sys/fs/cgroup|cgroup2? |cpu|memory|,| - |\\\\056|\\.\\.|\n){0,40}"
        ) {
            for place in hierarchies(a.as_bytes(), b.as_bytes()).into_iter().flatten() {
                let whole = place.mount.join(&place.below);
                prop_assert!(whole.starts_with(&place.mount));
                prop_assert!(whole.components().all(|c| c != Component::ParentDir));
            }
        }
    }
}
