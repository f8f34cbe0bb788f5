//! Non-negative least squares, by the active-set method of Lawson and Hanson (*Solving Least
//! Squares Problems*, 1974, chapter 23).
//!
//! A cost is never negative; ordinary least squares makes it so wherever two columns move
//! together, and then predicts that more load costs less.

/// Rounds of adding a column, for each column. The method needs about one; more is a cycle of
/// rounding errors.
const ROUNDS_PER_COLUMN: usize = 3;
/// Below this share of a column's length what is left of it, after the columns before it were
/// taken out, is rounding: the column is a mixture of those.
const DEPENDENT: f64 = 1e-9;
/// Columns, so that a wrong call ends quickly.
const COLUMNS_MAX: usize = 64;

/// A solution.
#[derive(Clone, Debug, PartialEq)]
pub struct Fit {
    /// One for each column, none below zero.
    pub coefficients: Vec<f64>,
    /// Share of the variance that is explained: 1 − Σ residual² / Σ (y − mean)², unweighted. Below
    /// zero when the mean alone would do better.
    pub r_squared: f64,
    /// Largest |residual| / |y|, over the rows with y ≠ 0.
    pub worst_residual_ratio: f64,
    /// y − prediction, by row.
    pub residuals: Vec<f64>,
}

/// The coefficients ≥ 0 that make Σ (y − row · coefficients)² smallest. None without rows, with
/// rows of different lengths, or with a figure that is not finite.
pub fn solve(rows: &[Vec<f64>], y: &[f64]) -> Option<Fit> {
    solve_weighted(rows, y, &vec![1.0; y.len()])
}

/// The same with a weight for each row: Σ (weight × residual)² becomes smallest. With 1 / y as
/// weight, relative errors count alike for small and for large y.
pub fn solve_weighted(rows: &[Vec<f64>], y: &[f64], weights: &[f64]) -> Option<Fit> {
    let columns = rows.first()?.len();
    let finite = |all: &[f64]| all.iter().all(|x| x.is_finite());
    let fits = |row: &Vec<f64>| row.len() == columns && finite(row);
    if columns > COLUMNS_MAX
        || rows.len() != y.len()
        || rows.len() != weights.len()
        || !rows.iter().all(fits)
        || !finite(y)
        || !finite(weights)
    {
        return None;
    }
    let mut matrix: Vec<Vec<f64>> = (0..columns)
        .map(|c| rows.iter().zip(weights).map(|(row, w)| row[c] * w).collect())
        .collect();
    let target: Vec<f64> = y.iter().zip(weights).map(|(y, w)| y * w).collect();
    // Connections come in tens of thousands and bytes in hundreds of millions: with columns of
    // length one, the choice of a column and the test for dependence do not see the units.
    let lengths: Vec<f64> = matrix.iter().map(|column| dot(column, column).sqrt()).collect();
    for (column, length) in matrix.iter_mut().zip(&lengths) {
        if *length > 0.0 {
            column.iter_mut().for_each(|x| *x /= length);
        }
    }
    let scaled = active_set(&matrix, &target);
    let coefficients: Vec<f64> = scaled
        .iter()
        .zip(&lengths)
        .map(|(x, length)| if *length > 0.0 { x / length } else { 0.0 })
        .collect();
    let fit = judge(rows, y, coefficients);
    finite(&fit.residuals).then_some(fit)
}

/// How good `coefficients` are.
fn judge(rows: &[Vec<f64>], y: &[f64], coefficients: Vec<f64>) -> Fit {
    let residuals: Vec<f64> =
        rows.iter().zip(y).map(|(row, y)| y - dot(row, &coefficients)).collect();
    let mean = y.iter().sum::<f64>() / y.len() as f64;
    let spread: f64 = y.iter().map(|y| (y - mean).powi(2)).sum();
    let left = dot(&residuals, &residuals);
    let r_squared = match (spread > 0.0, left > 0.0) {
        (true, _) => 1.0 - left / spread,
        (false, false) => 1.0,
        (false, true) => 0.0,
    };
    let ratios = residuals.iter().zip(y).filter(|(_, y)| **y != 0.0).map(|(r, y)| (r / y).abs());
    Fit { worst_residual_ratio: ratios.fold(0.0, f64::max), coefficients, r_squared, residuals }
}

