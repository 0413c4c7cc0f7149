//! Accounts in the region: an index of hashes, rows, and the lists of who lies inside whom.

use super::attempt::Growing;
use super::counters::halved;
use super::held::{Held, View};
use super::keys::{Key, pack, word_of};
use super::layout::{bucket, head, row};
use super::log::Writes;
use crate::account::{AccountId, Chain, Hints, MAX_CHAIN, Scope};
use crate::error::{Code, Error, Result};
use crate::store::history::Saved;

/// The name of a workspace's account for what was folded. No id can have it: ids hold no control characters.
pub const OTHER: &str = "\u{1}other";

/// How many idle accounts are asked for the room that the rest of a long name needs.
const REST_TRIES: usize = 32;
/// The longest chain of rows that a lookup follows; only a damaged region has a longer one.
const MAX_LINKS: usize = 1 << 20;
/// The rows of a chain, in its order; 0 where the account is not known.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Rows {
    pub(super) rows: [u32; MAX_CHAIN],
    pub(super) len: usize,
    pub(super) folded: bool,
}

impl Rows {
    /// One account alone.
    pub(super) fn one(account: u32) -> Self {
        let mut rows = Self { len: 1, ..Self::default() };
        rows.rows[0] = account;
        rows
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (usize, u32)> + '_ {
        self.rows.iter().copied().take(self.len).enumerate()
    }
}

impl View<'_> {
    /// The row of an account, by its hint where that still is its own.
    #[inline(always)]
    pub(super) fn find_hinted(&self, account: &AccountId<'_>, owner: u32, hints: Option<&Hints>) -> u32 {
        let Some(hints) = hints else { return self.find(account.scope, owner, account.name) };
        let hint = hints.get(account.scope);
        if hint != 0 && self.is_row_of(hint, account, owner) {
            return hint;
        }
        let found = self.find(account.scope, owner, account.name);
        hints.set(account.scope, found);
        found
    }

    #[inline(always)]
    fn is_row_of(&self, row: u32, account: &AccountId<'_>, owner: u32) -> bool {
        let Some(entry) = self.entry::<{ row::LEN }>(self.row(row)) else { return false };
        let (whole, rest) = account.name.as_bytes().as_chunks::<8>();
        if whole.len() >= row::NAME_WORDS
            || entry.load(row::HASH) == 0
            || entry.load(row::KEY) != pack(owner, account.name.len(), account.scope)
        {
            return false;
        }
        whole.iter().enumerate().all(|(step, chunk)| entry.load(row::NAME + step) == u64::from_le_bytes(*chunk))
            && (rest.is_empty() || entry.load(row::NAME + whole.len()) == word_of(rest))
    }

    /// The row of an account; 0 where there is none.
    #[inline]
    pub(super) fn find(&self, scope: Scope, owner: u32, name: &str) -> u32 {
        self.find_key(&self.key(scope, owner, name))
    }

    /// The key of an account inside the one in the row `owner`.
    #[inline]
    pub(super) fn key<'a>(&self, scope: Scope, owner: u32, name: &'a str) -> Key<'a> {
        let owner_hash = if owner == 0 { 0 } else { self.load(self.row(owner) + row::HASH) };
        Key::new(scope, owner, owner_hash, name)
    }

    #[inline]
    fn find_key(&self, key: &Key<'_>) -> u32 {
        let mut found = self.load(self.place(key.hash)) as u32;
        for _ in 0..MAX_LINKS {
            if found == 0 {
                return 0;
            }
            let base = self.row(found);
            if self.load(base + row::HASH) == key.hash && self.is_named(base, key) {
                return found;
            }
            found = (self.load(base + row::LINK) >> 32) as u32;
        }
        0
    }

    fn is_named(&self, base: usize, key: &Key<'_>) -> bool {
        self.load(base + row::KEY) == key.packed()
            && key
                .words
                .iter()
                .take(key.name.len().div_ceil(8))
                .enumerate()
                .all(|(step, word)| self.load(base + row::NAME + step) == *word)
            && (key.name.len() <= row::NAME_WORDS * 8 || self.name_of(base) == key.name)
    }

    #[inline]
    pub(super) fn place(&self, hash: u64) -> usize {
        self.map().index.at((hash >> 16) as usize & (self.map().index.count() - 1))
    }

    /// The first word of a row.
    #[inline]
    pub(super) fn row(&self, row: u32) -> usize {
        self.map().rows.numbered::<{ row::LEN }>(row)
    }

    /// The scope of the account in the row at `base`.
    pub(super) fn scope_of(&self, base: usize) -> Option<Scope> {
        Scope::from_u8(self.load(base + row::KEY) as u8)
    }

    /// The owner's row of the account in the row at `base`.
    pub(super) fn owner_of(&self, base: usize) -> u32 {
        (self.load(base + row::KEY) >> 32) as u32
    }

    /// The name of the account in the row at `base`.
    pub(super) fn name_of(&self, base: usize) -> String {
        let len = (self.load(base + row::KEY) >> 16) as u16 as usize;
        let mut bytes = Vec::with_capacity(len);
        for step in 0..row::NAME_WORDS {
            bytes.extend_from_slice(&self.load(base + row::NAME + step).to_le_bytes());
        }
        let rest = self.load(base + row::NAME_REST) as u32;
        if rest != 0 {
            let line = self.line(rest);
            for step in 0..REST_WORDS {
                bytes.extend_from_slice(&self.load(line + step).to_le_bytes());
            }
        }
        bytes.truncate(len);
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// The first account inside `owner`; of the outermost where that is 0.
    pub(super) fn first_kin(&self, owner: u32) -> u32 {
        if owner == 0 {
            self.load(head::OUTERMOST) as u32
        } else {
            (self.load(self.row(owner) + row::KIN) >> 32) as u32
        }
    }

    /// The account after this one in its owner's list.
    pub(super) fn next_kin(&self, row: u32) -> u32 {
        (self.load(self.row(row) + row::NEXT_KIN) >> 32) as u32
    }
}

