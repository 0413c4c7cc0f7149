//! What calls really used, for the estimates of those to come: a pure function of what was observed, in bounded memory.
//!
//! Of each workspace and model it keeps how much an answer takes where the request sets no maximum, and how the tokens of a
//! prompt compare with the guess from its characters. Both are high quantiles, so that a hold is rarely too small. An
//! estimate only sizes a hold; nothing here decides or counts.

use std::collections::HashMap;

/// Observations before a statistic is believed: from so many on, one of them is never the one that counts.
const FEWEST: u32 = 8;

/// One in so many observations is above the estimate.
const EXCEEDED_BY_ONE_IN: u32 = 8;

/// With so many observations the weight of all is halved: a day that differs is learned within some hundred calls.
const WINDOW: u32 = 128;

/// Values from this on are one, far above any answer of a model.
const MOST: u64 = (1 << 24) - 1;

/// Buckets of a factor of two; an estimate is above its quantile by an eighth at most.
const STEPS: usize = 8;
const STEP_BITS: u32 = STEPS.trailing_zeros();
const BUCKETS: usize = STEPS * 22;

/// A prompt that was guessed to be shorter says more of what the provider adds to it than of its characters.
const SHORTEST_PROMPT: u64 = 64;

/// Prompts are learned in parts of this much of their guess, and bounded between a fourth and the eightfold.
const AS_GUESSED: u64 = 64;
const FACTORS: std::ops::RangeInclusive<u64> = AS_GUESSED / 4..=AS_GUESSED * 8;

/// Pairs of a workspace and a model that are kept, twice; then those that were not seen since go.
const MOST_PAIRS: usize = 2_048;

/// Longer names are not kept, so that callers cannot fill memory with them.
const LONGEST_NAMES: usize = 512;

/// What one call was guessed to take and has taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Observation {
    /// The guess at its prompt, before anything learned.
    pub guessed_prompt: u64,
    /// Tokens sent.
    pub input: u64,
    /// Answers without a maximum of their own that were asked for together; 0 where there was one.
    pub open_choices: u64,
    /// Tokens made, in all answers.
    pub output: u64,
}

/// A weighted quantile of whole numbers.
#[derive(Debug, Clone)]
struct Quantile {
    weights: [u8; BUCKETS],
    total: u32,
    /// The largest value that weighs anything.
    largest: u64,
}

impl Default for Quantile {
    fn default() -> Self {
        Self { weights: [0; BUCKETS], total: 0, largest: 0 }
    }
}

impl Quantile {
    fn observe(&mut self, value: u64) {
        let value = value.min(MOST);
        if let Some(weight) = self.weights.get_mut(bucket(value)) {
            *weight += 1;
            self.total += 1;
            self.largest = self.largest.max(value);
        }
        if self.total >= WINDOW {
            // What is lost of one is carried to the next: many that differ must not all vanish.
            let mut carried = 0;
            for weight in &mut self.weights {
                let both = *weight + carried;
                (*weight, carried) = (both / 2, both % 2);
            }
            self.total = self.weights.iter().map(|weight| u32::from(*weight)).sum();
            let top = self.weights.iter().rposition(|weight| *weight > 0).map_or(0, top_of);
            self.largest = self.largest.min(top);
        }
    }

    /// The quantile; `None` before there is enough to say.
    fn value(&self) -> Option<u64> {
        if self.total < FEWEST {
            return None;
        }
        let mut above = self.total / EXCEEDED_BY_ONE_IN;
        let place = self.weights.get(..=bucket(self.largest))?.iter().rposition(|weight| {
            let is_here = u32::from(*weight) > above;
            above = above.saturating_sub(u32::from(*weight));
            is_here
        })?;
        Some(top_of(place).min(self.largest))
    }
}

/// The bucket of a value: exact below [`STEPS`], then so many to each factor of two.
fn bucket(value: u64) -> usize {
    let Some(octave) = value.checked_ilog2().and_then(|log| log.checked_sub(STEP_BITS)) else {
        return value as usize;
    };
    (octave as usize + 1) * STEPS + ((value >> octave) as usize & (STEPS - 1))
}

/// The largest value of a bucket.
fn top_of(bucket: usize) -> u64 {
    match (bucket / STEPS).checked_sub(1) {
        None => bucket as u64,
        Some(octave) => (((STEPS + bucket % STEPS + 1) as u64) << octave) - 1,
    }
}

#[derive(Debug, Clone, Default)]
struct Seen {
    output: Quantile,
    prompt: Quantile,
}

