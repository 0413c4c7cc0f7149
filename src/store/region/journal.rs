//! The journal: what each batch did, written in the batch's own commit. A shared region's is read by whoever keeps history,
//! and what is not read yet is never written over; a private one's is history itself, as far as it goes back.

use super::accounts::Rows;
use super::held::{Held, View};
use super::keys::{mix, words_of};
use super::layout::{entry, head, row};
use super::log::Writes;
use crate::account::MAX_CHAIN;
use crate::rules::breaker::FailureKind;
use crate::store::Fact;
use crate::usage::history::{self, Kind, Span, Starts, Sums};

/// Room that is kept free for those who may not be refused.
const SPARE: u64 = 16;
/// What a hold that was given may still write: its start and its end.
const A_HOLD: u64 = 2;

/// Flags of an entry.
pub(super) const REPLACES: u64 = 1;
pub(super) const LANDS_NOW: u64 = 2;
pub(super) const ESTIMATED: u64 = 4;
const HAS_HOLD: u64 = 8;
const HAS_TEXT: u64 = 16;

/// The most that an entry can say of requests and of milliseconds.
const MOST_REQUESTS: u64 = (1 << 24) - 1;
const MOST_MILLISECONDS: u64 = (1 << 28) - 1;
const ZONE_BITS: u32 = 12;

/// What a batch tells of itself.
#[derive(Debug, Clone, Copy)]
pub(super) struct Note<'a> {
    pub(super) kind: Kind,
    pub(super) flags: u64,
    pub(super) rows: &'a Rows,
    pub(super) fact: &'a Fact<'a>,
    pub(super) held: Option<history::Held>,
}

/// An entry as its words have it.
#[derive(Debug, Clone)]
pub(super) struct Raw {
    words: [u64; entry::LEN],
}

