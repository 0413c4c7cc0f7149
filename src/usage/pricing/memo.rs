//! Matches already made: walking the clauses of a provider is far dearer than a look into a map.

use std::collections::HashMap;
use std::sync::RwLock;

use super::catalogue::Match;

/// Entries kept. When one more comes, all are dropped and the few that are in use come back at their next call.
const MOST_ENTRIES: usize = 4_096;

/// A longer provider and model is matched each time, so that callers cannot fill memory with names.
const LONGEST_NAME: usize = 256;

/// A bounded map of (provider, model) to its match, `None` included. It is only a shortcut: a lock that is not free at
/// once is not waited for, so that neither another thread nor one that a `fork` left behind can hold up a call.
#[derive(Debug, Default)]
pub(super) struct Memo(RwLock<Entries>);

#[derive(Debug, Default)]
struct Entries {
    /// By provider ("" for none), then by model: both are looked up by `&str`, without an allocation.
    by_provider: HashMap<Box<str>, HashMap<Box<str>, Option<Match>>>,
    count: usize,
}

impl Memo {
    pub(super) fn get_or_find(
        &self,
        provider: Option<&str>,
        model: &str,
        find: impl FnOnce() -> Option<Match>,
    ) -> Option<Match> {
        let provider = provider.unwrap_or("");
        if let Ok(entries) = self.0.try_read()
            && let Some(known) = entries.by_provider.get(provider).and_then(|models| models.get(model))
        {
            return *known;
        }
        let found = find();
        if provider.len().saturating_add(model.len()) <= LONGEST_NAME
            && let Ok(mut entries) = self.0.try_write()
        {
            entries.insert(provider, model, found);
        }
        found
    }
}

impl Entries {
    fn insert(&mut self, provider: &str, model: &str, found: Option<Match>) {
        if self.count >= MOST_ENTRIES {
            self.by_provider.clear();
            self.count = 0;
        }
        if self.by_provider.entry(provider.into()).or_default().insert(model.into(), found).is_none() {
            self.count += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size(memo: &Memo) -> usize {
        memo.0.read().unwrap().by_provider.values().map(HashMap::len).sum()
    }

    #[test]
    fn a_match_is_made_once_and_a_miss_is_remembered_too() {
        let memo = Memo::default();
        let mut calls = 0;
        for _ in 0..3 {
            let mut find = |found| {
                calls += 1;
                found
            };
            assert_eq!(memo.get_or_find(Some("a"), "m", || find(Some(Match::default()))), Some(Match::default()));
            assert_eq!(memo.get_or_find(None, "m", || find(None)), None);
        }
        assert_eq!(calls, 2);
    }

    #[test]
    fn it_is_bounded_in_entries_and_names() {
        let memo = Memo::default();
        for number in 0..10_000 {
            memo.get_or_find(None, &number.to_string(), || None);
            assert!(memo.0.read().unwrap().count <= MOST_ENTRIES);
        }
        assert_eq!(size(&memo), 10_000 % MOST_ENTRIES);
        let before = size(&memo);
        memo.get_or_find(Some("p"), &"m".repeat(LONGEST_NAME), || None);
        assert_eq!(size(&memo), before);
    }

    #[test]
    fn a_lock_that_is_held_is_not_waited_for() {
        let memo = Memo::default();
        let _held = memo.0.write().unwrap();
        assert_eq!(memo.get_or_find(None, "m", || Some(Match::default())), Some(Match::default()));
    }
}
