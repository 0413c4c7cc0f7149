//! What has happened while the lock was not to be had: a process that has waited long enough writes it to a ring of its own in
//! the region, and whoever has the lock next counts it. Nothing that was acknowledged lies in a process's own memory.

use std::sync::atomic::{Ordering, fence};
use std::time::Duration;

use super::Region;
use super::attempt::Attempt;
use super::held::Held;
use super::keys::{text_of, word_of};
use super::layout::{SLOTS, head, slot};
use crate::account::{AccountId, Chain, MAX_CHAIN, Scope};
use crate::error::{Code, Error, Result};
use crate::rules::breaker::{Failure, FailureKind};
use crate::store::{Batch, Details, Ended, Fact, HoldId, HoldState, Landed, Receipt};

/// How long a writer waits for another of its own process.
const RING_BOUND: Duration = Duration::from_millis(500);

/// What an entry of a ring tells.
const RECORD: u64 = 1;
const SETTLE: u64 = 2;
const START: u64 = 3;
const RELEASE: u64 = 4;
const ABANDON: u64 = 5;

/// Words before the names: kind and length, the hold, the fact's numbers.
const FIXED: usize = 11;

/// An entry, read back.
#[derive(Debug, Default)]
struct Aside {
    kind: u64,
    hold: u64,
    names: Vec<(u8, String)>,
    numbers: [u64; 8],
    latency_ms: Option<u32>,
    /// Words that it takes.
    len: u64,
}

impl Region {
    /// Puts a batch that must not be lost aside, and answers as if it were done. Other batches keep their error.
    #[cold]
    pub(super) fn put_aside(&self, batch: &Batch<'_>, error: Error) -> Result<Receipt> {
        let ended = |was, is| Receipt::Ended(Ended { was, is, changed: true });
        let (words, receipt) = match *batch {
            Batch::Record { chain, fact } => {
                (encode(RECORD, 0, Some(chain), fact), Receipt::Recorded(Landed { folded: false }))
            }
            Batch::Settle { hold, chain, fact } => {
                (encode(SETTLE, hold.0, chain, fact), ended(HoldState::Started, HoldState::Settled))
            }
            Batch::Start(hold) => {
                (encode(START, hold.0, None, &Fact::default()), ended(HoldState::Reserved, HoldState::Started))
            }
            Batch::Release(hold) => {
                (encode(RELEASE, hold.0, None, &Fact::default()), ended(HoldState::Reserved, HoldState::Released))
            }
            Batch::Abandon(hold) => {
                (encode(ABANDON, hold.0, None, &Fact::default()), ended(HoldState::Reserved, HoldState::Released))
            }
            _ => return Err(error),
        };
        self.push(&words)?;
        Ok(receipt)
    }

    /// Writes an entry to this process's ring.
    fn push(&self, words: &[u64]) -> Result<()> {
        let own = match &self.process {
            Some(process) => process.own()?,
            None => return Err(self.busy()),
        };
        let Some(_writing) = own.ring.try_lock_for(RING_BOUND) else { return Err(self.busy()) };
        let number = usize::from(self.slot());
        let (at, ring, width) = self.ring_of(number);
        let (written, read) = (self.load(at + slot::WRITTEN), self.load(at + slot::READ));
        if written - read + words.len() as u64 > width {
            let message = "the store's lock is held by a process that does not go on, and there is no room to put more \
                           records aside: see `llmquota doctor`";
            return Err(Error::new(Code::StoreBusy, "store", message));
        }
        for (step, word) in words.iter().enumerate() {
            self.set(ring + ((written + step as u64) % width) as usize, *word, Ordering::Relaxed);
        }
        // Whoever sees the new end sees the words before it.
        self.set(at + slot::WRITTEN, written + words.len() as u64, Ordering::Release);
        if let Some(put) = self.words.get(head::RINGS_PUT) {
            put.fetch_add(words.len() as u64, Ordering::Release);
        }
        Ok(())
    }