impl Held<'_> {
    /// True where a fact's entry has room beside what the open holds may still write.
    #[inline]
    fn has_room_for_facts(&self) -> bool {
        self.room_in_journal() > self.load(head::HOLDS_OPEN).saturating_mul(A_HOLD)
    }

    /// True where another hold may be given: its start and its end will find room.
    pub(super) fn has_room_for_hold(&self) -> bool {
        self.room_in_journal() > self.load(head::HOLDS_OPEN).saturating_add(1).saturating_mul(A_HOLD) + SPARE
    }

    /// Entries that can be written before one would be lost.
    #[inline]
    fn room_in_journal(&self) -> u64 {
        if !self.region.is_shared() {
            return u64::MAX;
        }
        let waiting = self.load(head::JOURNAL_TAIL).saturating_sub(self.load(head::JOURNAL_DRAINED));
        (self.map().journal.count() as u64).saturating_sub(waiting)
    }

    /// Notes an entry. Where there is no room, the accounts are marked instead, and history is told what they counted.
    #[inline]
    pub(super) fn tell(&self, writes: &mut Writes<'_>, note: &Note<'_>) {
        self.announce(writes, note.kind, note.rows);
        let has_room = if note.kind == Kind::Record { self.has_room_for_facts() } else { self.room_in_journal() > 0 };
        if !has_room {
            self.mark_unwritten(writes, note.rows);
            return;
        }
        let sequence = self.load(head::JOURNAL_TAIL);
        self.write_note(sequence, note);
        writes.put(head::JOURNAL_TAIL, sequence + 1);
    }

    /// The slot lies past the tail, where nobody reads, so its words need no log of their own.
    #[inline]
    fn write_note(&self, sequence: u64, note: &Note<'_>) {
        let at = self.map().journal.at(sequence as usize & (self.map().journal.count() - 1));
        let Some(place) = self.entry::<{ entry::LEN }>(at) else { return };
        let put = |word: usize, value: u64| place.put(word, value);
        let fact = note.fact;
        let mut tags = (0_u64, 0_u64);
        let (mut first, mut last) = (0, 0);
        for (step, account) in note.rows.iter() {
            let base = self.row(account);
            let tag = (self.load(base + row::HASH) & 0xffff) << (step % 4 * 16);
            if step < 4 {
                tags.0 |= tag
            } else {
                tags.1 |= tag
            }
            last = self.zone_of(base);
            if step == 0 {
                first = last;
            }
        }
        let row = |place: usize| note.rows.rows.get(place).map_or(0, |row| u64::from(*row));
        for step in 0..MAX_CHAIN.div_ceil(2) {
            put(entry::ROWS + step, row(2 * step + 1) << 32 | row(2 * step));
        }
        let mut flags = note.flags | if fact.estimated { ESTIMATED } else { 0 };
        let split = fact.input | fact.output | fact.cached;
        let mut len = if split != 0 { entry::SPLIT } else { entry::SHORT };
        if fact.reasoning != 0 {
            len = entry::HOLD;
        }
        if note.held.is_some() {
            flags |= HAS_HOLD;
            len = entry::HOLDING;
        }
        let mut milliseconds = 0;
        if let Some(details) = fact.details {
            milliseconds = details.latency_ms.map_or(0, |ms| u64::from(ms) + 1).min(MOST_MILLISECONDS);
            if !details.method.is_empty() || !details.request_id.is_empty() {
                flags |= HAS_TEXT;
                len = entry::LEN;
                let method = text_words::<{ entry::METHOD_WORDS }>(details.method);
                let request = text_words::<{ entry::REQUEST_WORDS }>(details.request_id);
                method.into_iter().enumerate().for_each(|(step, word)| put(entry::METHOD + step, word));
                request.into_iter().enumerate().for_each(|(step, word)| put(entry::REQUEST + step, word));
            }
        }
        put(entry::AT, self.now.wall as u64);
        put(entry::TAGS, tags.0);
        put(entry::TAGS + 1, tags.1 | first << 48);
        put(entry::REQUESTS, u64::from(fact.requests).min(MOST_REQUESTS) << 40 | milliseconds << ZONE_BITS | last);
        put(entry::TOKENS, fact.tokens);
        put(entry::COST, fact.cost);
        if len >= entry::SPLIT {
            put(entry::INPUT, fact.input);
            put(entry::OUTPUT, fact.output);
            put(entry::CACHED, fact.cached);
        }
        if len >= entry::HOLD {
            put(entry::REASONING, fact.reasoning);
        }
        if len >= entry::HOLDING {
            let held = note.held.unwrap_or_default();
            put(entry::HOLD, held.hold);
            put(entry::GRANTED, held.granted as u64);
            put(entry::HELD_TOKENS, held.tokens);
            put(entry::HELD_COST, held.cost);
            put(entry::HELD_REQUESTS, held.requests);
        }
        let failure = fact.failure.map_or(0, |failure| failure.kind as u64 + 1);
        put(entry::HEAD, pack_head(note.kind, flags, note.rows.len, len) | failure << 32);
        put(entry::SEQUENCE, sequence);
        // Private memory is never found torn.
        if self.region.is_shared() {
            put(entry::CHECK, checksum(sequence, len, |word| place.load(word)));
        }
    }

    /// Notes a change by hand of one account in one span.
    pub(super) fn tell_adjust(&self, writes: &mut Writes<'_>, account: u32, changes: &[(Option<Span>, Sums)]) {
        if self.room_in_journal() < changes.len() as u64 {
            self.mark_unwritten(writes, &Rows::one(account));
            return;
        }
        let mut sequence = self.load(head::JOURNAL_TAIL);
        for (span, sums) in changes {
            let words = [
                (entry::TOKENS, sums.tokens),
                (entry::COST, sums.cost),
                (entry::INPUT, sums.input),
                (entry::OUTPUT, sums.output),
                (entry::CACHED, sums.cached),
                (entry::REASONING, sums.errors),
                (entry::HOLD, sums.requests),
            ];
            let span = span.map_or(0, |span| span as u64 + 1);
            let words = words.map(|(word, value)| (word, value as u64));
            self.write_plain(sequence, Kind::Adjust, account, span << 40, entry::HOLD + 1, &words);
            sequence += 1;
        }
        writes.put(head::JOURNAL_TAIL, sequence);
    }

    /// Notes that an account's running periods go on under other starts, in another zone.
    pub(super) fn tell_rezone(&self, writes: &mut Writes<'_>, account: u32, zone: u64, was: &Starts, is: &Starts) {
        if self.room_in_journal() == 0 {
            self.mark_unwritten(writes, &Rows::one(account));
            return;
        }
        let sequence = self.load(head::JOURNAL_TAIL);
        let starts = [was.hour, was.day, was.month, is.hour, is.day, is.month];
        let mut words = [(entry::TOKENS, zone); 7];
        for (step, start) in starts.into_iter().enumerate() {
            words[step + 1] = (entry::STARTS + step, start as u64);
        }
        self.write_plain(sequence, Kind::Rezone, account, 0, entry::REZONED, &words);
        writes.put(head::JOURNAL_TAIL, sequence + 1);
    }

    fn write_plain(&self, sequence: u64, kind: Kind, account: u32, bits: u64, len: usize, words: &[(usize, u64)]) {
        let at = self.map().journal.at(sequence as usize & (self.map().journal.count() - 1));
        for word in entry::AT..len {
            self.store(at + word, 0);
        }
        let base = self.row(account);
        let zone = self.zone_of(base);
        self.store(at + entry::AT, self.now.wall as u64);
        self.store(at + entry::ROWS, u64::from(account));
        self.store(at + entry::TAGS, self.load(base + row::HASH) & 0xffff);
        self.store(at + entry::TAGS + 1, zone << 48);
        self.store(at + entry::REQUESTS, zone);
        for (word, value) in words {
            self.store(at + word, *value);
        }
        self.store(at + entry::HEAD, pack_head(kind, 0, 1, len) | bits);
        self.store(at + entry::SEQUENCE, sequence);
        self.store(at + entry::CHECK, checksum(sequence, len, |word| self.load(at + word)));
    }

    #[cold]
    fn mark_unwritten(&self, writes: &mut Writes<'_>, rows: &Rows) {
        // Accounts that share a word of marks are marked in one write: each word at most once.
        let mut words = [(0_usize, 0_u64); MAX_CHAIN];
        let mut len = 0;
        for (_, account) in rows.iter().filter(|(_, account)| *account != 0) {
            let (at, bit) = self.mark_of(account);
            match words.iter_mut().take(len).find(|(word, _)| *word == at) {
                Some((_, bits)) => *bits |= bit,
                None => {
                    if let Some(word) = words.get_mut(len) {
                        *word = (at, bit);
                        len += 1;
                    }
                }
            }
        }
        for (word, bits) in words.into_iter().take(len) {
            writes.put(word, self.load(word) | bits);
        }
        writes.put(head::OVERFLOWS, self.load(head::OVERFLOWS) + 1);
    }
}

