//! The queue of one process: who waits, in the order of all processes, and whom it concerns that something ended.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Waker;

use arc_swap::ArcSwap;
use parking_lot::Mutex;

use crate::account::{AccountId, Chain, Scope};
use crate::rules::turns::{Place, Priority};
use crate::store::Queued;

/// Arrivals that no store has given begin here.
const UNPLACED: u64 = 1 << 63;

/// An account, as waiters compare them.
type Key = (Scope, String, String);

fn key(account: &AccountId<'_>) -> Key {
    (account.scope, account.owner.to_owned(), account.name.to_owned())
}

fn keys(chain: &Chain<'_>) -> Vec<Key> {
    chain.accounts().iter().map(key).collect()
}

#[derive(Debug)]
struct Waiting {
    accounts: Vec<Key>,
    /// Those of `accounts` that were in the way when it looked last, or that others wait for who were first; all of them before
    /// it looks.
    blocked: Vec<Key>,
    /// Others were before it when it last looked: it is told when they are gone.
    behind: bool,
    waker: Option<Waker>,
}

/// Those before somebody.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Behind {
    /// How many.
    pub(super) count: u32,
    /// The accounts that they wait for, by their places in its chain.
    pub(super) accounts: Vec<usize>,
}

/// Who waits, in order.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    /// How many wait: one relaxed load tells everybody else that there is nobody.
    len: AtomicUsize,
    own: ArcSwap<Own>,
}

/// The waiters of one process. A forked child has none of its parent's, and must not take the parent's mutex either: a thread
/// that it does not have may hold it.
#[derive(Debug, Default)]
struct Own {
    process: u32,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// How many came whom the store gave no place.
    unplaced: u64,
    waiting: BTreeMap<Place, Waiting>,
    /// For each workspace and priority, by arrival, where the places end that wait.
    ends: HashMap<(Key, Priority), BTreeMap<u64, u64>>,
    /// For each account, those whose chain it is in.
    touching: HashMap<Key, BTreeSet<Place>>,
    /// For each account, those in whose way it was: who comes later and needs it too must not pass them.
    blocked: HashMap<Key, BTreeSet<Place>>,
}

fn insert(sets: &mut HashMap<Key, BTreeSet<Place>>, key: &Key, place: Place) {
    sets.entry(key.clone()).or_default().insert(place);
}

fn remove(sets: &mut HashMap<Key, BTreeSet<Place>>, key: &Key, place: Place) {
    if let Some(places) = sets.get_mut(key) {
        places.remove(&place);
        if places.is_empty() {
            sets.remove(key);
        }
    }
}

impl State {
    /// How many waiters before `place` are blocked by one of these accounts.
    fn before(&self, accounts: &[Key], place: Place) -> u32 {
        let sets: Vec<_> = accounts.iter().filter_map(|key| self.blocked.get(key)).collect();
        let ahead = sets.iter().enumerate().map(|(step, places)| {
            // One that several of the accounts block is counted with the first of them.
            let counted = |other: &&Place| sets.iter().take(step).any(|earlier| earlier.contains(*other));
            places.range(..place).filter(|other| !counted(other)).count()
        });
        u32::try_from(ahead.sum::<usize>()).unwrap_or(u32::MAX)
    }

    fn is_first(&self, accounts: &[Key], place: Place) -> bool {
        let first = |key| self.blocked.get(key).and_then(BTreeSet::first);
        accounts.iter().filter_map(first).all(|first| *first >= place)
    }

    /// Those before a waiter and in its way.
    fn behind(&self, accounts: &[Key], place: Place) -> Option<Behind> {
        if self.is_first(accounts, place) {
            return None;
        }
        let first = |key| self.blocked.get(key).and_then(BTreeSet::first);
        let others_wait_for = |step: &usize| accounts.get(*step).and_then(first).is_some_and(|first| *first < place);
        let waited_for = (0..accounts.len()).filter(others_wait_for).collect();
        Some(Behind { count: self.before(accounts, place), accounts: waited_for })
    }