    fn busy(&self) -> Error {
        Error::new(Code::StoreBusy, "store", "the store's lock was not free within its bound")
    }

    fn set(&self, word: usize, value: u64, order: Ordering) {
        if let Some(place) = self.words.get(word) {
            place.store(value, order);
        }
    }

    /// Of a slot: its words, the first word of its ring, and the ring's words.
    fn ring_of(&self, number: usize) -> (usize, usize, u64) {
        let rings = self.map.rings;
        (self.map.slots.at(number), rings.at(number), (rings.at(1) - rings.at(0)) as u64)
    }

    /// The oldest entry of a slot's ring.
    fn aside(&self, number: usize) -> Option<Aside> {
        let (at, ring, width) = self.ring_of(number);
        let written = self.words.get(at + slot::WRITTEN)?.load(Ordering::Acquire);
        let read = self.load(at + slot::READ);
        let word = |step: usize| self.load(ring + ((read + step as u64) % width) as usize);
        (read < written).then(|| decode(word, written - read))
    }

    /// Sees to entries that no holder could count at once: reads what history has of their accounts, and tries again.
    ///
    /// # Errors
    /// Those of history, and of the disk.
    pub(crate) fn count_pending(&self) -> Result<()> {
        for number in 1..SLOTS {
            while let Some(aside) = self.aside(number) {
                let before = self.load(self.map.slots.at(number) + slot::READ);
                let attempt = Attempt::default();
                aside.with_chain(|chain| {
                    self.look(&attempt, chain)?;
                    drop(self.hold_now(&attempt)?);
                    Ok::<(), Error>(())
                })?;
                if self.load(self.map.slots.at(number) + slot::READ) == before {
                    // The table or the disk is full: later.
                    break;
                }
            }
        }
        Ok(())
    }
}

impl Held<'_> {
    /// Counts what processes have put aside.
    #[cold]
    pub(super) fn count_aside(&self) {
        // Read before the rings are: what is put from here on shows.
        let put = self.load(head::RINGS_PUT);
        fence(Ordering::Acquire);
        let mut all = true;
        for number in 1..SLOTS {
            while let Some(aside) = self.region.aside(number) {
                let (at, ..) = self.region.ring_of(number);
                let along = (at + slot::READ, self.load(at + slot::READ) + aside.len);
                self.along.set(along);
                let counted = aside.with_chain(|chain| self.count_one(&aside, chain));
                if counted.is_err_and(|error| error.code() != Code::UnknownHold) {
                    // What it needs cannot be had under the lock: the keeper sees to it.
                    self.along.set((0, 0));
                    self.attempt.forget_need();
                    all = false;
                    break;
                }
                if self.along.get() == along {
                    // Nothing was to be changed: it was a second word about a hold that had ended.
                    let mut writes = self.writes();
                    self.put_along(&mut writes);
                    // One word always fits the log.
                    let _done = writes.commit();
                }
            }
        }
        if all {
            self.store(head::RINGS_TAKEN, put);
        }
    }

    fn count_one(&self, aside: &Aside, chain: Option<&Chain<'_>>) -> Result<()> {
        let [request_id, method] = [9, 10]
            .map(|scope| aside.names.iter().find(|(named, _)| *named == scope).map_or("", |(_, text)| text.as_str()));
        let details = Details { latency_ms: aside.latency_ms, request_id, method };
        let fact = aside.fact(&details);
        let hold = HoldId(aside.hold);
        match (aside.kind, chain) {
            (RECORD, Some(chain)) => self.record(chain, &fact).map(drop),
            (SETTLE, chain) => self.settle(hold, chain, &fact).map(drop),
            (START, _) => self.start(hold).map(drop),
            (RELEASE, _) => self.release(hold).map(drop),
            (ABANDON, _) => self.abandon(hold).map(drop),
            _ => Ok(()),
        }
    }
}

