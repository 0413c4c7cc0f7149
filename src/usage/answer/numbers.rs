//! The numbers of a usage, as providers tell them, and the one way in which we keep them.

use super::names::Name;
use crate::usage::tokens::{MAX_TOKENS, TokenUsage};

/// What a usage says, each number where it says it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Numbers {
    prompt: Option<u64>,
    input: Option<u64>,
    completion: Option<u64>,
    output: Option<u64>,
    total: Option<u64>,
    cached: Option<u64>,
    written: Option<u64>,
    written_long: Option<u64>,
    cache_read: Option<u64>,
    cache_created: Option<u64>,
    reasoning: Option<u64>,
    audio_input: Option<u64>,
    audio_output: Option<u64>,
    image_input: Option<u64>,
    image_output: Option<u64>,
    milliseconds: Option<u64>,
    searches: Option<u64>,
}

impl Numbers {
    /// Takes a number that lies in a usage at these names; the reason why it cannot be, where it cannot.
    pub(super) fn take(&mut self, names: &[Name], word: &str) -> Result<(), String> {
        if word == "null" {
            return Ok(());
        }
        let (field, name) = match *names {
            [Name::PromptTokens] => (&mut self.prompt, Name::PromptTokens),
            [Name::InputTokens] => (&mut self.input, Name::InputTokens),
            [Name::CompletionTokens] => (&mut self.completion, Name::CompletionTokens),
            [Name::OutputTokens] => (&mut self.output, Name::OutputTokens),
            [Name::TotalTokens] => (&mut self.total, Name::TotalTokens),
            [Name::InputDetails, Name::CachedTokens] | [Name::CachedTokens] => (&mut self.cached, Name::CachedTokens),
            [Name::InputDetails, Name::CacheWriteTokens] => (&mut self.written, Name::CacheWriteTokens),
            [Name::CacheReadInputTokens] => (&mut self.cache_read, Name::CacheReadInputTokens),
            [Name::CacheCreationInputTokens] => (&mut self.cache_created, Name::CacheCreationInputTokens),
            [Name::OutputDetails, Name::ReasoningTokens] | [Name::ReasoningTokens] => {
                (&mut self.reasoning, Name::ReasoningTokens)
            }
            [Name::InputDetails, Name::AudioTokens] => (&mut self.audio_input, Name::AudioTokens),
            [Name::OutputDetails, Name::AudioTokens] => (&mut self.audio_output, Name::AudioTokens),
            [Name::InputDetails, Name::ImageTokens] => (&mut self.image_input, Name::ImageTokens),
            [Name::OutputDetails, Name::ImageTokens] => (&mut self.image_output, Name::ImageTokens),
            [Name::CacheCreation, Name::Ephemeral1hInputTokens] => {
                (&mut self.written_long, Name::Ephemeral1hInputTokens)
            }
            [Name::ServerToolUse, Name::WebSearchRequests] => (&mut self.searches, Name::WebSearchRequests),
            [Name::Seconds] => {
                self.milliseconds = milliseconds(word);
                return self.milliseconds.map(drop).ok_or_else(|| cannot_be(Name::Seconds, word));
            }
            _ => return Ok(()),
        };
        match count(word) {
            Some(number) => *field = Some(number),
            None => return Err(cannot_be(name, word)),
        }
        Ok(())
    }

    /// So many seconds of sound; `None` where the word is no number of them.
    pub(super) fn of_duration(word: &str) -> Option<Self> {
        milliseconds(word).map(|milliseconds| Self { milliseconds: Some(milliseconds), ..Self::default() })
    }

    /// True where it says how many tokens, or how long.
    pub(super) fn says_anything(&self) -> bool {
        self.says_tokens() || self.milliseconds.is_some()
    }

    fn says_tokens(&self) -> bool {
        [self.prompt, self.input, self.completion, self.output, self.total].iter().any(Option::is_some)
    }

    /// The later word of the same answer, with the earlier one where it says nothing.
    pub(super) fn overlay(&mut self, later: &Self) {
        let Self { prompt, input, completion, output, total, cached, written, cache_read, cache_created, .. } = later;
        let Self { reasoning, audio_input, audio_output, image_input, image_output, written_long, .. } = later;
        let Self { milliseconds, searches, .. } = later;
        for (is, said) in [
            (&mut self.prompt, prompt),
            (&mut self.input, input),
            (&mut self.completion, completion),
            (&mut self.output, output),
            (&mut self.total, total),
            (&mut self.cached, cached),
            (&mut self.written, written),
            (&mut self.cache_read, cache_read),
            (&mut self.cache_created, cache_created),
            (&mut self.reasoning, reasoning),
            (&mut self.audio_input, audio_input),
            (&mut self.audio_output, audio_output),
            (&mut self.image_input, image_input),
            (&mut self.image_output, image_output),
            (&mut self.written_long, written_long),
            (&mut self.milliseconds, milliseconds),
            (&mut self.searches, searches),
        ] {
            *is = said.or(*is);
        }
    }

