//! Keys: an account's name as a hash that every process and every stay in the region agrees on, and texts as words.

use super::layout::row;
use crate::account::{Chain, Scope};

/// A name, hashed and cut into words. The hash goes over the owner's, not over its row: an account that left its row and came
/// back has the same.
pub(super) struct Key<'a> {
    pub(super) scope: Scope,
    pub(super) owner: u32,
    pub(super) name: &'a str,
    pub(super) hash: u64,
    pub(super) words: [u64; row::NAME_WORDS],
}

impl<'a> Key<'a> {
    #[inline]
    pub(super) fn new(scope: Scope, owner: u32, owner_hash: u64, name: &'a str) -> Self {
        let bytes = name.as_bytes();
        let mut words = [0_u64; row::NAME_WORDS];
        let mut hash = mix(owner_hash ^ ((bytes.len() as u64) << 8 | scope as u64), SEED);
        let (whole, rest) = bytes.as_chunks::<8>();
        let mut places = words.iter_mut();
        for chunk in whole {
            let word = u64::from_le_bytes(*chunk);
            hash = mix(hash ^ word, SEED);
            if let Some(place) = places.next() {
                *place = word;
            }
        }
        if !rest.is_empty() {
            let word = word_of(rest);
            hash = mix(hash ^ word, SEED);
            if let Some(place) = places.next() {
                *place = word;
            }
        }
        // 0 marks a free row.
        Self { scope, owner, name, hash: hash.max(1), words }
    }

    pub(super) fn packed(&self) -> u64 {
        pack(self.owner, self.name.len(), self.scope)
    }
}

/// The key word of a row.
#[inline]
pub(super) const fn pack(owner: u32, len: usize, scope: Scope) -> u64 {
    (owner as u64) << 32 | (len as u64) << 16 | scope as u64
}

/// The fixed seed: processes that share a region must agree.
pub(super) const SEED: u64 = 0x9e37_79b9_7f4a_7c15;

/// Multiply and fold: each bit of the product's halves meets.
#[inline]
pub(super) const fn mix(left: u64, right: u64) -> u64 {
    let product = (left ^ 0xa076_1d64_78bd_642f) as u128 * (right ^ 0xe703_7ed1_a0b4_28db) as u128;
    (product as u64) ^ ((product >> 64) as u64)
}

/// Up to eight bytes as a word, the missing ones 0.
#[inline]
pub(super) fn word_of(chunk: &[u8]) -> u64 {
    if let Ok(whole) = <[u8; 8]>::try_from(chunk) {
        return u64::from_le_bytes(whole);
    }
    // Four bytes from either end, which may overlap; then one by one. Copied byte by byte into an array the word could only
    // be read back when every store is done.
    let len = chunk.len();
    if let (Some(first), Some(last)) = (chunk.first_chunk::<4>(), chunk.last_chunk::<4>()) {
        return u64::from(u32::from_le_bytes(*first)) | u64::from(u32::from_le_bytes(*last)) << ((len - 4) * 8);
    }
    chunk.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte))
}

/// The hash of each account of a chain, which needs no region.
pub(super) fn hashes_of<'c>(chain: &'c Chain<'_>) -> impl Iterator<Item = u64> + 'c {
    chain.accounts().iter().map(|account| hash_of(account.scope, account.owner, account.name))
}

/// The hash of an account, which needs no region.
pub(super) fn hash_of(scope: Scope, owner: &str, name: &str) -> u64 {
    let outer = match scope {
        Scope::Workspace | Scope::Credential | Scope::Limiter => 0,
        Scope::Goal | Scope::Task | Scope::Model | Scope::User => Key::new(Scope::Workspace, 0, 0, owner).hash,
        Scope::ProviderModel => Key::new(Scope::Credential, 0, 0, owner).hash,
    };
    Key::new(scope, 0, outer, name).hash
}

/// A text as so many words, the missing bytes 0; what does not fit is cut off.
pub(super) fn words_of<const LEN: usize>(bytes: &[u8]) -> [u64; LEN] {
    let mut words = [0; LEN];
    for (word, chunk) in words.iter_mut().zip(bytes.chunks(8)) {
        *word = word_of(chunk);
    }
    words
}

/// The text of `len` bytes that words hold.
pub(super) fn text_of(words: impl Iterator<Item = u64>, len: usize) -> String {
    let mut bytes: Vec<u8> = words.flat_map(u64::to_le_bytes).collect();
    bytes.truncate(len);
    String::from_utf8_lossy(&bytes).into_owned()
}