/// What to do about accounts that have no row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unknown {
    /// Their row is 0.
    Leave,
    /// They are made, or folded; where a limit would then not be counted, the batch fails.
    MakeForHold,
    /// They are made, or folded; those inside and beside the first that find no room are left out, for a fact lands where it can.
    MakeForFact,
}

impl Held<'_> {
    /// The rows of a chain.
    pub(super) fn rows_of(&self, chain: &Chain<'_>, unknown: Unknown) -> Result<Rows> {
        let mut rows = Rows::default();
        self.fill_rows(chain, unknown, &mut rows)?;
        Ok(rows)
    }

    /// The same into a place of the caller's, which spares the hot path a copy.
    #[inline]
    pub(super) fn fill_rows(&self, chain: &Chain<'_>, unknown: Unknown, rows: &mut Rows) -> Result<()> {
        let (mut workspace, mut credential) = (0, 0);
        for account in chain.accounts() {
            let owner = match account.scope {
                Scope::Workspace | Scope::Credential | Scope::Limiter => 0,
                Scope::Goal | Scope::Task | Scope::Model | Scope::User => workspace,
                Scope::ProviderModel => credential,
            };
            let outermost = matches!(account.scope, Scope::Workspace | Scope::Credential | Scope::Limiter);
            let ownerless = owner == 0 && !outermost;
            let mut found = if ownerless { 0 } else { self.find_hinted(account, owner, chain.hints()) };
            if found == 0 && !ownerless {
                found = self.bring_back(account, owner, rows)?;
            }
            if found == 0 && unknown != Unknown::Leave {
                match self.make(account, owner, unknown, rows) {
                    Ok((made, folded)) => {
                        rows.folded |= folded;
                        found = made;
                    }
                    // Where it only has to be tried again, nothing is left out.
                    Err(_) if unknown == Unknown::MakeForFact && rows.len > 0 && !self.attempt.is_waiting() => {
                        rows.folded = true;
                        self.count_folded();
                        continue;
                    }
                    Err(error) => return Err(error),
                }
            }
            match account.scope {
                Scope::Workspace => workspace = found,
                Scope::Credential => credential = found,
                _ => {}
            }
            if let Some(place) = rows.rows.get_mut(rows.len) {
                *place = found;
                rows.len += 1;
            }
        }
        Ok(())
    }

    /// The row of an account that has none but that history has; 0 where it is new.
    #[cold]
    fn bring_back(&self, account: &AccountId<'_>, owner: u32, keep: &Rows) -> Result<u32> {
        let key = self.key(account.scope, owner, account.name);
        let Some(saved) = self.saved(key.hash)? else { return Ok(0) };
        let capacity = self.map().rows.count();
        self.insert_below(capacity, keep, &key, Some(&saved)).ok_or_else(|| self.no_room(account.scope))
    }

    /// A row for an account that has none: a new one, one that an idle account gave up, or its workspace's `other`.
    /// `keep` are rows of the same chain, which are in use.
    fn make(&self, account: &AccountId<'_>, owner: u32, unknown: Unknown, keep: &Rows) -> Result<(u32, bool)> {
        let foldable = matches!(account.scope, Scope::Goal | Scope::Task | Scope::User);
        let inside = foldable || matches!(account.scope, Scope::Model | Scope::ProviderModel);
        let capacity = self.map().rows.count();
        let insert = |name, bound| self.insert_below(bound, keep, &self.key(account.scope, owner, name), None);
        // Workspaces and what they share come first: the last eighth of the table is theirs.
        let bound = if foldable { capacity - capacity / 8 } else { capacity };
        if inside && owner == 0 {
            // Its owner was left out.
        } else if let Some(made) = insert(account.name, bound) {
            return Ok((made, false));
        } else if foldable && !self.region.is_shared() {
            let limited = self.is_limited(account);
            if limited && let Some(made) = insert(account.name, capacity) {
                return Ok((made, false));
            }
            // Inside `other` its own limits would not be counted.
            if !limited || unknown == Unknown::MakeForFact {
                let other = self.find(account.scope, owner, OTHER);
                let other = if other == 0 { insert(OTHER, capacity) } else { Some(other) };
                if let Some(other) = other {
                    self.count_folded();
                    return Ok((other, true));
                }
            }
        }
        Err(self.no_room(account.scope))
    }

    fn no_room(&self, scope: Scope) -> Error {
        let (word, capacity) = (scope.as_str(), self.map().rows.count());
        let message = format!(
            "the store has no room for another {word}: its {capacity} accounts are all in use; raise its size \
             (LLMQUOTA_STORE={}?size=512MB)",
            if self.region.is_shared() { "shared:/path" } else { "memory:" }
        );
        Error::new(Code::StoreFull, word, message)
    }

    pub(super) fn count_folded(&self) {
        self.store(head::FOLDED, self.load(head::FOLDED).saturating_add(1));
    }

    /// A free row below `bound`, if need be one that an idle account gives up.
    fn free_row(&self, bound: usize, keep: &Rows) -> Option<u32> {
        let free = self.load(head::ROWS_FREE) as u32;
        let used = self.load(head::ROWS_USED) as usize;
        if free != 0 {
            return Some(free);
        }
        if used < bound {
            return self.is_backed(Growing::Rows, used as u64).then_some(0);
        }
        let freed = if self.region.is_shared() { self.evict_an_idle_one(keep) } else { self.fold_an_idle_one(keep) };
        freed.then(|| self.load(head::ROWS_FREE) as u32)
    }

    /// Writes a new account into a free row below `bound`. Where the arena has no room for the rest of a long name, idle accounts
    /// give up theirs.
    fn insert_below(&self, bound: usize, keep: &Rows, key: &Key<'_>, saved: Option<&Saved>) -> Option<u32> {
        for _ in 0..REST_TRIES {
            let free = self.free_row(bound, keep)?;
            let made = self.insert(key, free, saved);
            if made.is_some() || !self.region.is_shared() || self.attempt.is_waiting() || !self.evict_an_idle_one(keep)
            {
                return made;
            }
        }
        None
    }

    /// Writes a new account, into `free`, the first row of the free list, or a row never used where that is 0.
    fn insert(&self, key: &Key<'_>, free: u32, saved: Option<&Saved>) -> Option<u32> {
        let is_long = key.name.len() > row::NAME_WORDS * 8;
        let rest = if is_long { Some(self.find_block(REST_CLASS)?) } else { None };
        let used = self.load(head::ROWS_USED);
        let made = if free == 0 { u32::try_from(used + 1).ok()? } else { free };
        let base = self.row(made);
        // A zone that is new to the region is a batch of its own.
        let zone = saved.map_or(0, |saved| self.zone_named(&saved.zone));
        let mut writes = self.writes();
        if free == 0 {
            writes.put(head::ROWS_USED, used + 1);
        } else {
            writes.put(head::ROWS_FREE, self.load(base + row::LINK) >> 32);
        }
        let place = self.place(key.hash);
        writes.put(base + row::HASH, key.hash);
        writes.put(base + row::KEY, key.packed());
        for (step, word) in key.words.iter().enumerate() {
            writes.put(base + row::NAME + step, *word);
        }
        writes.put(base + row::NAME_REST, rest.map_or(0, |block| u64::from(block.line)));
        if let Some(block) = rest {
            block.take(&mut writes);
            let line = self.line(block.line);
            let tail = key.name.as_bytes().get(row::NAME_WORDS * 8..).unwrap_or_default();
            for (step, chunk) in tail.chunks(8).enumerate() {
                writes.put(line + step, word_of(chunk));
            }
        }
        writes.put(base + row::LINK, self.load(place) << 32);
        writes.put(place, u64::from(made));
        writes.put(base + row::SEEN, (self.now.second() as u64) << 32);
        writes.put(base + row::RING, 0);
        for clear in row::MINUTE_REQUESTS..=row::MINUTE_HELD {
            writes.put(base + clear, 0);
        }
        if let Some(saved) = saved {
            self.put_saved(&mut writes, base, zone, saved);
        } else {
            for clear in [row::TERMS, row::LAST_ERROR, row::VERSION].into_iter().chain(row::TOTAL..row::NEXT_KIN) {
                writes.put(base + clear, 0);
            }
        }
        let seen = saved.map_or_else(|| self.wall_halved(), |saved| halved(saved.seen));
        self.join_kin(&mut writes, base, made, key.owner, seen);
        writes.commit().then_some(made)
    }

    /// Puts a row first in its owner's list.
    fn join_kin(&self, writes: &mut Writes<'_>, base: usize, made: u32, owner: u32, seen: u64) {
        let first = self.first_kin(owner);
        writes.put(base + row::NEXT_KIN, u64::from(first) << 32 | seen);
        writes.put(base + row::KIN, 0);
        if first != 0 {
            let next = self.row(first);
            writes.put(next + row::KIN, self.load(next + row::KIN) & !LOW | u64::from(made));
        }
        self.put_first_kin(writes, owner, made);
    }

    fn put_first_kin(&self, writes: &mut Writes<'_>, owner: u32, first: u32) {
        if owner == 0 {
            writes.put(head::OUTERMOST, u64::from(first));
        } else {
            let at = self.row(owner) + row::KIN;
            writes.put(at, self.load(at) & LOW | u64::from(first) << 32);
        }
    }

    /// Takes a row out of the index. False in a damaged region.
    pub(super) fn leave_index(&self, writes: &mut Writes<'_>, gone: u32, base: usize) -> bool {
        let place = self.place(self.load(base + row::HASH));
        let after = self.load(base + row::LINK) >> 32;
        let mut at = self.load(place) as u32;
        if at == gone {
            writes.put(place, after);
            return true;
        }
        for _ in 0..MAX_LINKS {
            if at == 0 {
                return false;
            }
            let link = self.row(at) + row::LINK;
            let next = (self.load(link) >> 32) as u32;
            if next == gone {
                writes.put(link, self.load(link) & LOW | after << 32);
                return true;
            }
            at = next;
        }
        false
    }

    /// Takes a row out of the index and of its owner's list, and puts it on the free list.
    pub(super) fn unlink(&self, writes: &mut Writes<'_>, gone: u32, base: usize, owner: u32) {
        let _in_index = self.leave_index(writes, gone, base);
        let next = self.next_kin(gone);
        let before = self.load(base + row::KIN) as u32;
        if before == 0 {
            self.put_first_kin(writes, owner, next);
        } else {
            let at = self.row(before) + row::NEXT_KIN;
            writes.put(at, self.load(at) & LOW | u64::from(next) << 32);
        }
        if next != 0 {
            let at = self.row(next) + row::KIN;
            writes.put(at, self.load(at) & !LOW | u64::from(before));
        }
        writes.put(base + row::HASH, 0);
        writes.put(base + row::LINK, self.load(head::ROWS_FREE) << 32);
        writes.put(head::ROWS_FREE, u64::from(gone));
    }
}

