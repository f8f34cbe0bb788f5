//! Which processors a thread, and whatever it starts, may run on.

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// Processors this thread may run on, ascending; none when the system does not tell.
pub fn cores_of_this_thread() -> Vec<usize> {
    let Ok(set) = sched_getaffinity(None) else { return Vec::new() };
    (0..CpuSet::MAX_CPU).filter(|core| set.is_set(*core)).collect()
}

/// From now on this thread, and the threads and processes it starts, run on these processors.
pub fn pin_this_thread(cores: &[usize]) -> Result<(), String> {
    let mut set = CpuSet::new();
    for core in cores.iter().filter(|core| **core < CpuSet::MAX_CPU) {
        set.set(*core);
    }
    sched_setaffinity(None, &set).map_err(|error| format!("processors {cores:?}: {error}"))
}

/// Does something while this thread runs on `cores`: a process that is started in it has them
/// from its first instruction on, and so all of its threads.
pub fn with_cores<T>(cores: Option<&[usize]>, action: impl FnOnce() -> T) -> Result<T, String> {
    let Some(cores) = cores else { return Ok(action()) };
    let before = cores_of_this_thread();
    pin_this_thread(cores)?;
    let done = action();
    pin_this_thread(&before)?;
    Ok(done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cores_are_given_back() {
        let before = cores_of_this_thread();
        assert!(!before.is_empty());
        let within = with_cores(Some(&before[..1]), cores_of_this_thread).unwrap();
        assert_eq!(within, before[..1]);
        assert_eq!(cores_of_this_thread(), before);
        assert!(with_cores(Some(&[]), || ()).is_err());
        assert_eq!(with_cores(None, cores_of_this_thread).unwrap(), before);
    }
}