impl View<'_> {
    /// The word and the bit that mark a row whose entries the journal had no room for.
    pub(super) fn mark_of(&self, account: u32) -> (usize, u64) {
        let place = (account as usize).wrapping_sub(1);
        let word = (place / 64).min(self.map().unwritten.count() - 1);
        (self.map().unwritten.at(word), 1 << (place % 64))
    }

    /// The entry of a number; `None` where its words are not whole, or another's.
    pub(super) fn raw_entry(&self, sequence: u64) -> Option<Raw> {
        let at = self.map().journal.at(sequence as usize & (self.map().journal.count() - 1));
        let place = self.entry::<{ entry::LEN }>(at)?;
        let mut words = [0; entry::LEN];
        for (word, value) in words.iter_mut().enumerate() {
            *value = place.load(word);
        }
        let raw = Raw { words };
        let len = raw.len();
        let whole = (entry::SHORT..=entry::LEN).contains(&len)
            && raw.word(entry::SEQUENCE) == sequence
            && (!self.region.is_shared() || raw.word(entry::CHECK) == checksum(sequence, len, |word| raw.word(word)))
            && Kind::from_u8(raw.word(entry::HEAD) as u8).is_some();
        whole.then_some(raw)
    }
}

/// Two words by a multiplication, each of its own, so that they go side by side.
#[inline]
fn checksum(sequence: u64, len: usize, word: impl Fn(usize) -> u64) -> u64 {
    let (mut sum, mut salt) = (mix(sequence, SALT), 0_u64);
    for step in (entry::HEAD..len).step_by(2) {
        let next = if step + 1 < len { word(step + 1) } else { 0 };
        salt = salt.wrapping_add(SALT);
        sum = sum.wrapping_add(mix(word(step) ^ salt, next ^ salt.rotate_left(32)));
    }
    sum
}

const SALT: u64 = 0x9e37_79b9_7f4a_7c15;

fn pack_head(kind: Kind, flags: u64, accounts: usize, len: usize) -> u64 {
    kind as u64 | flags << 8 | (accounts as u64) << 16 | (len as u64) << 24
}

/// A text as words, cut at a character where it is too long.
fn text_words<const LEN: usize>(text: &str) -> [u64; LEN] {
    let mut end = text.len().min(LEN * 8);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    words_of(text.as_bytes().get(..end).unwrap_or_default())
}

fn text_of(words: &[u64]) -> Option<String> {
    let mut bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    while bytes.last() == Some(&0) {
        bytes.pop();
    }
    (!bytes.is_empty()).then(|| String::from_utf8_lossy(&bytes).into_owned())
}

impl Raw {
    fn word(&self, word: usize) -> u64 {
        self.words.get(word).copied().unwrap_or(0)
    }

    fn len(&self) -> usize {
        (self.word(entry::HEAD) >> 24 & 0xff) as usize
    }

    fn signed(&self, word: usize) -> i64 {
        if word < self.len() { self.word(word) as i64 } else { 0 }
    }

    /// What it tells of.
    pub(super) fn kind(&self) -> Kind {
        Kind::from_u8(self.word(entry::HEAD) as u8).unwrap_or(Kind::Record)
    }

