//! Places for labels so that none covers another, and few cover a mark. Greedy: the first come are served first.

/// An upright rectangle in pixels.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Rect {
    pub(super) left: f64,
    pub(super) top: f64,
    pub(super) right: f64,
    pub(super) bottom: f64,
}

impl Rect {
    pub(super) fn width(&self) -> f64 {
        self.right - self.left
    }

    pub(super) fn height(&self) -> f64 {
        self.bottom - self.top
    }

    pub(super) fn around(x: f64, y: f64, radius: f64) -> Self {
        Self { left: x - radius, top: y - radius, right: x + radius, bottom: y + radius }
    }

    pub(super) fn contains(&self, x: f64, y: f64) -> bool {
        (self.left..=self.right).contains(&x) && (self.top..=self.bottom).contains(&y)
    }

    fn overlaps(&self, other: &Self) -> bool {
        self.left < other.right && other.left < self.right && self.top < other.bottom && other.top < self.bottom
    }
}

/// Where a label goes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Placement {
    pub(super) area: Rect,
    /// Far enough from its point to need a line to it.
    pub(super) leader: bool,
}

/// What is taken already, by square cell of the plot.
pub(super) struct Placer {
    bounds: Rect,
    columns: usize,
    labels: Vec<Vec<Rect>>,
    marks: Vec<Vec<Rect>>,
    bits: usize,
}

const CELL: f64 = 32.0;
/// More marks than this in one cell are a crowd; counting them all would not make it less of one.
const CROWD: usize = 64;
/// Bits of lines to remember: enough for a hundred lines across a large picture, and no more work than that for a million.
const MOST_BITS: usize = 100_000;
/// A label that would cover four markers is left out.
const MOST_COVERED: f64 = 32.0;

impl Placer {
    pub(super) fn new(bounds: Rect) -> Self {
        let count = |length: f64| (length / CELL).ceil().max(1.0) as usize;
        let (columns, rows) = (count(bounds.width()), count(bounds.height()));
        Self {
            bounds,
            columns,
            labels: vec![Vec::new(); columns * rows],
            marks: vec![Vec::new(); columns * rows],
            bits: 0,
        }
    }

    fn cells(&self, area: &Rect) -> impl Iterator<Item = usize> + use<> {
        let (columns, rows) = (self.columns, self.labels.len() / self.columns);
        let index = |at: f64, count: usize| ((at / CELL).max(0.0) as usize).min(count - 1);
        let across = index(area.left - self.bounds.left, columns)..=index(area.right - self.bounds.left, columns);
        let down = index(area.top - self.bounds.top, rows)..=index(area.bottom - self.bounds.top, rows);
        down.flat_map(move |row| across.clone().map(move |column| row * columns + column))
    }

    /// Takes an area for good: no label may touch it.
    pub(super) fn block(&mut self, area: Rect) {
        for cell in self.cells(&area) {
            self.labels[cell].push(area);
        }
    }

    /// Tells of a marker or of a bit of a line, which labels avoid where they can.
    pub(super) fn avoid(&mut self, area: Rect) {
        for cell in self.cells(&area) {
            if self.marks[cell].len() < CROWD {
                self.marks[cell].push(area);
            }
        }
    }

    /// Tells of a line from one point to the next.
    pub(super) fn avoid_segment(&mut self, from: (f64, f64), to: (f64, f64)) {
        let length = (to.0 - from.0).hypot(to.1 - from.1);
        let steps = (length / 5.0).ceil().clamp(1.0, 2000.0);
        self.bits += steps as usize;
        if self.bits > MOST_BITS {
            return;
        }
        for step in 0..=steps as usize {
            let part = step as f64 / steps;
            let (x, y) = (from.0 + part * (to.0 - from.0), from.1 + part * (to.1 - from.1));
            if self.bounds.contains(x, y) {
                self.avoid(Rect::around(x, y, 1.0));
            }
        }
    }

