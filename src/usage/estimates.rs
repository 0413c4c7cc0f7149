//! What a call will take, before it is made.
//!
//! Two questions with two answers: what the provider will charge to its tokens-per-minute limit when the request
//! arrives, which is a guess from the length of the prompt, and what the call may use at most, which bounds its cost.

use super::tokens::{MAX_TOKENS, TokenUsage};

/// Characters a token, on average, in the provider's own estimate.
pub const CHARS_PER_TOKEN: u64 = 4;

/// Tokens that the framing of one chat message (role, separators) adds to its text.
pub const TOKENS_PER_MESSAGE: u64 = 4;

/// Output tokens that are assumed where the request sets no maximum.
pub const DEFAULT_MAX_OUTPUT_TOKENS: u64 = 4_096;

/// The size of a request that is about to be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RequestSize {
    /// Characters (Unicode scalar values) of all prompt texts.
    pub prompt_chars: u64,
    /// Chat messages; 0 for a plain text or an embedding.
    pub messages: u64,
    /// The request's own maximum of output tokens for one choice; 0 for an endpoint that generates nothing.
    pub max_output_tokens: Option<u64>,
    /// Choices asked for (`n`). 0 counts as 1.
    pub choices: u64,
}

impl RequestSize {
    /// The tokens that the prompt counts for: a quarter of its characters, rounded up, and
    /// [`TOKENS_PER_MESSAGE`] for each message. This is what the provider charges to tokens per minute at arrival.
    #[must_use]
    pub const fn prompt_tokens(&self) -> u64 {
        let framing = self.messages.saturating_mul(TOKENS_PER_MESSAGE);
        let tokens = self.prompt_chars.div_ceil(CHARS_PER_TOKEN).saturating_add(framing);
        if tokens < MAX_TOKENS { tokens } else { MAX_TOKENS }
    }

    /// The most the call may use: the prompt, and the maximum output of every choice. `default_max_output` stands in
    /// where the request has no maximum ([`DEFAULT_MAX_OUTPUT_TOKENS`] unless configured). The result is valid for
    /// [`Tariff::price`](super::pricing::Tariff::price), which tells what it may cost.
    #[must_use]
    pub fn at_most(&self, default_max_output: u64) -> TokenUsage {
        let output = self.max_output_tokens.unwrap_or(default_max_output).saturating_mul(self.choices.max(1));
        TokenUsage { input: self.prompt_tokens(), output, ..TokenUsage::default() }.clamped()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHAT: RequestSize = RequestSize { prompt_chars: 401, messages: 2, max_output_tokens: Some(100), choices: 3 };

    #[test]
    fn a_prompt_is_a_quarter_of_its_characters_and_its_framing() {
        assert_eq!(CHAT.prompt_tokens(), 101 + 8);
        assert_eq!(RequestSize { prompt_chars: 400, messages: 0, ..CHAT }.prompt_tokens(), 100);
        assert_eq!(RequestSize { prompt_chars: 0, messages: 0, ..CHAT }.prompt_tokens(), 0);
    }

    #[test]
    fn the_most_counts_every_choice() {
        let most = CHAT.at_most(DEFAULT_MAX_OUTPUT_TOKENS);
        assert_eq!((most.input, most.output), (109, 300));
        assert_eq!(RequestSize { choices: 0, ..CHAT }.at_most(1).output, 100);
        assert_eq!(RequestSize { max_output_tokens: None, ..CHAT }.at_most(1_000).output, 3_000);
        assert_eq!(RequestSize { max_output_tokens: Some(0), ..CHAT }.at_most(1_000).output, 0);
    }

    #[test]
    fn absurd_sizes_stay_within_bounds() {
        let absurd =
            RequestSize { prompt_chars: u64::MAX, messages: u64::MAX, max_output_tokens: None, choices: u64::MAX };
        assert_eq!(absurd.prompt_tokens(), MAX_TOKENS);
        assert_eq!(absurd.at_most(u64::MAX).validate(), Ok(()));
    }
}