/// The method itself, on columns of length one (or zero).
fn active_set(matrix: &[Vec<f64>], target: &[f64]) -> Vec<f64> {
    let mut solution = vec![0.0; matrix.len()];
    let mut passive = vec![false; matrix.len()];
    let mut refused = vec![false; matrix.len()];
    let tolerance = 1e-10 * dot(target, target).sqrt();
    for _ in 0..matrix.len() * ROUNDS_PER_COLUMN {
        let residual = residual_of(matrix, target, &solution);
        let gain = |c: usize| dot(&matrix[c], &residual);
        let best = (0..matrix.len())
            .filter(|c| !passive[*c] && !refused[*c] && gain(*c) > tolerance)
            .max_by(|a, b| gain(*a).total_cmp(&gain(*b)));
        let Some(best) = best else { break };
        passive[best] = true;
        step(matrix, target, &mut passive, &mut solution);
        if passive[best] {
            refused.fill(false);
        } else {
            // It came in and went out at once: rounding. Not again before something else moved.
            refused[best] = true;
        }
    }
    solution
}

/// Moves to the least-squares solution of the passive columns; columns that would become negative
/// on the way leave the set at zero.
fn step(matrix: &[Vec<f64>], target: &[f64], passive: &mut [bool], solution: &mut [f64]) {
    // Each turn but the last takes a column out.
    for _ in 0..=matrix.len() {
        let chosen: Vec<usize> = (0..matrix.len()).filter(|c| passive[*c]).collect();
        let columns: Vec<&[f64]> = chosen.iter().map(|c| matrix[*c].as_slice()).collect();
        let free = least_squares(&columns, target);
        let mut share = 1.0f64;
        for (c, value) in chosen.iter().zip(&free) {
            if *value <= 0.0 {
                let way = solution[*c] - value;
                share = share.min(if way > 0.0 { solution[*c] / way } else { 0.0 });
            }
        }
        let all_positive = free.iter().all(|value| *value > 0.0);
        for (c, value) in chosen.iter().zip(&free) {
            let moved = solution[*c] + share * (value - solution[*c]);
            let leaves = *value <= 0.0 && moved <= solution[*c].abs() * 1e-12;
            solution[*c] = if leaves { 0.0 } else { moved.max(0.0) };
            passive[*c] = !leaves;
        }
        if all_positive {
            return;
        }
    }
}

/// Least squares without bounds, by modified Gram–Schmidt with the right side carried along,
/// which is as stable as reflections. A dependent column gets 0.
pub(super) fn least_squares(columns: &[&[f64]], target: &[f64]) -> Vec<f64> {
    let n = columns.len();
    let mut left: Vec<Vec<f64>> = columns.iter().map(|c| c.to_vec()).collect();
    let mut right = target.to_vec();
    let mut triangle = vec![vec![0.0; n]; n];
    let mut turned = vec![0.0; n];
    for k in 0..n {
        let (done, rest) = left.split_at_mut(k + 1);
        let Some(column) = done.last_mut() else { continue };
        let length = dot(column, column).sqrt();
        let before = dot(columns[k], columns[k]).sqrt();
        if length <= DEPENDENT * before || length == 0.0 {
            continue;
        }
        column.iter_mut().for_each(|x| *x /= length);
        triangle[k][k] = length;
        for (j, other) in rest.iter_mut().enumerate() {
            let along = dot(column, other);
            triangle[k][k + 1 + j] = along;
            other.iter_mut().zip(&*column).for_each(|(o, c)| *o -= along * c);
        }
        turned[k] = dot(column, &right);
        right.iter_mut().zip(&*column).for_each(|(r, c)| *r -= turned[k] * c);
    }
    let mut solution = vec![0.0; n];
    for k in (0..n).rev() {
        if triangle[k][k] > 0.0 {
            let known: f64 = (k + 1..n).map(|j| triangle[k][j] * solution[j]).sum();
            solution[k] = (turned[k] - known) / triangle[k][k];
        }
    }
    solution
}