    /// Notes what a waiter waits for, by the places of the accounts in its chain. Who waits behind it for another may go.
    fn wait_for(&mut self, place: Place, accounts: &[usize]) -> Vec<Waker> {
        let Some(mine) = self.waiting.get_mut(&place) else { return Vec::new() };
        let named: Vec<Key> = accounts.iter().filter_map(|step| mine.accounts.get(*step)).cloned().collect();
        // The store itself was in the way: nobody knows of which account.
        let blocked = if named.is_empty() { mine.accounts.clone() } else { named };
        let was = std::mem::replace(&mut mine.blocked, blocked.clone());
        let gone: Vec<Key> = was.iter().filter(|key| !blocked.contains(key)).cloned().collect();
        gone.iter().for_each(|key| remove(&mut self.blocked, key, place));
        blocked.iter().filter(|key| !was.contains(key)).for_each(|key| insert(&mut self.blocked, key, place));
        self.followers(place, &gone)
    }

    /// The waker of a waiter whose turn it may be.
    fn ready(&mut self, place: Place) -> Option<Waker> {
        let waiting = self.waiting.get(&place)?;
        let first = self.is_first(&waiting.accounts, place);
        self.waiting.get_mut(&place).filter(|_| first)?.waker.take()
    }

    /// Of those that come after `place`, which these accounts block no more, the ones whose turn it may be now.
    fn followers(&mut self, place: Place, gone: &[Key]) -> Vec<Waker> {
        let behind = |place: &&Place| self.waiting.get(*place).is_some_and(|waiting| waiting.behind);
        let mut places = BTreeSet::new();
        for key in gone {
            // Past the next that it blocks, nobody gets any further.
            let next = self.blocked.get(key).and_then(BTreeSet::first).copied();
            let after = self.touching.get(key).map(|places| places.range(place..));
            let after = after.into_iter().flatten();
            places.extend(after.take_while(|after| next.is_none_or(|next| **after < next)).filter(behind));
            places.extend(next.filter(|next| *next > place));
        }
        places.into_iter().filter_map(|place| self.ready(place)).collect()
    }
}

fn wake_all(wakers: Vec<Waker>) {
    wakers.into_iter().for_each(Waker::wake);
}

impl Queue {
    /// How many waiters a plain reserve of this chain may not pass; `None` where it may go.
    pub(crate) fn ahead_of(&self, chain: &Chain<'_>) -> Option<u32> {
        if self.is_empty() {
            return None;
        }
        let keys = keys(chain);
        let own = self.own();
        let state = own.state.lock();
        // In a child the number is still the parent's.
        self.len.store(state.waiting.len(), Ordering::Relaxed);
        let ahead = state.before(&keys, Place::LAST);
        (ahead > 0).then_some(ahead)
    }

    /// This process's waiters.
    fn own(&self) -> Arc<Own> {
        let process = std::process::id();
        let found = self.own.load_full();
        if found.process == process {
            return found;
        }
        // The first thread of this process that comes here wins. Its numbers are none of the parent's, whose tickets the child
        // has a copy of.
        let state = State { unplaced: u64::from(process) << 32, ..State::default() };
        self.own.compare_and_swap(&found, Arc::new(Own { process, state: Mutex::new(state) }));
        self.own.load_full()
    }

    /// Where the last place of a chain's workspace in a priority ends; 0 where none waits.
    pub(crate) fn end_of(&self, chain: &Chain<'_>, priority: Priority) -> u64 {
        let Some(workspace) = chain.accounts().first().map(key).filter(|_| !self.is_empty()) else { return 0 };
        let own = self.own();
        let state = own.state.lock();
        state.ends.get(&(workspace, priority)).and_then(BTreeMap::last_key_value).map_or(0, |(_, end)| *end)
    }

    /// A place for whom the store gave none.
    pub(crate) fn place_behind_all(&self, priority: Priority) -> Queued {
        let own = self.own();
        let mut state = own.state.lock();
        state.unplaced += 1;
        Queued { place: Place::behind_all(priority, UNPLACED + state.unplaced), end: 0, ticket: 0 }
    }