impl Seen {
    fn observe(&mut self, call: &Observation) {
        if call.open_choices > 0 {
            self.output.observe(call.output.div_ceil(call.open_choices));
        }
        if call.guessed_prompt >= SHORTEST_PROMPT && call.input > 0 {
            let factor = call.input.saturating_mul(AS_GUESSED).div_ceil(call.guessed_prompt);
            self.prompt.observe(factor.clamp(*FACTORS.start(), *FACTORS.end()));
        }
    }
}

/// By workspace, then by model: both are looked up by `&str`, without an allocation.
type Names = HashMap<Box<str>, HashMap<Box<str>, Box<Seen>>>;

/// What was seen of each pair: those of late, and those before.
#[derive(Debug, Default)]
struct Pairs {
    young: Names,
    old: Names,
    /// How many are young.
    count: usize,
}

impl Pairs {
    fn get(&self, workspace: &str, model: &str) -> Option<&Seen> {
        let young = self.young.get(workspace).and_then(|models| models.get(model));
        young.or_else(|| self.old.get(workspace)?.get(model)).map(|seen| &**seen)
    }

    fn observe(&mut self, workspace: &str, model: &str, call: &Observation) {
        if let Some(seen) = self.young.get_mut(workspace).and_then(|models| models.get_mut(model)) {
            return seen.observe(call);
        }
        if self.count >= MOST_PAIRS {
            self.old = std::mem::take(&mut self.young);
            self.count = 0;
        }
        let before = self.old.get_mut(workspace).and_then(|models| models.remove(model));
        let seen = self.young.entry(workspace.into()).or_default().entry(model.into());
        seen.or_insert(before.unwrap_or_default()).observe(call);
        self.count += 1;
    }
}

/// What was learned in this process.
#[derive(Debug, Default)]
pub struct Learning {
    by_workspace: Pairs,
    /// Of all workspaces together, for those that are new.
    by_model: Pairs,
}

impl Learning {
    /// Takes what a call has used. The order counts, and nothing else does.
    pub fn observe(&mut self, workspace: &str, model: &str, call: &Observation) {
        if workspace.len().saturating_add(model.len()) > LONGEST_NAMES {
            return;
        }
        self.by_workspace.observe(workspace, model, call);
        self.by_model.observe("", model, call);
    }

    /// The tokens of a prompt that was guessed to have so many: 1 at least where it has any, and the guess itself where
    /// nothing is known.
    #[must_use]
    pub fn prompt(&self, workspace: &str, model: &str, guessed: u64) -> u64 {
        match self.quantile(workspace, model, |seen| &seen.prompt) {
            Some(factor) => {
                let tokens = u128::from(guessed) * u128::from(factor);
                u64::try_from(tokens.div_ceil(u128::from(AS_GUESSED))).unwrap_or(u64::MAX)
            }
            None => guessed,
        }
    }

    /// The tokens of an answer to a request without a maximum, no more than such an answer has had; `None` where nothing is
    /// known.
    #[must_use]
    pub fn output(&self, workspace: &str, model: &str) -> Option<u64> {
        self.quantile(workspace, model, |seen| &seen.output)
    }

    fn quantile(&self, workspace: &str, model: &str, of: impl Fn(&Seen) -> &Quantile) -> Option<u64> {
        let own = self.by_workspace.get(workspace, model).and_then(|seen| of(seen).value());
        own.or_else(|| of(self.by_model.get("", model)?).value())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_in_order_without_a_gap() {
        for value in (0..100_000).chain((0..24).map(|bit| 1 << bit)).chain([MOST]) {
            let place = bucket(value);
            assert!(value <= top_of(place) && place < BUCKETS, "{value}");
            assert!(top_of(place) <= value + value / 8, "{value}");
            let next = bucket((value + 1).min(MOST));
            assert!(next == place || (next == place + 1 && value == top_of(place)), "{value}");
        }
        assert_eq!(bucket(MOST), BUCKETS - 1);
        assert_eq!(top_of(BUCKETS - 1), MOST);
    }

    #[test]
    fn pairs_are_bounded_and_those_in_use_stay() {
        let mut learning = Learning::default();
        let call = Observation { guessed_prompt: 100, input: 100, open_choices: 1, output: 500 };
        for number in 0..10_000 {
            learning.observe(&number.to_string(), "m", &call);
            learning.observe("busy", "m", &call);
            learning.observe("w", &"m".repeat(LONGEST_NAMES), &call);
        }
        let size = |pairs: &Names| pairs.values().map(HashMap::len).sum::<usize>();
        assert!(size(&learning.by_workspace.young) <= MOST_PAIRS && size(&learning.by_workspace.old) <= MOST_PAIRS);
        assert!(learning.by_workspace.get("busy", "m").is_some_and(|seen| seen.output.total >= FEWEST));
        assert_eq!(size(&learning.by_model.young), 1);
        assert!(learning.by_workspace.get("0", "m").is_none());
    }
}