fn residual_of(matrix: &[Vec<f64>], target: &[f64], solution: &[f64]) -> Vec<f64> {
    let mut residual = target.to_vec();
    for (column, x) in matrix.iter().zip(solution) {
        residual.iter_mut().zip(column).for_each(|(r, c)| *r -= x * c);
    }
    residual
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(rows: &[&[f64]], y: &[f64], expect: &[f64]) -> Fit {
        let rows: Vec<Vec<f64>> = rows.iter().map(|row| row.to_vec()).collect();
        let fit = solve(&rows, y).unwrap();
        for (found, expect) in fit.coefficients.iter().zip(expect) {
            assert!((found - expect).abs() < 1e-6 * expect.abs().max(1.0), "{fit:?}");
        }
        assert_eq!(fit.coefficients.len(), expect.len());
        fit
    }

    #[test]
    fn known_solutions() {
        let exact = check(&[&[1.0, 0.0], &[1.0, 1.0], &[1.0, 2.0]], &[1.0, 3.0, 5.0], &[1.0, 2.0]);
        assert!(exact.r_squared > 1.0 - 1e-12 && exact.worst_residual_ratio < 1e-9);
        // Free least squares would say −2 for the second column: then it is 0.
        check(&[&[1.0, 0.0], &[1.0, 1.0], &[1.0, 2.0]], &[5.0, 3.0, 1.0], &[3.0, 0.0]);
        // Everything negative: nothing explains it.
        let none = check(&[&[1.0], &[2.0]], &[-1.0, -2.0], &[0.0]);
        assert_eq!(none.residuals, [-1.0, -2.0]);
        // Units far apart.
        check(
            &[&[1.0, 1e9], &[1.0, 3e9], &[2.0, 1e9], &[5.0, 2e9]],
            &[12.0, 32.0, 14.0, 30.0],
            &[2.0, 1e-8],
        );
        // A column twice: together they say 2.
        let twice = check(&[&[0.0, 3.0], &[0.0, 4.0]], &[6.0, 8.0], &[0.0, 2.0]);
        assert!(twice.r_squared > 0.999);
    }

    #[test]
    fn weights_decide_whose_error_counts() {
        let rows = [vec![1.0], vec![1.0]];
        let mean = |weights: &[f64]| {
            solve_weighted(&rows, &[10.0, 20.0], weights).unwrap().coefficients[0]
        };
        assert!((mean(&[1.0, 1.0]) - 15.0).abs() < 1e-9);
        assert!((mean(&[1.0, 3.0]) - 19.0).abs() < 1e-9);
    }

    #[test]
    fn no_solution() {
        assert_eq!(solve(&[], &[]), None);
        assert_eq!(solve(&[vec![1.0]], &[1.0, 2.0]), None);
        assert_eq!(solve(&[vec![1.0], vec![1.0, 2.0]], &[1.0, 2.0]), None);
        assert_eq!(solve(&[vec![f64::NAN]], &[1.0]), None);
        assert_eq!(solve(&[vec![1.0]], &[f64::INFINITY]), None);
        assert_eq!(solve_weighted(&[vec![1.0]], &[1.0], &[]), None);
        assert_eq!(solve(&[vec![0.0; COLUMNS_MAX + 1]], &[1.0]), None);
    }

    fn table() -> impl Strategy<Value = (Vec<Vec<f64>>, Vec<f64>)> {
        (1usize..7, 1usize..20).prop_flat_map(|(columns, rows)| {
            let cell = prop_oneof![Just(0.0), 0.0..1.0, 0.0..1e6, -10.0..10.0];
            let row = prop::collection::vec(cell, columns);
            (prop::collection::vec(row, rows), prop::collection::vec(-1e3..1e6f64, rows))
        })
    }

    proptest! {
        #[test]
        fn never_negative_and_never_worse_than_nothing((rows, y) in table()) {
            let fit = solve(&rows, &y).unwrap();
            prop_assert!(fit.coefficients.iter().all(|x| x.is_finite() && *x >= 0.0));
            let (left, all) = (dot(&fit.residuals, &fit.residuals), dot(&y, &y));
            prop_assert!(left <= all * (1.0 + 1e-9), "{left} > {all}");
        }

        #[test]
        fn no_small_step_is_better((rows, y) in table(), at in 0usize..7, up in any::<bool>()) {
            let fit = solve(&rows, &y).unwrap();
            let mut moved = fit.coefficients.clone();
            let at = at % moved.len();
            let length = rows.iter().map(|r| r[at] * r[at]).sum::<f64>().sqrt();
            prop_assume!(length > 0.0);
            let size = 1e-3 * dot(&y, &y).sqrt() / length;
            moved[at] = (moved[at] + if up { size } else { -size }).max(0.0);
            let other = judge(&rows, &y, moved);
            let (best, other) =
                (dot(&fit.residuals, &fit.residuals), dot(&other.residuals, &other.residuals));
            prop_assert!(best <= other * (1.0 + 1e-6) + 1e-9, "{best} > {other}");
        }

        #[test]
        fn finds_what_made_the_rows(
            truth in prop::collection::vec(prop_oneof![Just(0.0), 0.5..50.0f64], 3),
            noise in prop::collection::vec(-0.01..0.01f64, 12),
        ) {
            // Three columns that do not move together.
            let rows: Vec<Vec<f64>> = (0..12u32)
                .map(|i| vec![1.0, f64::from(i % 4) * 10.0, f64::from(i / 4) * 1e4])
                .collect();
            let y: Vec<f64> =
                rows.iter().zip(&noise).map(|(r, n)| dot(r, &truth) * (1.0 + n)).collect();
            let fit = solve(&rows, &y).unwrap();
            let largest = y.iter().fold(1.0f64, |a, b| a.max(b.abs()));
            for (row, y) in rows.iter().zip(&y) {
                prop_assert!((dot(row, &fit.coefficients) - y).abs() < 0.05 * largest);
            }
        }
    }
}
