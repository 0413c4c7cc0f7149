//! What a misspelt word was meant to be.

/// Longest word that is compared, in characters: the cost grows with the square of it.
const MAX_CHARS: usize = 64;

/// The candidate that is fewest edits away from `word`, where that is few enough to be a slip of the hand: at most a third
/// of the word's letters, and always one. The first of equals.
pub(super) fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let letters: Vec<char> = word.chars().take(MAX_CHARS + 1).flat_map(char::to_lowercase).collect();
    if letters.len() > MAX_CHARS {
        return None;
    }
    let most = (letters.len() / 3).max(1);
    let mut best = None;
    for candidate in candidates {
        let edits = distance(&letters, candidate);
        if edits <= most && best.is_none_or(|(fewest, _)| edits < fewest) {
            best = Some((edits, candidate));
        }
    }
    best.map(|(_, candidate)| candidate)
}

/// The Levenshtein distance of `letters` and `other`, ignoring the case of `other`.
fn distance(letters: &[char], other: &str) -> usize {
    let mut row: Vec<usize> = (0..=letters.len()).collect();
    for (line, letter) in other.chars().flat_map(char::to_lowercase).enumerate() {
        let mut left = line + 1;
        let mut diagonal = line;
        for (above, own) in row.iter_mut().skip(1).zip(letters) {
            let cell = (diagonal + usize::from(*own != letter)).min(left + 1).min(*above + 1);
            diagonal = *above;
            *above = cell;
            left = cell;
        }
        if let Some(first) = row.first_mut() {
            *first = line + 1;
        }
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edits_are_counted() {
        for (one, other, edits) in
            [("", "", 0), ("", "abc", 3), ("kitten", "sitting", 3), ("abc", "ABC", 0), ("flaw", "lawn", 2)]
        {
            assert_eq!(distance(&one.chars().collect::<Vec<_>>(), other), edits, "{one} {other}");
        }
    }

    #[test]
    fn a_slip_is_mended_and_a_stranger_is_not() {
        let words = ["tokens_per_day", "tokens_per_minute", "timezone"];
        assert_eq!(nearest("token_per_day", words), Some("tokens_per_day"));
        assert_eq!(nearest("TimeZone", words), Some("timezone"));
        assert_eq!(nearest("colour", words), None);
        assert_eq!(nearest("", words), None);
        assert_eq!(nearest(&"t".repeat(10_000_000), words), None);
    }
}