    /// Its accounts: the row of each, the low quarter of its hash, and its zone's place.
    pub(super) fn accounts(&self) -> impl Iterator<Item = (u32, u64, u64)> + '_ {
        let count = ((self.word(entry::HEAD) >> 16 & 0xff) as usize).min(MAX_CHAIN);
        let (first, last) = (self.word(entry::TAGS + 1) >> 48, self.word(entry::REQUESTS) & ((1 << ZONE_BITS) - 1));
        (0..count).filter_map(move |step| {
            let row = (self.word(entry::ROWS + step / 2) >> (step % 2 * 32)) as u32;
            let tag = self.word(entry::TAGS + step / 4) >> (step % 4 * 16) & 0xffff;
            // Those of a workspace share its zone; those of a provider come last.
            (row != 0).then_some((row, tag, if step + 1 == count { last } else { first }))
        })
    }

    /// As an entry of history; `accounts` are the places of its accounts in the list that comes with it, and `zone` names a zone.
    pub(super) fn entry(&self, sequence: u64, accounts: Vec<u32>, zone: impl Fn(u64) -> String) -> history::Entry {
        let head = self.word(entry::HEAD);
        let kind = self.kind();
        let flags = head >> 8 & 0xff;
        let correction = kind.is_correction();
        let failure = (head >> 32 & 0xff).checked_sub(1).and_then(|kind| FailureKind::from_u8(kind as u8));
        let requests = self.word(entry::REQUESTS) >> 40;
        let mut sums = Sums {
            requests: requests as i64,
            errors: i64::from(failure.is_some()),
            tokens: self.signed(entry::TOKENS),
            input: self.signed(entry::INPUT),
            output: self.signed(entry::OUTPUT),
            cached: self.signed(entry::CACHED),
            cost: self.signed(entry::COST),
        };
        if correction {
            (sums.requests, sums.errors) = (self.signed(entry::HOLD), self.signed(entry::REASONING));
        }
        if kind == Kind::TakenBack {
            sums = Sums::default().minus(&sums);
        }
        let rezone = (kind == Kind::Rezone).then(|| {
            let starts = |step: usize| Starts {
                hour: self.signed(entry::STARTS + step),
                day: self.signed(entry::STARTS + step + 1),
                month: self.signed(entry::STARTS + step + 2),
            };
            (starts(0), starts(3), zone(self.word(entry::TOKENS)))
        });
        if rezone.is_some() {
            sums = Sums::default();
        }
        let text = |at: usize, len: usize| {
            (flags & HAS_TEXT != 0).then(|| self.words.get(at..at + len).and_then(text_of)).flatten()
        };
        let milliseconds = self.word(entry::REQUESTS) >> ZONE_BITS & MOST_MILLISECONDS;
        history::Entry {
            sequence,
            kind,
            at: self.word(entry::AT) as i64,
            accounts,
            sums,
            reasoning: if correction || rezone.is_some() { 0 } else { self.signed(entry::REASONING).unsigned_abs() },
            estimated: flags & ESTIMATED != 0,
            failure,
            held: (flags & HAS_HOLD != 0).then(|| history::Held {
                hold: self.word(entry::HOLD),
                granted: self.word(entry::GRANTED) as i64,
                requests: self.word(entry::HELD_REQUESTS),
                tokens: self.word(entry::HELD_TOKENS),
                cost: self.word(entry::HELD_COST),
            }),
            replaces: flags & REPLACES != 0,
            lands_now: flags & LANDS_NOW != 0,
            span: (head >> 40 & 0xff).checked_sub(1).and_then(|span| Span::from_u8(span as u8)),
            rezone,
            latency_ms: milliseconds.checked_sub(1).and_then(|ms| u32::try_from(ms).ok()),
            request_id: text(entry::REQUEST, entry::REQUEST_WORDS),
            method: text(entry::METHOD, entry::METHOD_WORDS),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::Region;
    use super::super::attempt::Attempt;
    use super::*;
    use crate::account::Call;
    use crate::clock::ManualClock;
    use crate::config::Config;
    use crate::store::Store;

    #[test]
    fn an_entry_names_every_account_of_the_longest_chain() {
        let clock = Arc::new(ManualClock::at(0));
        let region = Region::logged(1 << 20, clock, Arc::new(Config::unlimited())).unwrap();
        let call = Call::new("acme").goal("g").task("t").model("gpt-4o").user("u").credential("openai/ab12");
        let chain = call.chain().unwrap();
        assert_eq!(chain.accounts().len(), MAX_CHAIN);
        region.record(&chain, &Fact { requests: 1, ..Fact::default() }).unwrap();
        let attempt = Attempt::default();
        let held = region.hold(&attempt).unwrap();
        let raw = held.raw_entry(held.load(head::JOURNAL_TAIL) - 1).unwrap();
        let hashes: Vec<u64> = super::super::keys::hashes_of(&chain).map(|hash| hash & 0xffff).collect();
        assert_eq!(raw.accounts().map(|(_, tag, _)| tag).collect::<Vec<_>>(), hashes);
    }
}
