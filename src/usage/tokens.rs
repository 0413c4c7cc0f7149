//! The tokens of one call, as the provider reports them.

use serde::{Deserialize, Serialize};

use crate::error::{Code, Error, Result};

/// The largest token count: every whole number up to it survives JSON and Python floats.
pub const MAX_TOKENS: u64 = 1 << 53;

/// The tokens of one call. `cached_input` and `cache_write` are disjoint parts of `input`, and so are `audio_input` and
/// `image_input`, which may overlap the first two; `reasoning`, `audio_output` and `image_output` are disjoint parts of
/// `output`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default)]
pub struct TokenUsage {
    /// All tokens sent, cached or not, of any kind.
    pub input: u64,
    /// All tokens received, of any kind, hidden reasoning included.
    pub output: u64,
    /// Input that was read from the provider's prompt cache.
    pub cached_input: u64,
    /// Input that was written to the provider's prompt cache.
    pub cache_write: u64,
    /// Of `cache_write`, what is to be kept for an hour.
    pub cache_write_long: u64,
    /// Output that is hidden reasoning.
    pub reasoning: u64,
    /// Input that is audio.
    pub audio_input: u64,
    /// Output that is audio.
    pub audio_output: u64,
    /// Input that is pictures.
    pub image_input: u64,
    /// Output that is pictures.
    pub image_output: u64,
    /// Tokens of which nobody told the direction, apart from `input` and `output`: a bare `tokens_used=100`.
    pub unsplit: u64,
}

impl TokenUsage {
    /// A number of tokens whose direction is not known.
    #[must_use]
    pub fn unsplit(tokens: u64) -> Self {
        TokenUsage { unsplit: tokens, ..TokenUsage::default() }
    }

    /// All tokens of the call: `input + output + unsplit` (the other fields are parts of these).
    #[must_use]
    pub const fn total(&self) -> u64 {
        self.input.saturating_add(self.output).saturating_add(self.unsplit)
    }

    /// Checks that no number and no total is past [`MAX_TOKENS`], and that the parts fit into their whole.
    ///
    /// # Errors
    /// [`Code::InvalidNumber`], naming the field.
    #[inline]
    pub fn validate(&self) -> Result<()> {
        let parts = self.cached_input | self.cache_write | self.cache_write_long | self.audio_input | self.image_input;
        let parts = parts | self.reasoning | self.audio_output | self.image_output;
        // Of parts that nobody told, nothing can be wrong.
        if parts == 0 && self.total() <= MAX_TOKENS { Ok(()) } else { self.validate_parts() }
    }

    #[inline(never)]
    fn validate_parts(&self) -> Result<()> {
        if self.total() > MAX_TOKENS {
            return Err(invalid("tokens", self.total(), "at most 9007199254740992 (2^53) in all"));
        }
        // Checked adds are needed: a part may be anything until it is compared with its whole.
        let fits = |whole: u64, a: u64, b: u64| a.checked_add(b).is_some_and(|sum| sum <= whole);
        if !fits(self.input, self.cached_input, self.cache_write) {
            let parts = self.cached_input.saturating_add(self.cache_write);
            return Err(invalid("cached_input + cache_write", parts, "no more than input"));
        }
        if self.cache_write_long > self.cache_write {
            return Err(invalid("cache_write_long", self.cache_write_long, "no more than cache_write"));
        }
        if !fits(self.input, self.audio_input, self.image_input) {
            let parts = self.audio_input.saturating_add(self.image_input);
            return Err(invalid("audio_input + image_input", parts, "no more than input"));
        }
        let made = self.reasoning.saturating_add(self.audio_output);
        if !fits(self.output, made, self.image_output) {
            let parts = made.saturating_add(self.image_output);
            return Err(invalid("reasoning + audio_output + image_output", parts, "no more than output"));
        }
        Ok(())
    }

    /// The nearest usage that [`validate`](Self::validate) accepts: totals are cut at [`MAX_TOKENS`], parts at what
    /// their whole has left. For a provider's own report, which has happened and must be counted even if it is odd.
    #[must_use]
    pub fn clamped(self) -> Self {
        let input = self.input.min(MAX_TOKENS);
        let output = self.output.min(MAX_TOKENS - input);
        let unsplit = self.unsplit.min(MAX_TOKENS - input - output);
        let cached_input = self.cached_input.min(input);
        let cache_write = self.cache_write.min(input - cached_input);
        let audio_input = self.audio_input.min(input);
        let audio_output = self.audio_output.min(output);
        let image_output = self.image_output.min(output - audio_output);
        TokenUsage {
            input,
            output,
            cached_input,
            cache_write,
            cache_write_long: self.cache_write_long.min(cache_write),
            reasoning: self.reasoning.min(output - audio_output - image_output),
            audio_input,
            audio_output,
            image_input: self.image_input.min(input - audio_input),
            image_output,
            unsplit,
        }
    }
}

#[cold]
fn invalid(field: &str, value: u64, expected: &str) -> Error {
    Error::invalid(Code::InvalidNumber, field, value, expected)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_not_counted_twice() {
        let usage = TokenUsage {
            input: 100,
            output: 50,
            cached_input: 80,
            cache_write: 20,
            reasoning: 30,
            audio_input: 100,
            audio_output: 10,
            image_output: 10,
            unsplit: 7,
            ..TokenUsage::default()
        };
        assert_eq!(usage.total(), 157);
        assert_eq!(usage.validate(), Ok(()));
        assert_eq!(usage.clamped(), usage);
    }

    #[test]
    fn what_cannot_be_is_refused_by_name_and_clamped_to_what_can() {
        let input = |input, cached_input, cache_write, audio_input| TokenUsage {
            input,
            cached_input,
            cache_write,
            audio_input,
            ..TokenUsage::default()
        };
        let output =
            |output, reasoning, audio_output| TokenUsage { output, reasoning, audio_output, ..TokenUsage::default() };
        for (usage, field) in [
            (input(10, 8, 3, 0), "cached_input + cache_write"),
            (input(10, u64::MAX, 1, 0), "cached_input + cache_write"),
            (input(10, 0, 0, 11), "audio_input + image_input"),
            (TokenUsage { image_input: 1, ..input(10, 0, 0, 10) }, "audio_input + image_input"),
            (TokenUsage { cache_write_long: 3, ..input(10, 0, 2, 0) }, "cache_write_long"),
            (output(10, 6, 5), "reasoning + audio_output + image_output"),
            (TokenUsage { image_output: u64::MAX, ..output(10, 0, 0) }, "reasoning + audio_output + image_output"),
            (output(10, u64::MAX, u64::MAX), "reasoning + audio_output + image_output"),
            (TokenUsage::unsplit(MAX_TOKENS + 1), "tokens"),
            (TokenUsage { unsplit: 1, ..input(MAX_TOKENS, 0, 0, 0) }, "tokens"),
            (TokenUsage { output: u64::MAX, ..input(u64::MAX, 0, 0, 0) }, "tokens"),
        ] {
            let error = usage.validate().unwrap_err();
            assert_eq!((error.code(), error.field()), (Code::InvalidNumber, field), "{usage:?}");
            assert_eq!(usage.clamped().validate(), Ok(()), "{usage:?}");
        }
        assert_eq!(TokenUsage::unsplit(MAX_TOKENS).validate(), Ok(()));
    }
}
