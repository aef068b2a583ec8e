//! Rules that a table of measured kernels must pass. One that does not is refused as a whole: where a tenth of the points
//! is wrong, the others are not to be trusted either.

/// Share of the roofline below which a time is impossible: operands that stay in a cache and rounding take the rest.
const ROOFLINE: f64 = 0.95;
/// Share of the points that may be below it.
const BELOW_MAX: f64 = 0.01;
/// More work may not take less than this share of the time of less work: timers and tile sizes take the rest.
const DROP: f64 = 0.5;
/// Share of the points that may drop so.
const DROPS_MAX: f64 = 0.05;
/// A quantised kernel should not take more than this many times the 16-bit one: else its launch was measured.
const PLATEAU: f64 = 2.0;
/// Share of the points that may: small matrices are all launch.
const PLATEAUS_MAX: f64 = 0.5;

/// One point of a table beside what it is judged by.
#[derive(Debug, Clone, Copy)]
pub(super) struct Judged {
    /// Measured, us.
    pub(super) us: f64,
    /// What the datasheet allows, us.
    pub(super) roofline_us: f64,
    /// The longest time of less work of the same shape, us.
    pub(super) less_work_us: f64,
    /// The 16-bit kernel at the same point, us.
    pub(super) sixteen_bit_us: Option<f64>,
}

/// Why the points are refused; `None` if they pass.
pub(super) fn refusal(points: &[Judged]) -> Option<String> {
    let share = |wrong: &dyn Fn(&Judged) -> bool, of: usize| {
        points.iter().filter(|point| wrong(point)).count() as f64 / of.max(1) as f64
    };
    let percent = |share: f64| format!("{:.0} %", 100.0 * share);
    if points.is_empty() {
        return Some("it has no point".to_owned());
    }
    let below = share(&|point| point.us < ROOFLINE * point.roofline_us, points.len());
    if below > BELOW_MAX {
        return Some(format!("{} of its points are faster than the accelerator can be (roofline)", percent(below)));
    }
    let drops = share(&|point| point.us < DROP * point.less_work_us, points.len());
    if drops > DROPS_MAX {
        return Some(format!(
            "{} of its points take less than half of what less work takes (monotone)",
            percent(drops)
        ));
    }
    let compared = points.iter().filter(|point| point.sixteen_bit_us.is_some()).count();
    let plateaus = share(&|point| point.sixteen_bit_us.is_some_and(|us| point.us > PLATEAU * us), compared);
    (plateaus > PLATEAUS_MAX).then(|| {
        format!("{} of its points take more than twice as long as the 16-bit kernel (plateau)", percent(plateaus))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: Judged = Judged { us: 10.0, roofline_us: 8.0, less_work_us: 9.0, sixteen_bit_us: Some(12.0) };

    #[test]
    fn each_rule_refuses_with_its_name() {
        assert_eq!(refusal(&[GOOD; 100]), None);
        for (wrong, name) in [
            (Judged { us: 7.0, ..GOOD }, "roofline"),
            (Judged { less_work_us: 21.0, ..GOOD }, "monotone"),
            (Judged { sixteen_bit_us: Some(4.0), ..GOOD }, "plateau"),
        ] {
            assert!(refusal(&[wrong; 100]).unwrap().contains(name));
            let mut one_of_many = vec![GOOD; 1000];
            one_of_many[0] = wrong;
            assert_eq!(refusal(&one_of_many), None, "{name}");
        }
        assert!(refusal(&[]).is_some());
    }
}
