//! What a call used beside tokens, where the provider charges by that: time, characters, pictures, searches.

/// Units of one call. All are 0 where tokens tell everything.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Units<'a> {
    /// Milliseconds of sound that were heard or made.
    pub milliseconds: u64,
    /// Characters that were sent to be spoken.
    pub characters: u64,
    /// Pictures that were made.
    pub images: u64,
    /// Their quality and size, as `hd 1024x1792`; empty where nobody told.
    pub image_kind: &'a str,
    /// Searches of the web.
    pub web_searches: u64,
    /// Searches in files that the provider stores.
    pub file_searches: u64,
    /// Containers in which the provider ran code.
    pub code_sessions: u64,
    /// Uses of a tool that no price is known of.
    pub other_tools: u64,
}

/// What a second, a picture or the use of a tool counts as where it has no price: a minute is then as dear as one of
/// `whisper-1` at the tariff that is built in, and a search as one at most providers.
const TOKENS_PER_SECOND: u64 = 10;
const TOKENS_PER_USE: u64 = 1_000;
const CHARACTERS_PER_TOKEN: u64 = 4;

impl Units<'_> {
    /// True where there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        let Self { milliseconds, characters, images, image_kind: _, web_searches, file_searches, .. } = *self;
        milliseconds | characters | images | web_searches | file_searches | self.code_sessions | self.other_tools == 0
    }

    /// How many tokens they count as where they have no price; not 0 unless there are none.
    #[must_use]
    pub fn as_tokens(&self) -> u64 {
        let uses = [self.images, self.web_searches, self.file_searches, self.code_sessions, self.other_tools];
        let uses = uses.into_iter().fold(0, u64::saturating_add).saturating_mul(TOKENS_PER_USE);
        self.characters
            .div_ceil(CHARACTERS_PER_TOKEN)
            .saturating_add(self.milliseconds.div_ceil(1_000).saturating_mul(TOKENS_PER_SECOND))
            .saturating_add(uses)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_was_used_counts() {
        let none = Units { image_kind: "hd 1024x1024", ..Units::default() };
        assert!(none.is_empty());
        assert_eq!(none.as_tokens(), 0);
        for (units, tokens) in [
            (Units { milliseconds: 1, ..none }, 10),
            (Units { milliseconds: 60_000, ..none }, 600),
            (Units { characters: 5, ..none }, 2),
            (Units { images: 2, ..none }, 2_000),
            (Units { web_searches: 1, file_searches: 1, code_sessions: 1, other_tools: 1, ..none }, 4_000),
            (Units { images: u64::MAX, milliseconds: u64::MAX, characters: u64::MAX, ..none }, u64::MAX),
        ] {
            assert!(!units.is_empty(), "{units:?}");
            assert_eq!(units.as_tokens(), tokens, "{units:?}");
        }
    }
}
