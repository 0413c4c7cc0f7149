//! How long things took: counts by size, each at most a sixteenth apart.

use std::time::Duration;

/// Counts of each sixteenth of each power of two.
#[derive(Debug, Clone)]
pub(crate) struct Histogram {
    counts: Vec<u64>,
    longest: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { counts: vec![0; 64 * 16], longest: 0 }
    }
}

impl Histogram {
    pub(crate) fn add(&mut self, took: Duration) {
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX).max(16);
        let power = 63 - nanos.leading_zeros();
        self.counts[(power * 16) as usize + (nanos >> (power - 4) & 15) as usize] += 1;
        self.longest = self.longest.max(nanos);
    }

    pub(crate) fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// What a half, 99 % and 99.9 % took at most, and the longest (nanoseconds).
    pub(crate) fn took(&self) -> [u64; 4] {
        [self.at(500), self.at(990), self.at(999), self.longest]
    }

    fn at(&self, thousandth: u64) -> u64 {
        let wanted = self.count() * thousandth / 1_000;
        let mut seen = 0;
        let place = self.counts.iter().position(|count| {
            seen += count;
            seen > wanted
        });
        place.map_or(self.longest, |place| (17 + place as u64 % 16) << (place as u64 / 16).saturating_sub(4))
    }
}

#[test]
fn a_histogram_tells_what_most_took() {
    let mut histogram = Histogram::default();
    (1..=10_000).for_each(|micros| histogram.add(Duration::from_micros(micros)));
    let [half, most, nearly, longest] = histogram.took();
    let about = |told: u64, micros: u64| (micros * 1_000..=micros * 1_000 * 17 / 16 + 1).contains(&told);
    assert!(about(half, 5_000) && about(most, 9_900) && about(nearly, 9_990), "{half} {most} {nearly}");
    assert_eq!((longest, histogram.count()), (10_000_000, 10_000));
}
