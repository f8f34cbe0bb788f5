//! Straight lines and means, with their 95 % confidence intervals.

/// A line fitted by least squares.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Line {
    /// Change of y for each unit of x.
    pub slope: f64,
    /// y at x = 0.
    pub intercept: f64,
    /// Half of the slope's 95 % confidence interval; infinite with two points, where no residual
    /// is left to judge by.
    pub slope_ci95: f64,
}

impl Line {
    /// The line's y at `x`.
    pub fn at(&self, x: f64) -> f64 {
        self.intercept + self.slope * x
    }

    /// Whether y rises with x, beyond the doubt of the fit.
    pub fn rises(&self) -> bool {
        self.slope > self.slope_ci95
    }
}

/// The least-squares line through the points of `xs` and `ys`, pair by pair. None with fewer than
/// two different x, or with a figure that is not finite.
pub fn line(xs: &[f64], ys: &[f64]) -> Option<Line> {
    let n = xs.len().min(ys.len());
    let points = || xs.iter().copied().zip(ys.iter().copied());
    let count = n as f64;
    let mean_x = points().map(|(x, _)| x).sum::<f64>() / count;
    let mean_y = points().map(|(_, y)| y).sum::<f64>() / count;
    let spread: f64 = points().map(|(x, _)| (x - mean_x).powi(2)).sum();
    let shared: f64 = points().map(|(x, y)| (x - mean_x) * (y - mean_y)).sum();
    let slope = shared / spread;
    let intercept = mean_y - slope * mean_x;
    if n < 2 || !slope.is_finite() || !intercept.is_finite() {
        return None;
    }
    let residual: f64 = points().map(|(x, y)| (y - intercept - slope * x).powi(2)).sum();
    let slope_ci95 = match n - 2 {
        0 => f64::INFINITY,
        free => t_975(free) * (residual / free as f64 / spread).sqrt(),
    };
    Some(Line { slope, intercept, slope_ci95 })
}

/// The 95 % confidence interval of the mean of `samples`, by Student's t, which suits the two to
/// five repetitions a ramp has. None with fewer than two: one figure tells nothing of its spread.
pub fn interval(samples: &[f64]) -> Option<(f64, f64)> {
    let n = samples.len();
    if n < 2 || samples.iter().any(|x| !x.is_finite()) {
        return None;
    }
    let mean = samples.iter().sum::<f64>() / n as f64;
    let variance = samples.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / (n - 1) as f64;
    let half = t_975(n - 1) * (variance / n as f64).sqrt();
    Some((mean - half, mean + half))
}

/// The 0.975 quantile of Student's t for 1 to 30 degrees of freedom, as in any table of it.
const T_975: [f64; 30] = [
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160,
    2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056,
    2.052, 2.048, 2.045, 2.042,
];

/// The same for any number of them; beyond the table by the first term of its expansion around
/// the normal distribution, which is right to 0.002 there.
fn t_975(free: usize) -> f64 {
    let of_table = free.checked_sub(1).and_then(|at| T_975.get(at));
    of_table.copied().unwrap_or_else(|| 1.960 + 2.372 / (free as f64).max(1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines() {
        let check = |xs: &[f64], ys: &[f64], slope: f64, intercept: f64| {
            let found = line(xs, ys).unwrap();
            assert!((found.slope - slope).abs() < 1e-9, "{found:?}");
            assert!((found.intercept - intercept).abs() < 1e-9, "{found:?}");
            found
        };
        let exact = check(&[0.0, 1.0, 2.0], &[1.0, 3.0, 5.0], 2.0, 1.0);
        assert!(exact.slope_ci95 < 1e-9 && exact.rises() && exact.at(10.0) == 21.0);
        let flat = check(&[0.0, 1.0, 2.0, 3.0], &[1.0, -1.0, -1.0, 1.0], 0.0, 0.0);
        assert!(!flat.rises());
        // Of four residuals of 1 and a spread of 5: 4.303 × √(2 / 5).
        assert!((flat.slope_ci95 - 4.303 * (0.4f64).sqrt()).abs() < 1e-9, "{flat:?}");
        assert!(!check(&[0.0, 1.0], &[0.0, 5.0], 5.0, 0.0).rises(), "two points prove nothing");
    }

    #[test]
    fn no_line() {
        for (xs, ys) in [
            (&[][..], &[][..]),
            (&[1.0], &[1.0]),
            (&[1.0, 1.0], &[1.0, 2.0]),
            (&[1.0, 2.0], &[f64::NAN, 2.0]),
            (&[1.0, f64::INFINITY], &[1.0, 2.0]),
        ] {
            assert_eq!(line(xs, ys), None, "{xs:?} {ys:?}");
        }
    }

    #[test]
    fn intervals() {
        let (low, high) = interval(&[9.0, 10.0, 11.0]).unwrap();
        // 4.303 × 1 / √3 around 10.
        assert!((low - 7.5156).abs() < 1e-3 && (high - 12.4844).abs() < 1e-3, "{low} {high}");
        assert_eq!(interval(&[5.0, 5.0]), Some((5.0, 5.0)));
        assert_eq!(interval(&[5.0]), None);
        assert_eq!(interval(&[5.0, f64::NAN]), None);
        assert!((t_975(60) - 2.000).abs() < 0.002 && (t_975(31) - 2.040).abs() < 0.004);
    }
}
