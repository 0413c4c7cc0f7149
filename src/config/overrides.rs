//! Limits that an administrator set by hand, perhaps for a while.

use std::collections::HashMap;

use super::table::LimitTable;
use crate::account::{AccountId, Scope};

/// One override.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Override {
    /// What it says.
    pub limits: LimitTable,
    /// From when on it no longer holds: nanoseconds since the Unix epoch. `None` holds until it is taken away.
    pub expires_wall_nanos: Option<i64>,
}

impl Override {
    fn holds(&self, now_wall_nanos: i64) -> bool {
        self.expires_wall_nanos.is_none_or(|expires| now_wall_nanos < expires)
    }
}

type ByName = HashMap<Box<str>, Override>;
type ByOwner = HashMap<Box<str>, ByName>;

/// All overrides. Keyed level by level, so that a look-up needs no key of its own.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Overrides(HashMap<Scope, ByOwner>);

impl Overrides {
    pub(super) fn get(&self, account: AccountId<'_>, now_wall_nanos: i64) -> Option<&Override> {
        self.set_for(account).filter(|entry| entry.holds(now_wall_nanos))
    }

    pub(super) fn insert(&mut self, account: AccountId<'_>, entry: Override) {
        let owners = self.0.entry(account.scope).or_default();
        owners.entry(Box::from(account.owner)).or_default().insert(Box::from(account.name), entry);
    }

    /// True where there was one.
    pub(super) fn remove(&mut self, account: AccountId<'_>) -> bool {
        let owner = self.0.get_mut(&account.scope).and_then(|owners| owners.get_mut(account.owner));
        let removed = owner.is_some_and(|names| names.remove(account.name).is_some());
        self.drop_empty();
        removed
    }

    /// What is set for `account`, ended or not.
    pub(super) fn set_for(&self, account: AccountId<'_>) -> Option<&Override> {
        self.0.get(&account.scope)?.get(account.owner)?.get(account.name)
    }

    pub(super) fn retain_holding(&mut self, now_wall_nanos: i64) {
        for owners in self.0.values_mut() {
            for names in owners.values_mut() {
                names.retain(|_, entry| entry.holds(now_wall_nanos));
            }
        }
        self.drop_empty();
    }

    /// So that two with the same overrides are equal, whatever they had before.
    fn drop_empty(&mut self) {
        self.0.retain(|_, owners| {
            owners.retain(|_, names| !names.is_empty());
            !owners.is_empty()
        });
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (AccountId<'_>, &Override)> {
        self.0.iter().flat_map(|(scope, owners)| {
            owners.iter().flat_map(|(owner, names)| {
                names.iter().map(|(name, entry)| (AccountId { scope: *scope, owner, name }, entry))
            })
        })
    }
}
