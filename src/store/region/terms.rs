//! Terms: the limits of an account as the region keeps them, and the time zones as this process knows them.

use std::collections::HashMap;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;
use jiff::tz::TimeZone;
use parking_lot::Mutex;

use super::Region;
use super::accounts::{LOW, Rows};
use super::events::What;
use super::held::{Held, View};
use super::keys::{text_of, words_of};
use super::layout::{ZONE_WORDS, ZONES, head, row, terms};
use crate::account::AccountId;
use crate::clock::SECOND;
use crate::config::{Config, time_zone};
use crate::rules::limits::{Limit, LimitKind, LimitSet, Mode, Thresholds};
use crate::rules::windows::Periods;
use crate::usage::history::Starts;

/// The bits of a row's word of terms that name their entry, and where those of the time zone begin.
const ENTRY: u64 = (1 << ZONE_SHIFT) - 1;
const ZONE_SHIFT: u32 = 20;

/// The time zone in a row's word of terms.
const fn zone_in(word: u64) -> u64 {
    (word & LOW) >> ZONE_SHIFT
}

/// What a process knows beside the region. No lock of it outlives a fork: the configuration is swapped whole, and the mutex,
/// which is only taken under the region's lock, is replaced in a child.
#[derive(Debug)]
pub(super) struct Local {
    config: ArcSwap<Config>,
    /// Entries of the table of terms by content, of this epoch.
    known: ArcSwap<Mutex<Known>>,
    zones: Box<[OnceLock<Zone>]>,
    /// When an override ends (wall nanoseconds).
    next_expiry: AtomicI64,
    changed: AtomicU64,
    /// The published version that the configuration is of.
    version: AtomicU64,
}

#[derive(Debug, Default)]
struct Known {
    epoch: u64,
    entries: HashMap<[u64; terms::LEN], u32>,
}

/// A time zone and its periods as of the last question.
#[derive(Debug)]
struct Zone {
    zone: TimeZone,
    periods: [AtomicI64; 6],
}

impl Zone {
    fn new(zone: TimeZone) -> Self {
        Self { zone, periods: [const { AtomicI64::new(0) }; 6] }
    }

    /// Only called under the region's lock, so the six words belong together.
    #[inline]
    fn periods(&self, wall: i64) -> Periods {
        self.known(wall).unwrap_or_else(|| self.reckon(wall))
    }

    #[inline]
    fn known(&self, wall: i64) -> Option<Periods> {
        let [hour, hour_end, day, day_end, month, month_end] = &self.periods;
        let load = |word: &AtomicI64| word.load(Ordering::Relaxed);
        let known = Periods {
            hour: load(hour),
            hour_end: load(hour_end),
            day: load(day),
            day_end: load(day_end),
            month: load(month),
            month_end: load(month_end),
        };
        known.contains(wall.div_euclid(SECOND)).then_some(known)
    }

    #[cold]
    fn reckon(&self, wall: i64) -> Periods {
        let periods = Periods::of(&self.zone, wall);
        let values = [periods.hour, periods.hour_end, periods.day, periods.day_end, periods.month, periods.month_end];
        for (word, value) in self.periods.iter().zip(values) {
            word.store(value, Ordering::Relaxed);
        }
        periods
    }
}

impl Local {
    pub(super) fn new(config: Arc<Config>) -> Self {
        Self {
            next_expiry: AtomicI64::new(config.next_expiry().unwrap_or(i64::MAX)),
            config: ArcSwap::new(config),
            known: ArcSwap::default(),
            zones: (0..ZONES).map(|_| OnceLock::new()).collect(),
            changed: AtomicU64::new(0),
            version: AtomicU64::new(0),
        }
    }

    fn follows(&self, version: u64) {
        self.version.fetch_max(version, Ordering::AcqRel);
    }

    #[inline]
    fn is_of(&self, version: u64) -> bool {
        self.version.load(Ordering::Relaxed) >= version
    }

    /// In a forked child: the mutex may be held by a thread that does not exist here.
    pub(super) fn arrive_in_child(&self) {
        self.known.store(Arc::default());
    }
}

/// A zone's name as its entry of the table: the length, then the bytes.
pub(super) fn name_words(name: &str) -> [u64; ZONE_WORDS] {
    let mut words = [0; ZONE_WORDS];
    let [first, rest @ ..] = &mut words;
    (*first, *rest) = (name.len() as u64, words_of(name.as_bytes()));
    words
}

