//! The Universal Scalability Law (N. J. Gunther, *Guerrilla Capacity Planning*, 2007):
//! `X(N) = λN / (1 + σ(N−1) + κN(N−1))`, over workers of a node or nodes of a cluster.

use super::nnls::least_squares;
use crate::measured::Usl;

/// Points that a fit needs: three figures are fitted, and fewer than three more judge nothing.
pub const USL_POINTS_MIN: usize = 6;
/// The points give no law.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum NoUsl {
    /// Too few.
    #[error("the scalability law needs {USL_POINTS_MIN} points, there are {0}")]
    TooFew(usize),
    /// N below 1, X of 0 or less, or not a number.
    #[error("point ({n}, {x}) is not a count from 1 up and a throughput above 0")]
    BadPoint {
        /// Workers or nodes.
        n: f64,
        /// Throughput.
        x: f64,
    },
    /// All at the same N, or a throughput of one that is not above 0.
    #[error("the points do not determine a scalability law")]
    Undetermined,
}

/// Fits the law to points (N, X), by least squares on `N/X = a + b(N−1) + cN(N−1)` with λ = 1/a,
/// σ = b/a, κ = c/a. Each point is weighted so that relative errors of X count alike. A σ or κ that
/// comes out negative is set to 0 and the rest fitted again.
pub fn usl(points: &[(f64, f64)]) -> Result<Usl, NoUsl> {
    if points.len() < USL_POINTS_MIN {
        return Err(NoUsl::TooFew(points.len()));
    }
    let bad = |(n, x): (f64, f64)| !n.is_finite() || n < 1.0 || !x.is_finite() || x <= 0.0;
    if let Some((n, x)) = points.iter().copied().find(|p| bad(*p)) {
        return Err(NoUsl::BadPoint { n, x });
    }
    let mut ns: Vec<f64> = points.iter().map(|(n, _)| *n).collect();
    ns.sort_by(f64::total_cmp);
    ns.dedup();
    // Each figure that is fitted needs another N; with two of them the curve is a line.
    let kept: &[usize] = match ns.len() {
        0 | 1 => return Err(NoUsl::Undetermined),
        2 => &[0, 1],
        _ => &[0, 1, 2],
    };
    let largest_n = ns.last().copied().unwrap_or(1.0);
    let mut kept = kept.to_vec();
    loop {
        let (value, covariance) = fit(points, &kept).ok_or(NoUsl::Undetermined)?;
        let worst = (1..3).filter(|k| value[*k] < 0.0).min_by(|i, j| {
            let significance = |k: usize| value[k] / covariance[k][k].sqrt().max(1e-300);
            significance(*i).total_cmp(&significance(*j))
        });
        match worst {
            Some(worst) => kept.retain(|k| *k != worst),
            None => return law(value, &covariance, largest_n),
        }
    }
}

type Covariance = [[f64; 3]; 3];

/// a, b, c of the columns in `kept` (the others 0), and their covariance.
fn fit(points: &[(f64, f64)], kept: &[usize]) -> Option<([f64; 3], Covariance)> {
    let column = |k: usize| -> Vec<f64> {
        let of = |n: f64| [1.0, n - 1.0, n * (n - 1.0)][k];
        points.iter().map(|(n, x)| of(*n) * x / n).collect()
    };
    let columns: Vec<Vec<f64>> = kept.iter().map(|k| column(*k)).collect();
    let columns: Vec<&[f64]> = columns.iter().map(Vec::as_slice).collect();
    // Weighted by X/N, the left side is 1 for every point.
    let target = vec![1.0; points.len()];
    let found = least_squares(&columns, &target);
    let residual: f64 = (0..points.len())
        .map(|i| 1.0 - columns.iter().zip(&found).map(|(c, x)| c[i] * x).sum::<f64>())
        .map(|r| r * r)
        .sum();
    let variance = residual / (points.len() - kept.len()) as f64;
    let inverse = inverse_of_square(&columns)?;
    let (mut value, mut covariance) = ([0.0; 3], [[0.0; 3]; 3]);
    for (i, k) in kept.iter().enumerate() {
        value[*k] = *found.get(i)?;
        for (j, l) in kept.iter().enumerate() {
            covariance[*k][*l] = variance * inverse[i][j];
        }
    }
    Some((value, covariance))
}

/// λ, σ, κ from a, b, c, with standard errors by the delta method.
fn law([a, b, c]: [f64; 3], covariance: &Covariance, largest_n: f64) -> Result<Usl, NoUsl> {
    let (lambda, sigma, kappa) = (1.0 / a, b / a, c / a);
    let ratio_error = |k: usize, ratio: f64| {
        let v = covariance;
        let variance = v[k][k] - 2.0 * ratio * v[0][k] + ratio * ratio * v[0][0];
        variance.max(0.0).sqrt() / a
    };
    let errors =
        [covariance[0][0].max(0.0).sqrt() / (a * a), ratio_error(1, sigma), ratio_error(2, kappa)];
    let found = Usl { lambda, sigma, kappa, errors, largest_n };
    let finite = [lambda, sigma, kappa].iter().chain(&errors).all(|x| x.is_finite());
    (a > 0.0 && finite).then_some(found).ok_or(NoUsl::Undetermined)
}