    /// Seconds that were heard or spoken, as milliseconds, of what is charged by time.
    pub(super) fn milliseconds(&self) -> Option<u64> {
        self.milliseconds
    }

    /// Searches that the provider made on the way.
    pub(super) fn searches(&self) -> u64 {
        self.searches.unwrap_or(0)
    }

    /// The tokens, where it says how many. Parts are no more than their whole; a total that is more than its parts counts (some
    /// providers' have thoughts and tool prompts in it, and all of it is charged).
    pub(super) fn tokens(&self) -> Option<TokenUsage> {
        if !self.says_tokens() {
            return None;
        }
        let mut input = self.prompt.or(self.input).unwrap_or(0);
        let (mut cached, mut written) = (self.cached, self.written);
        // Anthropic counts what it read from and wrote to its cache beside the input, not inside it.
        if self.prompt.is_none() && cached.is_none() && (self.cache_read.is_some() || self.cache_created.is_some()) {
            (cached, written) = (self.cache_read, self.cache_created);
            input = input.saturating_add(cached.unwrap_or(0)).saturating_add(written.unwrap_or(0));
        }
        let output = self.completion.or(self.output).unwrap_or(0);
        let usage = TokenUsage {
            input,
            output,
            cached_input: cached.unwrap_or(0),
            cache_write: written.unwrap_or(0),
            reasoning: self.reasoning.unwrap_or(0),
            audio_input: self.audio_input.unwrap_or(0),
            audio_output: self.audio_output.unwrap_or(0),
            image_input: self.image_input.unwrap_or(0),
            image_output: self.image_output.unwrap_or(0),
            cache_write_long: self.written_long.unwrap_or(0),
            unsplit: self.total.unwrap_or(0).saturating_sub(input.saturating_add(output)),
        };
        Some(usage.clamped())
    }
}

#[cold]
fn cannot_be(name: Name, word: &str) -> String {
    let shown: String = word.chars().take(40).collect();
    format!("{} is {shown}{}", name.shown(), if shown.len() < word.len() { "..." } else { "" })
}

/// A whole number from 0 to 2^53, however it is written.
fn count(word: &str) -> Option<u64> {
    let number = match word.parse::<u64>() {
        Ok(number) => number,
        Err(_) => {
            let number = word.parse::<f64>().ok().filter(|number| number.is_finite() && number.fract() == 0.0)?;
            if !(0.0..=MAX_TOKENS as f64).contains(&number) {
                return None;
            }
            number as u64
        }
    };
    (number <= MAX_TOKENS).then_some(number)
}

/// Seconds as milliseconds, rounded up: what is charged is no less.
fn milliseconds(word: &str) -> Option<u64> {
    let seconds = word.parse::<f64>().ok().filter(|seconds| (0.0..=MAX_TOKENS as f64 / 1e3).contains(seconds))?;
    Some((seconds * 1e3).ceil() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_cannot_be_are_left_out_and_named() {
        for (word, number) in [
            ("0", Some(0)),
            ("12", Some(12)),
            ("12.0", Some(12)),
            ("1e3", Some(1_000)),
            ("9007199254740992", Some(MAX_TOKENS)),
            ("-0.0", Some(0)),
            ("9007199254740993", None),
            ("-5", None),
            ("1.5", None),
            ("1e400", None),
            ("99999999999999999999999", None),
            ("true", None),
            ("1x", None),
        ] {
            let mut numbers = Numbers::default();
            let told = numbers.take(&[Name::PromptTokens], word);
            assert_eq!(numbers.prompt, number, "{word}");
            assert_eq!(told.is_err(), number.is_none(), "{word}");
        }
        let mut numbers = Numbers { total: Some(3), ..Numbers::default() };
        assert_eq!(
            numbers.take(&[Name::TotalTokens], &"9".repeat(200)).unwrap_err().len(),
            "total_tokens is ".len() + 40 + 3
        );
        assert_eq!((numbers.take(&[Name::TotalTokens], "null"), numbers.total), (Ok(()), Some(3)));
    }

    #[test]
    fn time_is_rounded_up_to_a_millisecond() {
        for (word, is) in [("12", Some(12_000)), ("8.4700001", Some(8_471)), ("0", Some(0)), ("-1", None), ("x", None)]
        {
            assert_eq!(milliseconds(word), is, "{word}");
        }
    }
}
