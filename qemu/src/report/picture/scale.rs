// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Axes of plots.

/// A logarithmic axis.
#[derive(Debug)]
pub struct LogAxis {
    from: f64,
    to: f64,
    left: f64,
    right: f64,
    least: u64,
    most: u64,
}

impl LogAxis {
    /// Returns an axis on which `least` to `most` (at least 1) fills `left` to `right`.
    pub fn new(least: u64, most: u64, left: f64, right: f64) -> Self {
        let (least, most) = (least.max(1), most.max(least).max(2));
        Self {
            from: (least as f64).ln(),
            to: (most as f64).ln(),
            left,
            right,
            least,
            most,
        }
    }

    /// Returns the position of a value.
    pub fn x(&self, value: u64) -> f64 {
        let at = ((value.max(1) as f64).ln() - self.from) / (self.to - self.from).max(1e-9);
        self.left + at * (self.right - self.left)
    }

    /// Returns round values on the axis: 1, 2 and 5 times the powers of ten, or only the powers
    /// when there would be many.
    pub fn ticks(&self) -> Vec<u64> {
        let powers = || (0..19).map(|power| 10_u64.pow(power));
        let on_axis = |value: &u64| (self.least..=self.most).contains(value);
        let fine: Vec<u64> = powers()
            .flat_map(|power| [1, 2, 5].map(|digit: u64| digit.saturating_mul(power)))
            .filter(on_axis)
            .collect();
        if fine.len() <= 12 {
            fine
        } else {
            powers().filter(on_axis).collect()
        }
    }
}

/// Returns the milliseconds between the marks of a time axis of that length, for about eight marks.
pub fn time_step(length_ms: u64) -> u64 {
    const STEPS: [u64; 9] = [1, 5, 10, 30, 60, 120, 300, 600, 1800];
    STEPS
        .into_iter()
        .map(|seconds| seconds * 1000)
        .find(|step| length_ms / step <= 9)
        .unwrap_or(3_600_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logarithmic_axis_maps_its_ends() {
        let log = LogAxis::new(100, 10_000, 0.0, 200.0);
        for (value, x) in [(100, 0.0), (1000, 100.0), (10_000, 200.0)] {
            assert!((log.x(value) - x).abs() < 1e-6, "{value}");
        }
        assert_eq!(log.ticks(), [100, 200, 500, 1000, 2000, 5000, 10_000]);
        assert_eq!(LogAxis::new(1, 10_u64.pow(6), 0.0, 1.0).ticks().len(), 7);
        // A single value, or none, must not divide by zero.
        for (least, most) in [(5, 5), (0, 0)] {
            assert!(LogAxis::new(least, most, 0.0, 1.0).x(least).is_finite());
        }
    }

    #[test]
    fn time_axis_has_about_eight_marks() {
        for length in [1000, 20_000, 180_000, 1_500_000, 7_200_000] {
            let marks = length / time_step(length);
            assert!((1..=9).contains(&marks), "{length}: {marks}");
        }
    }
}