/// The inverse of `columnsᵀ × columns`, by elimination with a unit matrix beside it.
fn inverse_of_square(columns: &[&[f64]]) -> Option<Vec<Vec<f64>>> {
    let n = columns.len();
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    let mut rows: Vec<Vec<f64>> = (0..n)
        .map(|i| {
            let left = (0..n).map(|j| dot(columns[i], columns[j]));
            left.chain((0..n).map(|j| f64::from(u8::from(i == j)))).collect()
        })
        .collect();
    for k in 0..n {
        let pivot = rows[k][k];
        if pivot.is_nan() || pivot <= 0.0 {
            return None;
        }
        rows[k].iter_mut().for_each(|x| *x /= pivot);
        let own = rows[k].clone();
        for (i, row) in rows.iter_mut().enumerate() {
            if i != k {
                let times = row[k];
                row.iter_mut().zip(&own).for_each(|(x, o)| *x -= times * o);
            }
        }
    }
    Some(rows.into_iter().map(|row| row[n..].to_vec()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn throughput(law: &Usl, n: f64) -> f64 {
        law.lambda * n / (1.0 + law.sigma * (n - 1.0) + law.kappa * n * (n - 1.0))
    }

    /// The N beyond which more carry less. None when there is none.
    fn peak_n(law: &Usl) -> Option<f64> {
        (law.kappa > 0.0).then(|| ((1.0 - law.sigma) / law.kappa).sqrt())
    }
    use proptest::prelude::*;

    fn law_of(lambda: f64, sigma: f64, kappa: f64, largest_n: f64) -> Usl {
        Usl { lambda, sigma, kappa, errors: [0.0; 3], largest_n }
    }

    fn points(law: &Usl, ns: &[f64], noise: f64) -> Vec<(f64, f64)> {
        let sign = |i: usize| [1.0, -1.0, 0.5, -0.5, 0.0, 1.0, -1.0][i % 7];
        ns.iter()
            .enumerate()
            .map(|(i, n)| (*n, throughput(law, *n) * (1.0 + noise * sign(i))))
            .collect()
    }

    const NS: [f64; 8] = [1.0, 2.0, 4.0, 8.0, 12.0, 16.0, 24.0, 32.0];

    #[test]
    fn the_law_is_found_again() {
        let truth = law_of(52_000.0, 0.02, 0.000_4, 32.0);
        let check = |noise: f64, of_x: f64, of_peak: f64| {
            let found = usl(&points(&truth, &NS, noise)).unwrap();
            for n in 1..=64 {
                let n = f64::from(n);
                let off = throughput(&found, n) / throughput(&truth, n) - 1.0;
                assert!(off.abs() < of_x, "{n}: {off} {found:?}");
            }
            let peak = peak_n(&found).unwrap();
            assert!((peak / 49.497_474_683 - 1.0).abs() < of_peak, "{peak} {found:?}");
            assert!((found.lambda / truth.lambda - 1.0).abs() <= of_x, "{found:?}");
            assert_eq!(found.largest_n, 32.0);
            found
        };
        let exact = check(0.0, 1e-6, 1e-6);
        assert!((exact.sigma - 0.02).abs() < 1e-9 && (exact.kappa - 4e-4).abs() < 1e-10);
        let noisy = check(0.01, 0.04, 0.12);
        // The truth is within three standard errors, and they are neither 0 nor all there is.
        for (found, truth, error) in [
            (noisy.lambda, 52_000.0, noisy.errors[0]),
            (noisy.sigma, 0.02, noisy.errors[1]),
            (noisy.kappa, 0.000_4, noisy.errors[2]),
        ] {
            assert!((found - truth).abs() < 3.0 * error, "{found} {truth} {error}");
            assert!(error > 0.0 && error < truth, "{noisy:?}");
        }
    }

    #[test]
    fn what_would_be_negative_is_zero() {
        // Better than linear at first: no contention is below none.
        let better = [(1.0, 100.0), (2.0, 210.0), (3.0, 320.0), (4.0, 440.0), (5.0, 560.0)];
        let found = usl(&[&better[..], &[(6.0, 690.0)]].concat()).unwrap();
        assert_eq!((found.sigma, found.kappa), (0.0, 0.0), "{found:?}");
        assert!((100.0..120.0).contains(&found.lambda), "{found:?}");
        assert_eq!(peak_n(&found), None);
        assert_eq!((found.errors[1], found.errors[2]), (0.0, 0.0));
        // Contention only, with noise that bends the other way.
        let amdahl = law_of(1_000.0, 0.05, 0.0, 8.0);
        let ns = [1.0, 2.0, 3.0, 4.0, 6.0, 8.0];
        let mut seen = points(&amdahl, &ns, 0.0);
        seen[5].1 *= 1.005;
        let found = usl(&seen).unwrap();
        assert!(found.sigma > 0.04 && found.kappa == 0.0, "{found:?}");
    }

    #[test]
    fn no_law() {
        let five = points(&law_of(10.0, 0.1, 0.01, 8.0), &NS[..5], 0.0);
        assert_eq!(usl(&five), Err(NoUsl::TooFew(5)));
        assert!(NoUsl::TooFew(5).to_string().contains("6 points"));
        for bad in [(0.0, 1.0), (1.0, 0.0), (f64::NAN, 1.0), (1.0, f64::INFINITY)] {
            let error = usl(&[&five[..], &[bad]].concat()).unwrap_err();
            assert!(matches!(error, NoUsl::BadPoint { .. }), "{error}");
        }
        assert_eq!(usl(&[(2.0, 5.0); 6]), Err(NoUsl::Undetermined));
    }

    proptest! {
        #[test]
        fn a_fit_never_has_a_negative_figure(
            xs in prop::collection::vec(0.1..1e6f64, 8),
        ) {
            let points: Vec<_> = NS.iter().copied().zip(xs).collect();
            if let Ok(found) = usl(&points) {
                prop_assert!(found.lambda > 0.0 && found.sigma >= 0.0 && found.kappa >= 0.0);
            }
        }
    }
}