impl Region {
    /// The calendar periods of a zone's place. Under the lock only.
    #[inline]
    pub(super) fn periods(&self, zone: u64, wall: i64) -> Periods {
        let known = usize::try_from(zone).ok().and_then(|zone| self.local.zones.get(zone)).and_then(OnceLock::get);
        known.or_else(|| self.zone(zone)).map_or_else(|| Periods::of(&TimeZone::UTC, wall), |zone| zone.periods(wall))
    }

    /// A zone of the table, as this process knows it.
    #[cold]
    fn zone(&self, zone: u64) -> Option<&Zone> {
        let place = usize::try_from(zone).ok().and_then(|zone| self.local.zones.get(zone))?;
        Some(place.get_or_init(|| Zone::new(time_zone("timezone", &self.zone_name(zone)).unwrap_or(TimeZone::UTC))))
    }

    /// The name of a zone of the table; that of UTC where it has none.
    pub(super) fn zone_name(&self, zone: u64) -> String {
        let at = self.map.zones.at((zone as usize).min(ZONES - 1));
        let name = text_of((1..ZONE_WORDS).map(|word| self.load(at + word)), self.load(at) as usize);
        if name.is_empty() { "UTC".to_owned() } else { name }
    }

    /// Takes another configuration: each account takes its limits anew at its next use.
    pub(super) fn set_config(&self, config: Arc<Config>) {
        self.local.next_expiry.store(config.next_expiry().unwrap_or(i64::MAX), Ordering::Relaxed);
        self.local.config.store(config);
        self.local.changed.fetch_add(1, Ordering::Release);
    }

    /// True where at this wall time no hour has ended in any zone since the epoch began.
    #[inline]
    pub(super) fn is_calm(&self, wall: i64) -> bool {
        self.load(head::CALM_FROM) as i64 <= wall && wall < self.load(head::CALM_UNTIL) as i64
    }

    /// True where a configuration waits to be taken, or an override has ended.
    pub(super) fn config_waits(&self, wall: i64) -> bool {
        self.local.changed.load(Ordering::Acquire) != 0 || wall >= self.local.next_expiry.load(Ordering::Relaxed)
    }
}

impl Region {
    /// The version of the published configuration that this region follows.
    pub(crate) fn config_version(&self) -> u64 {
        self.words.get(head::CONFIG_VERSION).map_or(0, |word| word.load(Ordering::Acquire))
    }

    /// Notes which published configuration this process has.
    pub(crate) fn follows(&self, version: u64) {
        self.local.follows(version);
    }

    /// True where this process has the configuration that was published last.
    #[inline]
    pub(crate) fn is_up_to_date(&self) -> bool {
        !self.is_shared() || self.local.is_of(self.load(head::CONFIG_VERSION))
    }

    /// Notes that another configuration is published.
    pub(crate) fn set_config_version(&self, version: u64) {
        if let Some(word) = self.words.get(head::CONFIG_VERSION) {
            word.fetch_max(version, Ordering::AcqRel);
        }
    }
}

impl View<'_> {
    /// The calendar periods of an account's time zone.
    pub(super) fn periods(&self, base: usize) -> Periods {
        self.region.periods(self.zone_of(base), self.now.wall)
    }

    /// True where no hour has ended in any zone since the epoch began.
    #[inline]
    pub(super) fn is_calm(&self) -> bool {
        self.region.is_calm(self.now.wall)
    }

    /// The first word of an account's terms.
    #[inline]
    pub(super) fn terms_at(&self, base: usize) -> usize {
        let entry = (self.load(base + row::TERMS) & ENTRY) as usize;
        self.map().terms.at(entry.min(self.map().terms.count() - 1))
    }

    pub(super) fn zone_of(&self, base: usize) -> u64 {
        zone_in(self.load(base + row::TERMS))
    }

    /// True where an account has limits of its own, as of its last use.
    pub(super) fn has_limits(&self, base: usize) -> bool {
        self.load(base + row::TERMS) != 0 && self.load(self.terms_at(base) + terms::FLAGS) & 0xffff != 0
    }

    /// The limits and thresholds of an account.
    pub(super) fn limits_of(&self, base: usize) -> (LimitSet, Thresholds) {
        let at = self.terms_at(base);
        unpack(|step| self.load(at + step))
    }
}