    /// Takes a place, blocked by everything until its first try.
    pub(super) fn join(&self, queued: &Queued, chain: &Chain<'_>) {
        let accounts = keys(chain);
        let own = self.own();
        let mut state = own.state.lock();
        for key in &accounts {
            insert(&mut state.touching, key, queued.place);
            insert(&mut state.blocked, key, queued.place);
        }
        // Whom no store placed has no share, and nobody's place begins where its own ends.
        if let Some(workspace) = accounts.first().filter(|_| queued.end != 0) {
            state
                .ends
                .entry((workspace.clone(), queued.place.priority()))
                .or_default()
                .insert(queued.place.arrival(), queued.end);
        }
        let blocked = accounts.clone();
        state.waiting.insert(queued.place, Waiting { accounts, blocked, behind: false, waker: None });
        self.len.store(state.waiting.len(), Ordering::Relaxed);
    }

    /// Gives a place up; false where it is none of this process, or not any more.
    pub(super) fn leave(&self, place: Place) -> bool {
        let own = self.own();
        let mut state = own.state.lock();
        let Some(gone) = state.waiting.remove(&place) else { return false };
        for key in &gone.accounts {
            remove(&mut state.touching, key, place);
        }
        for key in &gone.blocked {
            remove(&mut state.blocked, key, place);
        }
        let workspace = gone.accounts.into_iter().next().map(|workspace| (workspace, place.priority()));
        if let Some(workspace) = workspace
            && let Some(ends) = state.ends.get_mut(&workspace)
        {
            ends.remove(&place.arrival());
            if ends.is_empty() {
                state.ends.remove(&workspace);
            }
        }
        self.len.store(state.waiting.len(), Ordering::Relaxed);
        let ready = state.followers(place, &gone.blocked);
        drop(state);
        // Outside of the lock, here and below: a waker may run anything.
        wake_all(ready);
        true
    }

    /// Notes whom to wake, and says which waiters are before this one and in its way: `None` where it may try.
    pub(super) fn look(&self, place: Place, waker: &Waker) -> Option<Behind> {
        let own = self.own();
        let mut state = own.state.lock();
        let mine = state.waiting.get(&place)?;
        let behind = state.behind(&mine.accounts, place);
        if let Some(mine) = state.waiting.get_mut(&place) {
            mine.behind = behind.is_some();
            mine.waker = Some(waker.clone());
        }
        let ready = behind.as_ref().map(|behind| state.wait_for(place, &behind.accounts)).unwrap_or_default();
        drop(state);
        wake_all(ready);
        behind
    }

    /// Notes which of its accounts (by their places in its chain) were in the way of a try. Who waits behind it for another may
    /// go.
    pub(super) fn refused(&self, place: Place, in_the_way: &[usize]) {
        let own = self.own();
        let mut state = own.state.lock();
        let ready = state.wait_for(place, in_the_way);
        drop(state);
        wake_all(ready);
    }

    /// True where nobody waits.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.len.load(Ordering::Relaxed) == 0
    }

    /// Something ended on these accounts: wakes the first that waits for each.
    #[inline]
    pub(crate) fn freed(&self, chain: &Chain<'_>) {
        if !self.is_empty() {
            self.wake_first_of(chain);
        }
    }

    #[cold]
    fn wake_first_of(&self, chain: &Chain<'_>) {
        let keys = keys(chain);
        let own = self.own();
        let mut state = own.state.lock();
        let firsts: BTreeSet<Place> =
            keys.iter().filter_map(|key| state.blocked.get(key)).filter_map(BTreeSet::first).copied().collect();
        let ready = firsts.into_iter().filter_map(|place| state.ready(place)).collect();
        drop(state);
        wake_all(ready);
    }

    /// Anything may have changed: wakes all whose turn it may be.
    pub(crate) fn wake(&self) {
        let own = self.own();
        let mut state = own.state.lock();
        let places: Vec<Place> = state.waiting.keys().copied().collect();
        let ready = places.into_iter().filter_map(|place| state.ready(place)).collect();
        drop(state);
        wake_all(ready);
    }
}
