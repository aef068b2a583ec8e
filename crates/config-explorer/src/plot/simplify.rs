//! Fewer marks where more could not be told apart. Positions are in pixels.

/// Of each run of points in one pixel column: the first, the lowest, the highest and the last, which draw the same line.
/// Points that go back to the left start a new run.
pub(super) fn line(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let mut kept = Vec::with_capacity(points.len().min(8192));
    let mut rest = points;
    while let Some(first) = rest.first() {
        let column = first.0.floor() as i64;
        let length = rest.iter().take_while(|point| point.0.floor() as i64 == column).count();
        let (run, after) = rest.split_at(length);
        if run.len() <= 4 {
            kept.extend_from_slice(run);
        } else {
            let by_y = |a: &usize, b: &usize| run[*a].1.total_cmp(&run[*b].1);
            let mut corners =
                [0, (0..run.len()).min_by(by_y).unwrap_or(0), (0..run.len()).max_by(by_y).unwrap_or(0), run.len() - 1];
            corners.sort_unstable();
            let mut last = None;
            for corner in corners {
                if last != Some(corner) {
                    kept.push(run[corner]);
                }
                last = Some(corner);
            }
        }
        rest = after;
    }
    kept
}

/// Which of the points to draw a marker for: the first in each square cell of this size.
pub(super) fn cells(points: &[(f64, f64)], cell: f64) -> Vec<usize> {
    let mut taken = std::collections::HashSet::with_capacity(points.len());
    (0..points.len())
        .filter(|&index| {
            let (x, y) = points[index];
            taken.insert(((x / cell).floor() as i64, (y / cell).floor() as i64))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_keeps_its_extremes() {
        let points: Vec<(f64, f64)> =
            (0..10_000).map(|i| (f64::from(i) / 100.0, f64::from((i * 7919) % 1000))).collect();
        let kept = line(&points);
        assert!(kept.len() <= 400, "{}", kept.len());
        assert_eq!(kept.first(), points.first());
        assert_eq!(kept.last(), points.last());
        let highest = |points: &[(f64, f64)]| points.iter().map(|point| point.1).fold(f64::MIN, f64::max);
        assert!(highest(&kept) >= highest(&points));
        assert!(kept.is_sorted_by(|a, b| a.0 <= b.0));
    }

    #[test]
    fn short_lines_and_lone_points_stay() {
        let points = [(1.0, 2.0), (1.2, 9.0), (0.5, 3.0)];
        assert_eq!(line(&points), points);
        assert_eq!(cells(&points, 0.1), [0, 1, 2]);
        assert_eq!(cells(&[(1.0, 1.0), (1.1, 1.1), (2.6, 1.0)], 0.5), [0, 2]);
    }
}