impl Held<'_> {
    /// Takes a configuration that waits, and begins an epoch where an hour has ended.
    #[inline]
    pub(super) fn bring_epoch(&self) {
        if self.region.config_waits(self.now.wall) {
            self.take_config();
        }
        if !self.is_calm() {
            self.renew_calm();
        }
    }

    /// An hour has ended in some zone, or the clock was set: reckons how long none ends.
    #[cold]
    fn renew_calm(&self) {
        let (mut from, mut until) = (i64::MIN, i64::MAX);
        for zone in 0..self.load(head::ZONES_USED) {
            let periods = self.region.periods(zone, self.now.wall);
            from = from.max(periods.hour.saturating_mul(SECOND));
            until = until.min(periods.hour_end.saturating_mul(SECOND));
        }
        let latest = self.load(head::LATEST_HOUR) as i64;
        let mut writes = self.writes();
        if self.now.wall < self.load(head::CALM_FROM) as i64 {
            writes.put(head::COUNTED_UNTIL, latest.max(self.load(head::COUNTED_UNTIL) as i64) as u64);
        }
        if until != i64::MAX {
            writes.put(head::LATEST_HOUR, latest.max(until) as u64);
        }
        writes.put(head::CALM_FROM, from as u64);
        writes.put(head::CALM_UNTIL, until as u64);
        writes.put(head::EPOCH, self.load(head::EPOCH) + 1);
        // Five words always fit the log.
        let _done = writes.commit();
    }

    #[cold]
    fn take_config(&self) {
        let local = &self.region.local;
        local.changed.store(0, Ordering::Release);
        let mut config = local.config.load_full();
        if let Some(without) = config.without_expired(self.now.wall) {
            let without = Arc::new(without);
            // Where somebody configures just now, theirs holds, and the expired override is found there again.
            local.config.compare_and_swap(&config, Arc::clone(&without));
            config = without;
        }
        local.next_expiry.store(config.next_expiry().unwrap_or(i64::MAX), Ordering::Relaxed);
        self.begin_terms();
        self.announce_alone(What::Config, &Rows::default());
    }

    /// Every account takes its terms anew.
    fn begin_terms(&self) {
        let mut writes = self.writes();
        let epoch = self.load(head::EPOCH) + 1;
        writes.put(head::EPOCH, epoch);
        writes.put(head::TERMS_SINCE, epoch);
        writes.put(head::TERMS_USED, 0);
        // Three words always fit the log.
        let _done = writes.commit();
    }

    /// Gives an account the terms and the periods of this epoch. False where history has to be asked for them first.
    #[cold]
    pub(super) fn begin_epoch_for(&self, account: u32, base: usize) -> bool {
        let brought = self.load(base + row::TERMS);
        let stale = brought == 0 || brought >> 32 < self.load(head::TERMS_SINCE) & LOW;
        let entry = if stale { u64::from(self.entry_of(self.resolve_row(base))) } else { brought & ENTRY };
        let zone = self.load(self.map().terms.at(entry as usize) + terms::ZONE);
        let before = if brought == 0 { zone } else { zone_in(brought) };
        let was = self.region.periods(before, self.now.wall);
        if !self.bring_periods(account, base, &was) {
            return false;
        }
        let is = self.region.periods(zone, self.now.wall);
        if zone != before {
            // Another zone does not make what was used today unused: the running periods go on under their new starts.
            self.rename_periods_of_holds(account, &was, &is);
        }
        let mut writes = self.writes();
        if zone != before {
            self.tell_rezone(&mut writes, account, zone, &starts(&was), &starts(&is));
            for (start, begins) in [(row::HOUR, is.hour), (row::DAY, is.day), (row::MONTH, is.month)] {
                writes.put(base + start, begins as u64);
            }
        }
        // Last: whoever finds this epoch here takes the periods for those of now.
        writes.put(base + row::TERMS, (self.load(head::EPOCH) & LOW) << 32 | zone << ZONE_SHIFT | entry);
        // Four words always fit the log.
        let _done = writes.commit();
        true
    }

    fn resolve_row(&self, base: usize) -> [u64; terms::LEN] {
        let owner = self.owner_of(base);
        let owner = if owner == 0 { String::new() } else { self.name_of(self.row(owner)) };
        let name = self.name_of(base);
        let Some(scope) = self.scope_of(base) else { return [0; terms::LEN] };
        self.resolve(&AccountId { scope, owner: &owner, name: &name })
    }

    /// The terms that the configuration gives to an account, as an entry of the table.
    pub(super) fn resolve(&self, account: &AccountId<'_>) -> [u64; terms::LEN] {
        let local = &self.region.local;
        let resolved = local.config.load().resolve(*account, self.now.wall);
        let mut packed = [0; terms::LEN];
        let (mut present, mut observed) = (0_u64, 0_u64);
        for (kind, limit) in resolved.limits.iter() {
            present |= 1 << kind as u32;
            observed |= u64::from(limit.mode == Mode::Observe) << (kind as u32);
            if let Some(cap) = packed.get_mut(terms::CAPS + kind as usize) {
                *cap = limit.cap;
            }
        }
        let Thresholds { near, critical } = resolved.thresholds;
        packed[terms::FLAGS] = present | observed << 16 | u64::from(near) << 32 | u64::from(critical) << 40;
        packed[terms::ZONE] = self.zone_named(resolved.timezone.iana_name().unwrap_or("UTC"));
        packed
    }

    /// The place of a zone in the table: the one it has, or the next free one; that of UTC where all are taken.
    pub(super) fn zone_named(&self, name: &str) -> u64 {
        let words = name_words(name);
        let used = self.load(head::ZONES_USED).min(ZONES as u64);
        let is_at = |zone: &u64| {
            let at = self.map().zones.at(*zone as usize);
            words.iter().enumerate().all(|(step, word)| self.load(at + step) == *word)
        };
        if let Some(known) = (0..used).find(is_at) {
            return known;
        }
        if used == ZONES as u64 || name.len() > (ZONE_WORDS - 1) * 8 {
            return 0;
        }
        let at = self.map().zones.at(used as usize);
        let mut writes = self.writes();
        for (step, word) in words.into_iter().enumerate() {
            writes.put(at + step, word);
        }
        writes.put(head::ZONES_USED, used + 1);
        // Its hours end when no other's do.
        writes.put(head::CALM_UNTIL, 0);
        // Ten words always fit the log.
        let _done = writes.commit();
        used
    }

    /// True where the configuration gives an account a limit that refuses.
    pub(super) fn is_limited(&self, account: &AccountId<'_>) -> bool {
        let packed = self.resolve(account);
        let (limits, _) = unpack(|step| packed.get(step).copied().unwrap_or(0));
        limits.iter().any(|(_, limit)| limit.mode == Mode::Enforce)
    }

    /// The entry with these contents: the one there is, or a new one. Where the table is full, a new epoch begins, in which
    /// every account takes its terms anew, those of this batch too ([`Held::bring`] sees to it).
    fn entry_of(&self, packed: [u64; terms::LEN]) -> u32 {
        let known = self.region.local.known.load();
        let mut known = known.lock();
        let mut epoch = self.load(head::TERMS_SINCE);
        if known.epoch != epoch {
            known.entries.clear();
            known.epoch = epoch;
        }
        if let Some(entry) = known.entries.get(&packed) {
            return *entry;
        }
        let mut used = self.load(head::TERMS_USED) as usize;
        if used >= self.map().terms.count() {
            self.begin_terms();
            epoch = self.load(head::TERMS_SINCE);
            known.entries.clear();
            known.epoch = epoch;
            used = 0;
        }
        let at = self.map().terms.at(used);
        let mut writes = self.writes();
        for (step, word) in packed.iter().enumerate() {
            writes.put(at + step, *word);
        }
        writes.put(head::TERMS_USED, used as u64 + 1);
        let _done = writes.commit();
        let entry = u32::try_from(used).unwrap_or(0);
        known.entries.insert(packed, entry);
        entry
    }
}

fn starts(periods: &Periods) -> Starts {
    Starts { hour: periods.hour, day: periods.day, month: periods.month }
}

/// The limits and thresholds that an entry holds.
pub(super) fn unpack(word: impl Fn(usize) -> u64) -> (LimitSet, Thresholds) {
    let flags = word(terms::FLAGS);
    let mut limits = LimitSet::NONE;
    for kind in LimitKind::ALL {
        if flags >> (kind as u32) & 1 == 1 {
            let observed = flags >> (16 + kind as u32) & 1 == 1;
            let mode = if observed { Mode::Observe } else { Mode::Enforce };
            limits.set(kind, Some(Limit { cap: word(terms::CAPS + kind as usize), mode }));
        }
    }
    (limits, Thresholds { near: (flags >> 32 & 0xff) as u8, critical: (flags >> 40 & 0xff) as u8 })
}