/// The low half of a word.
pub(super) const LOW: u64 = 0xffff_ffff;
/// The size class of the block that holds the rest of a long name.
pub(super) const REST_CLASS: usize = 1;
/// Words of that block.
const REST_WORDS: usize = 4 * bucket::LEN;

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::keys::{SEED, mix};
    use super::*;
    use crate::account::Call;
    use crate::clock::ManualClock;
    use crate::config::Config;
    use crate::store::region::Region;
    use crate::store::{Batch, Fact, Receipt, Store};

    /// Workspaces of one hash: a second word that undoes what the first did, where it can be written as text.
    fn colliding(count: usize) -> Vec<String> {
        let start = mix(16 << 8 | Scope::Workspace as u64, SEED);
        (0_u64..)
            .filter_map(|step| {
                let first = format!("{step:08}");
                let second = mix(start ^ word_of(first.as_bytes()), SEED) ^ 0xa076_1d64_78bd_642f;
                let text = String::from_utf8(second.to_le_bytes().to_vec()).ok()?;
                text.bytes().all(|byte| (0x20..0x7f).contains(&byte)).then_some(first + &text)
            })
            .take(count)
            .collect()
    }

    #[test]
    fn accounts_of_one_hash_are_told_apart() {
        let names = colliding(40);
        let hashes: std::collections::BTreeSet<u64> =
            names.iter().map(|name| Key::new(Scope::Workspace, 0, 0, name).hash).collect();
        assert_eq!(hashes.len(), 1, "the names do collide");
        let clock = Arc::new(ManualClock::at(0));
        let region = Region::private(1 << 20, clock, Arc::new(Config::unlimited())).unwrap();
        for (tokens, name) in names.iter().enumerate() {
            let chain = Call::new(name).chain().unwrap();
            region.record(&chain, &Fact { requests: 1, tokens: tokens as u64, ..Fact::default() }).unwrap();
        }
        for (tokens, name) in names.iter().enumerate() {
            let chain = Call::new(name).chain().unwrap();
            let Receipt::Read(_, readings) = region.apply(&Batch::Read(&chain)).unwrap() else { unreachable!() };
            assert_eq!(readings[0].total.tokens, tokens as u64, "{name}");
        }
    }
}
