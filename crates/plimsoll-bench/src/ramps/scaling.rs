//! How throughput grows with workers: the Universal Scalability Law.

use super::bench::Bench;
use super::fanout;
use super::run::is_own;
use plimsoll_capacity::fit;
use std::time::{Duration, Instant};

/// What the law is called in the list of what was not measured.
const WHAT: &str = "scaling over workers";

/// The numbers of workers to measure on so many cores: all up to four, then fewer and fewer.
fn counts(cores: usize) -> Vec<usize> {
    let mut made = Vec::new();
    let mut next = 1;
    while next <= cores {
        made.push(next);
        next = if next < 4 { next + 1 } else { next + next / 3 };
    }
    if made.last().is_some_and(|last| *last < cores) {
        made.push(cores);
    }
    made
}

/// The knee of deliveries with each number of workers, and the law through them.
pub fn run(bench: &mut Bench, overall_end: Instant) {
    let cores = bench.place.server_cores.len();
    let counts = counts(cores);
    if !is_own(&bench.place) {
        bench.found.missing(WHAT, "a given server keeps its workers");
        return;
    }
    if counts.len() < fit::USL_POINTS_MIN {
        let why = format!(
            "needs {} numbers of workers, and the server has {cores} core{} here",
            fit::USL_POINTS_MIN,
            if cores == 1 { "" } else { "s" }
        );
        bench.found.missing(WHAT, why);
        return;
    }
    match measure(bench, &counts, overall_end) {
        Ok(points) => match fit::usl(&points) {
            Ok(law) => bench.found.scaling = Some(law),
            Err(why) => bench.found.missing(WHAT, why.to_string()),
        },
        Err(why) => bench.found.missing(WHAT, why),
    }
}

fn measure(
    bench: &mut Bench,
    counts: &[usize],
    overall_end: Instant,
) -> Result<Vec<(f64, f64)>, String> {
    let usual = (bench.place.clone(), bench.rules.cores, bench.found.fitting.len());
    let mut points = Vec::new();
    for (done, workers) in counts.iter().enumerate() {
        let left = overall_end.saturating_duration_since(Instant::now());
        let share = left.as_secs_f64() / (counts.len() - done) as f64;
        bench.end = Instant::now() + Duration::from_secs_f64(share);
        bench.place.workers = *workers;
        bench.place.server_cores.truncate(*workers);
        bench.rules.cores = *workers as f64;
        let knee =
            fanout::open(&bench.place).and_then(|mut stage| fanout::deliveries(bench, &mut stage));
        bench.place = usual.0.clone();
        bench.rules.cores = usual.1;
        // The cost model is of the usual number of workers.
        bench.found.fitting.truncate(usual.2);
        points.extend(knee?.map(|found| (*workers as f64, found.knee)));
    }
    Ok(points)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_workers() {
        let check = |cores, expect: &[usize]| assert_eq!(counts(cores), expect);
        check(0, &[]);
        check(1, &[1]);
        check(4, &[1, 2, 3, 4]);
        check(6, &[1, 2, 3, 4, 5, 6]);
        check(16, &[1, 2, 3, 4, 5, 6, 8, 10, 13, 16]);
        assert!(counts(1_000).windows(2).all(|pair| pair[0] < pair[1]));
    }
}