    fn is_free(&self, area: &Rect) -> bool {
        area.left >= self.bounds.left
            && area.right <= self.bounds.right
            && area.top >= self.bounds.top
            && area.bottom <= self.bounds.bottom
            && self.cells(area).all(|cell| !self.labels[cell].iter().any(|taken| taken.overlaps(area)))
    }

    /// How much of what is drawn a label here would cover: markers are larger than bits of a line.
    fn covered(&self, area: &Rect) -> f64 {
        self.cells(area)
            .flat_map(|cell| &self.marks[cell])
            .filter(|mark| mark.overlaps(area))
            .map(|mark| if mark.width() > 2.5 { 8.0 } else { 4.0 })
            .sum()
    }

    /// The best free place of these, unless it would cover more than `most`.
    pub(super) fn place_in(&mut self, candidates: impl Iterator<Item = Placement>, most: f64) -> Option<Placement> {
        let best = candidates
            .enumerate()
            .filter(|(_, candidate)| self.is_free(&candidate.area))
            .map(|(index, candidate)| (self.covered(&candidate.area) + index as f64 * 0.4, candidate))
            .min_by(|a, b| a.0.total_cmp(&b.0))?;
        (best.0 < most).then(|| {
            self.block(best.1.area);
            best.1
        })
    }

    /// A place for a label of this size beside a marker: near it, or further away with a leader.
    pub(super) fn place(&mut self, at: (f64, f64), radius: f64, size: (f64, f64)) -> Option<Placement> {
        let (width, height) = size;
        let candidates = [3.0, 14.0, 28.0].into_iter().enumerate().flat_map(|(ring, gap)| {
            let far = radius + gap;
            let near = far * std::f64::consts::FRAC_1_SQRT_2;
            // Above first: lines mostly rise to the right or fall to it, and leave that place free.
            [
                (-width / 2.0, -far - height),
                (near, -near - height),
                (far, -height / 2.0),
                (-near - width, -near - height),
                (-width / 2.0, far),
                (near, near),
                (-far - width, -height / 2.0),
                (-near - width, near),
            ]
            .into_iter()
            .map(move |(left, top)| Placement {
                area: Rect {
                    left: at.0 + left,
                    top: at.1 + top,
                    right: at.0 + left + width,
                    bottom: at.1 + top + height,
                },
                leader: ring > 0,
            })
        });
        self.place_in(candidates, MOST_COVERED)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Rect = Rect { left: 50.0, top: 20.0, right: 450.0, bottom: 320.0 };

    #[test]
    fn labels_never_overlap_and_stay_inside() {
        let mut placer = Placer::new(BOUNDS);
        let points: Vec<(f64, f64)> =
            (0..200).map(|i| (60.0 + f64::from(i * 37 % 380), 30.0 + f64::from(i * 53 % 280))).collect();
        for (x, y) in &points {
            placer.avoid(Rect::around(*x, *y, 4.0));
        }
        let areas: Vec<Rect> =
            points.iter().filter_map(|at| placer.place(*at, 4.0, (30.0, 12.0))).map(|label| label.area).collect();
        assert!(areas.len() > 50, "{}", areas.len());
        for (index, area) in areas.iter().enumerate() {
            assert!(BOUNDS.contains(area.left, area.top) && BOUNDS.contains(area.right, area.bottom));
            assert!(areas[..index].iter().all(|other| !other.overlaps(area)));
        }
    }

    #[test]
    fn a_lone_label_is_above_its_point_and_a_crowded_one_has_a_leader() {
        let mut placer = Placer::new(BOUNDS);
        let label = placer.place((200.0, 150.0), 4.0, (30.0, 12.0)).expect("there is room");
        assert!(!label.leader && label.area.bottom < 150.0 - 4.0);

        let mut placer = Placer::new(BOUNDS);
        for (column, row) in (-12..=12).flat_map(|column| (-2..=2).map(move |row| (column, row))) {
            placer.avoid(Rect::around(200.0 + 3.0 * f64::from(column), 150.0 + 6.0 * f64::from(row), 4.0));
        }
        assert!(placer.place((200.0, 150.0), 4.0, (30.0, 12.0)).expect("there is room further away").leader);
    }
}