fn encode(kind: u64, hold: u64, chain: Option<&Chain<'_>>, fact: &Fact<'_>) -> Vec<u64> {
    let failure = fact.failure.map_or(0, |failure| failure.kind as u64 + 1);
    let retry = fact.failure.and_then(|failure| failure.retry_after).map_or(0, |nanos| nanos.get() as u64);
    let details = fact.details.copied().unwrap_or_default();
    let mut words = vec![
        kind,
        hold,
        u64::from(fact.requests) << 32 | failure << 8 | u64::from(fact.estimated),
        fact.tokens,
        fact.input,
        fact.output,
        fact.cached,
        fact.reasoning,
        fact.cost,
        retry,
        details.latency_ms.map_or(0, |ms| u64::from(ms) + 1),
    ];
    debug_assert_eq!(words.len(), FIXED);
    let accounts = chain.map(Chain::accounts).unwrap_or_default();
    let names = accounts.iter().map(|account| (account.scope as u64, account.name));
    let texts = [(9, details.request_id), (10, details.method)].into_iter().filter(|(_, text)| !text.is_empty());
    for (scope, name) in names.chain(texts) {
        let most = name.len().min(crate::account::MAX_ID_BYTES);
        let end = (0..=most).rev().find(|end| name.is_char_boundary(*end)).unwrap_or_default();
        let bytes = name.as_bytes().get(..end).unwrap_or_default();
        words.push(scope << 32 | bytes.len() as u64);
        words.extend(bytes.chunks(8).map(word_of));
    }
    let len = words.len() as u64;
    if let Some(first) = words.first_mut() {
        *first |= len << 8;
    }
    words
}

/// `bound` is how many words there are: a damaged ring names more.
fn decode(word: impl Fn(usize) -> u64, bound: u64) -> Aside {
    let len = (word(0) >> 8).clamp(1, bound);
    let mut aside = Aside { kind: word(0) & 0xff, hold: word(1), len, ..Aside::default() };
    for (step, number) in aside.numbers.iter_mut().enumerate() {
        *number = word(2 + step);
    }
    aside.latency_ms = word(10).checked_sub(1).and_then(|ms| u32::try_from(ms).ok());
    let mut at = FIXED;
    while (at as u64) < len {
        let (scope, bytes) = ((word(at) >> 32) as u8, word(at) as u32 as usize);
        let count = bytes.div_ceil(8);
        if (at + 1 + count) as u64 > len {
            break;
        }
        aside.names.push((scope, text_of((0..count).map(|step| word(at + 1 + step)), bytes)));
        at += 1 + count;
    }
    aside
}

impl Aside {
    fn fact<'a>(&self, details: &'a Details<'a>) -> Fact<'a> {
        let [packed, tokens, input, output, cached, reasoning, cost, retry] = self.numbers;
        let kind = (packed >> 8 & 0xff).checked_sub(1).and_then(|kind| FailureKind::from_u8(kind as u8));
        let retry_after = std::num::NonZeroI64::new(retry as i64);
        Fact {
            requests: (packed >> 32) as u32,
            tokens,
            input,
            output,
            cached,
            reasoning,
            cost,
            estimated: packed & 1 == 1,
            failure: kind.map(|kind| Failure { kind, retry_after }),
            details: Some(details),
        }
    }

    /// With its accounts as a chain; `None` where it names none.
    fn with_chain<R>(&self, run: impl FnOnce(Option<&Chain<'_>>) -> R) -> R {
        let (mut workspace, mut credential) = ("", "");
        let mut chain = Chain::default();
        for (scope, name) in self.names.iter().take(MAX_CHAIN + 2) {
            let Some(scope) = Scope::from_u8(*scope) else { continue };
            let owner = match scope {
                Scope::Workspace | Scope::Credential | Scope::Limiter => "",
                Scope::ProviderModel => credential,
                Scope::Goal | Scope::Task | Scope::Model | Scope::User => workspace,
            };
            match scope {
                Scope::Workspace => workspace = name,
                Scope::Credential => credential = name,
                _ => {}
            }
            chain.push(AccountId { scope, owner, name });
        }
        run((!chain.accounts().is_empty()).then_some(&chain))
    }
}
