//! Where everything lies: the words of the header and of each table's entries, the same on private memory and in a file.

mod tables;

pub(super) use tables::{
    EVICTED_STRIPES, HOLD_SLOT_BITS, HOLD_SLOTS, LEAST_BYTES, LOGS, Map, SLOTS, Table, ZONE_WORDS, ZONES,
};

/// "llmquota" as a word, at the head of every region.
pub(super) const MAGIC: u64 = u64::from_le_bytes(*b"llmquota");
/// In its place, once a process that had the region open found that it is not what it was.
pub(super) const SPOILT: u64 = u64::from_le_bytes(*b"spoilt!!");
/// Version of this layout. The first three words of the header, and those of the journal's ends, stay where they are in every
/// version: by them an older or a newer file is told apart, and an older one that is drained can be made anew.
pub(super) const VERSION: u64 = 8;

/// The words of the header.
pub(super) mod head {
    /// [`super::MAGIC`], written last.
    pub(in crate::store::region) const MAGIC: usize = 0;
    /// [`super::VERSION`].
    pub(in crate::store::region) const VERSION: usize = 1;
    /// Words of the whole region.
    pub(in crate::store::region) const WORDS: usize = 2;
    /// Number of the last hold.
    pub(in crate::store::region) const HOLD_SEQUENCE: usize = 3;
    /// Where the search for a free hold goes on.
    pub(in crate::store::region) const HOLD_CURSOR: usize = 4;
    /// No open hold expires before this (monotonic nanoseconds).
    pub(in crate::store::region) const HOLD_EXPIRY: usize = 5;
    /// Rows ever taken from the table.
    pub(in crate::store::region) const ROWS_USED: usize = 6;
    /// First row of the free list.
    pub(in crate::store::region) const ROWS_FREE: usize = 7;
    /// The lock, on a cache line of its own.
    pub(in crate::store::region) const LOCK: usize = 8;
    /// The latest exact time that a batch had (monotonic nanoseconds); written under the lock alone, so on its line.
    pub(in crate::store::region) const LATEST: usize = 9;
    /// Processes that listen to events; asked by each batch, so on the line that it has anyway.
    pub(in crate::store::region) const LISTENERS: usize = 10;
    /// Tickets of those who wait; asked by each reserve, so there too.
    pub(in crate::store::region) const TICKETS_OPEN: usize = 11;
    /// How far the batch is: the number of its log << 48 | images kept << 32 | notes, once it is decided; 0 for done.
    pub(in crate::store::region) const BATCH: usize = 16;
    /// Lines ever taken from the arena.
    pub(in crate::store::region) const LINES_USED: usize = 17;
    /// First free block of each of the four sizes.
    pub(in crate::store::region) const LINES_FREE: usize = 18;
    /// Rises with each configuration, and when an hour ends in any time zone in use: each account is then brought up anew.
    pub(in crate::store::region) const EPOCH: usize = 22;
    /// Entries of the table of terms in use.
    pub(in crate::store::region) const TERMS_USED: usize = 23;
    /// Where the search for an idle account goes on.
    pub(in crate::store::region) const SWEEP_ROW: usize = 24;
    /// Accounts and calls that were folded into their workspace's `other`.
    pub(in crate::store::region) const FOLDED: usize = 25;
    /// Breakers ever taken from the table.
    pub(in crate::store::region) const BREAKERS_USED: usize = 26;
    /// Where the search for a breaker that nobody needs goes on.
    pub(in crate::store::region) const BREAKERS_CURSOR: usize = 27;
    /// First row of the list of outermost accounts.
    pub(in crate::store::region) const OUTERMOST: usize = 28;
    /// The epoch that the last configuration began.
    pub(in crate::store::region) const TERMS_SINCE: usize = 29;
    /// In no time zone in use did an hour begin or end from here (wall nanoseconds)
    pub(in crate::store::region) const CALM_FROM: usize = 30;
    /// until before here.
    pub(in crate::store::region) const CALM_UNTIL: usize = 31;
    /// Sequence number of the next entry of the journal.
    pub(in crate::store::region) const JOURNAL_TAIL: usize = 32;
    /// Every entry before this number is kept in history.
    pub(in crate::store::region) const JOURNAL_DRAINED: usize = 33;
    /// Open holds.
    pub(in crate::store::region) const HOLDS_OPEN: usize = 34;
    /// Rises with each batch that found the journal full.
    pub(in crate::store::region) const OVERFLOWS: usize = 35;
    /// The boot of the machine in which this file was made.
    pub(in crate::store::region) const BOOT: usize = 36;
    /// The device that the file lies on
    pub(in crate::store::region) const DEVICE: usize = 37;
    /// and its inode: a copy has another.
    pub(in crate::store::region) const INODE: usize = 38;
    /// The version of the published configuration.
    pub(in crate::store::region) const CONFIG_VERSION: usize = 39;
    /// Words ever put into the rings of processes
    pub(in crate::store::region) const RINGS_PUT: usize = 40;
    /// and how many that was when all were last taken out.
    pub(in crate::store::region) const RINGS_TAKEN: usize = 41;
    /// What was touched before this monotonic second is wholly in history.
    pub(in crate::store::region) const DRAINED_SECOND: usize = 42;
    /// Entries of the growing tables that have bytes on the disk: rows,
    pub(in crate::store::region) const ROWS_BACKED: usize = 43;
    /// lines,
    pub(in crate::store::region) const LINES_BACKED: usize = 44;
    /// holds.
    pub(in crate::store::region) const HOLDS_BACKED: usize = 45;
    /// Time zones in use.
    pub(in crate::store::region) const ZONES_USED: usize = 46;
    /// Accounts that were ever given to history alone.
    pub(in crate::store::region) const EVICTED: usize = 47;
    /// The bound that the tables were sized by, in bytes.
    pub(in crate::store::region) const BYTES: usize = 48;
    /// Somebody waits until history has every entry before this number.
    pub(in crate::store::region) const HURRY: usize = 49;
    /// How many of those batches history makes up for.
    pub(in crate::store::region) const OVERFLOWS_WRITTEN: usize = 50;
    /// How many events were ever written.
    pub(in crate::store::region) const EVENTS: usize = 51;
    /// Of so many of them the limits were looked at.
    pub(in crate::store::region) const EVENTS_LOOKED: usize = 52;
    /// Rises with each waking of those who sleep until there are events: the kernel's wait compares its low half.
    pub(in crate::store::region) const EVENTS_BELL: usize = 64;
    /// 1 where somebody may sleep.
    pub(in crate::store::region) const EVENTS_SLEEPING: usize = 65;
    /// The device that the file of locks lies on, by which the processes of this region know who lives,
    pub(in crate::store::region) const LOCK_DEVICE: usize = 53;
    /// and its inode.
    pub(in crate::store::region) const LOCK_INODE: usize = 54;
    /// The end of the latest hour that any wall clock of this store has shown (wall nanoseconds).
    pub(in crate::store::region) const LATEST_HOUR: usize = 55;
    /// A period that begins before this may have been counted already: a clock was set back from it, or history goes so far.
    pub(in crate::store::region) const COUNTED_UNTIL: usize = 56;
    /// Number of the last who came to wait.
    pub(in crate::store::region) const ARRIVALS: usize = 57;
    /// Tickets from the first to the last that is open.
    pub(in crate::store::region) const TICKETS_USED: usize = 58;
    /// The ticket that was given back last, by its number from 1.
    pub(in crate::store::region) const TICKETS_FREE: usize = 59;
    /// The clocks of turns, one for each priority: the latest start that was served.
    pub(in crate::store::region) const TURN_CLOCKS: usize = 60;
    /// Words of the header.
    pub(in crate::store::region) const LEN: usize = 128;
}

/// The words of an image: what an account's row and a bucket of its minute were before a batch changed them.
pub(super) mod image {
    use super::{bucket, row};

    /// The row's first word.
    pub(in crate::store::region) const ROW: usize = 0;
    /// The bucket's; 0 for none.
    pub(in crate::store::region) const BUCKET: usize = 1;
    /// The row's words.
    pub(in crate::store::region) const ROW_WORDS: usize = 8;
    /// The bucket's.
    pub(in crate::store::region) const BUCKET_WORDS: usize = ROW_WORDS + row::LEN;
    /// Words of an image: eight cache lines.
    pub(in crate::store::region) const LEN: usize = BUCKET_WORDS + bucket::LEN;
}

/// The words of an account's row.
pub(super) mod row {
    /// Hash of scope, owner and name.
    pub(in crate::store::region) const HASH: usize = 0;
    /// Owner's row << 32 | length of the name << 16 | scope.
    pub(in crate::store::region) const KEY: usize = 1;
    /// Epoch of the last bringing up << 32 | time zone << 20 | entry of the terms.
    pub(in crate::store::region) const TERMS: usize = 2;
    /// First line of the ring << 32 | size class << 16 | first bucket << 8 | buckets.
    pub(in crate::store::region) const RING: usize = 3;
    /// Monotonic second of the last touch << 32 | open holds.
    pub(in crate::store::region) const SEEN: usize = 4;
    /// Next row with the same place in the index << 32 | breaker.
    pub(in crate::store::region) const LINK: usize = 5;
    /// Wall nanoseconds of the last error, 0 for none.
    pub(in crate::store::region) const LAST_ERROR: usize = 6;
    /// Rises with each change.
    pub(in crate::store::region) const VERSION: usize = 7;
    /// The first [`NAME_WORDS`] words of the name.
    pub(in crate::store::region) const NAME: usize = 8;
    /// How many words of a name lie in the row.
    pub(in crate::store::region) const NAME_WORDS: usize = 5;
    /// First line of the rest of the name, 0 for none.
    pub(in crate::store::region) const NAME_REST: usize = 13;
    /// Requests of the live buckets << 32 | those held.
    pub(in crate::store::region) const MINUTE_REQUESTS: usize = 14;
    /// Tokens of the live buckets.
    pub(in crate::store::region) const MINUTE_TOKENS: usize = 15;
    /// Tokens held in the live buckets.
    pub(in crate::store::region) const MINUTE_HELD: usize = 16;
    /// First row inside this one << 32 | row before this one in its owner's list.
    pub(in crate::store::region) const KIN: usize = 17;
    /// The lifetime counters, [`super::total`].
    pub(in crate::store::region) const TOTAL: usize = 18;
    /// The hour: start, requests << 32 | held.
    pub(in crate::store::region) const HOUR: usize = 25;
    /// The day's [`super::cell`].
    pub(in crate::store::region) const DAY: usize = 27;
    /// The month's [`super::cell`].
    pub(in crate::store::region) const MONTH: usize = 37;
    /// Row after this one in its owner's list << 32 | wall second of the last touch, halved.
    pub(in crate::store::region) const NEXT_KIN: usize = 47;
    /// Words of a row: six cache lines.
    pub(in crate::store::region) const LEN: usize = 48;
}

/// The words of a row's lifetime counters, from [`row::TOTAL`].
pub(super) mod total {
    /// Requests.
    pub(in crate::store::region) const REQUESTS: usize = 0;
    /// Errors.
    pub(in crate::store::region) const ERRORS: usize = 1;
    /// Tokens.
    pub(in crate::store::region) const TOKENS: usize = 2;
    /// Tokens sent.
    pub(in crate::store::region) const INPUT: usize = 3;
    /// Tokens made.
    pub(in crate::store::region) const OUTPUT: usize = 4;
    /// Cached tokens.
    pub(in crate::store::region) const CACHED: usize = 5;
    /// Nano-dollars.
    pub(in crate::store::region) const COST: usize = 6;
}

/// The words of a day's or month's counters.
pub(super) mod cell {
    /// Unix seconds of the period's start; 0 for an unused cell.
    pub(in crate::store::region) const START: usize = 0;
    /// Requests.
    pub(in crate::store::region) const REQUESTS: usize = 1;
    /// Errors << 32 | requests held.
    pub(in crate::store::region) const ERRORS: usize = 2;
    /// Tokens.
    pub(in crate::store::region) const TOKENS: usize = 3;
    /// Tokens sent.
    pub(in crate::store::region) const INPUT: usize = 4;
    /// Tokens made.
    pub(in crate::store::region) const OUTPUT: usize = 5;
    /// Cached tokens.
    pub(in crate::store::region) const CACHED: usize = 6;
    /// Nano-dollars.
    pub(in crate::store::region) const COST: usize = 7;
    /// Tokens held.
    pub(in crate::store::region) const HELD_TOKENS: usize = 8;
    /// Nano-dollars held.
    pub(in crate::store::region) const HELD_COST: usize = 9;
    /// Words of a cell.
    pub(in crate::store::region) const LEN: usize = 10;
}

/// The words of a bucket of the minute: one cache line.
pub(super) mod bucket {
    /// Monotonic second << [`HELD_BITS`] | requests held.
    pub(in crate::store::region) const SECOND: usize = 0;
    /// Requests << 32 | errors.
    pub(in crate::store::region) const REQUESTS: usize = 1;
    /// Tokens.
    pub(in crate::store::region) const TOKENS: usize = 2;
    /// Tokens sent.
    pub(in crate::store::region) const INPUT: usize = 3;
    /// Tokens made.
    pub(in crate::store::region) const OUTPUT: usize = 4;
    /// Cached tokens.
    pub(in crate::store::region) const CACHED: usize = 5;
    /// Nano-dollars.
    pub(in crate::store::region) const COST: usize = 6;
    /// Tokens held.
    pub(in crate::store::region) const HELD_TOKENS: usize = 7;
    /// Words of a bucket.
    pub(in crate::store::region) const LEN: usize = 8;
    /// Bits of the requests held in a bucket.
    pub(in crate::store::region) const HELD_BITS: u32 = 24;
    /// The most requests that a bucket can hold.
    pub(in crate::store::region) const HELD_MOST: u64 = (1 << HELD_BITS) - 1;
}

/// The words of a hold.
pub(super) mod hold {
    /// Its number; 0 for a slot never used.
    pub(in crate::store::region) const ID: usize = 0;
    /// Accounts << 16 | breakers it probes (a bit an account) << 8 | state.
    pub(in crate::store::region) const STATE: usize = 1;
    /// Monotonic nanoseconds of its grant.
    pub(in crate::store::region) const GRANTED: usize = 2;
    /// Monotonic nanoseconds of its expiry.
    pub(in crate::store::region) const EXPIRY: usize = 3;
    /// Requests held.
    pub(in crate::store::region) const REQUESTS: usize = 4;
    /// Tokens held.
    pub(in crate::store::region) const TOKENS: usize = 5;
    /// Nano-dollars held.
    pub(in crate::store::region) const MONEY: usize = 6;
    /// For each account: its row << 32 | low half of its hash.
    pub(in crate::store::region) const ROWS: usize = 7;
    /// For each account: how many seconds before the hour the day began << 32 | the month.
    pub(in crate::store::region) const PERIODS: usize = 14;
    /// For each account: start of the hour (Unix seconds).
    pub(in crate::store::region) const HOURS: usize = 21;
    /// Whose it is: the process's incarnation << 8 | its slot.
    pub(in crate::store::region) const OWNER: usize = 28;
    /// Wall nanoseconds of its grant.
    pub(in crate::store::region) const GRANTED_WALL: usize = 29;
    /// Words of a hold.
    pub(in crate::store::region) const LEN: usize = 32;
}

/// The words of a ticket: two cache lines, of which the first says whether the second matters.
pub(super) mod ticket {
    use crate::account::MAX_CHAIN;

    /// Its number among all that ever came; 0 for a free one.
    pub(in crate::store::region) const ARRIVAL: usize = 0;
    /// Priority and start, as [`crate::rules::turns::Place::packed`].
    pub(in crate::store::region) const ORDER: usize = 1;
    /// Where it ends on the clock of turns.
    pub(in crate::store::region) const END: usize = 2;
    /// Whose it is: the process's incarnation << 8 | its slot.
    pub(in crate::store::region) const OWNER: usize = 3;
    /// When it stands in nobody's way any more, unless its owner looks again (monotonic nanoseconds).
    pub(in crate::store::region) const UNTIL: usize = 4;
    /// Requests asked << 16 | a bit for each account that was in its way at its last try, or that those before it wait for.
    pub(in crate::store::region) const BLOCKED: usize = 5;
    /// Tokens asked.
    pub(in crate::store::region) const TOKENS: usize = 6;
    /// Nano-dollars asked.
    pub(in crate::store::region) const MONEY: usize = 7;
    /// The hashes of its accounts, 0 where it has no more.
    pub(in crate::store::region) const HASHES: usize = 8;
    /// Words of a ticket.
    pub(in crate::store::region) const LEN: usize = 16;

    const _: () = assert!(HASHES + MAX_CHAIN <= LEN, "a ticket has room for the longest chain");
}

/// The words of an account's terms: its limits as the store keeps them.
pub(super) mod terms {
    /// Limits present | those observed << 16 | near << 32 | critical << 40.
    pub(in crate::store::region) const FLAGS: usize = 0;
    /// The caps, by kind.
    pub(in crate::store::region) const CAPS: usize = 1;
    /// The time zone.
    pub(in crate::store::region) const ZONE: usize = 10;
    /// Words of an entry.
    pub(in crate::store::region) const LEN: usize = 16;
}

/// The words of a breaker.
pub(super) mod breaker {
    /// For a workspace's: the provider account whose breaker it met last << 32 | whose it is.
    pub(in crate::store::region) const ROW: usize = 0;
    /// Strikes << 8 | cause.
    pub(in crate::store::region) const STATE: usize = 1;
    /// When it opened.
    pub(in crate::store::region) const OPENED: usize = 2;
    /// Until when.
    pub(in crate::store::region) const UNTIL: usize = 3;
    /// Until when the probe is waited for.
    pub(in crate::store::region) const PROBE: usize = 4;
    /// Start of the current half of the rate window.
    pub(in crate::store::region) const HALF: usize = 5;
    /// Calls, the current half << 32 | the one before.
    pub(in crate::store::region) const CALLS: usize = 6;
    /// Failures, likewise.
    pub(in crate::store::region) const FAILURES: usize = 7;
    /// Words of a breaker.
    pub(in crate::store::region) const LEN: usize = 8;
}

/// The words of a past period: the account's hash, its row << 8 | which period, and the cell.
pub(super) mod past {
    /// The account's hash; 0 for a free place.
    pub(in crate::store::region) const HASH: usize = 0;
    /// Row << 8 | which.
    pub(in crate::store::region) const KEY: usize = 1;
    /// The cell.
    pub(in crate::store::region) const CELL: usize = 2;
    /// Words of an entry.
    pub(in crate::store::region) const LEN: usize = 12;
}

/// The words of an entry of the journal. Past the first [`entry::SHORT`] only what the entry has is written.
pub(super) mod entry {
    /// Its sequence number.
    pub(in crate::store::region) const SEQUENCE: usize = 0;
    /// Checksum of the words that follow, and of the number.
    pub(in crate::store::region) const CHECK: usize = 1;
    /// Kind | flags << 8 | accounts << 16 | words << 24 | failure << 32 | span << 40.
    pub(in crate::store::region) const HEAD: usize = 2;
    /// Wall nanoseconds.
    pub(in crate::store::region) const AT: usize = 3;
    /// The accounts' rows, two a word.
    pub(in crate::store::region) const ROWS: usize = 4;
    /// The low quarters of the accounts' hashes, four a word; the last quarter of all is the zone of the first account.
    pub(in crate::store::region) const TAGS: usize = 8;
    /// Requests << 40 | latency in milliseconds << 12 | the zone of the last account.
    pub(in crate::store::region) const REQUESTS: usize = 10;
    /// Tokens.
    pub(in crate::store::region) const TOKENS: usize = 11;
    /// Nano-dollars.
    pub(in crate::store::region) const COST: usize = 12;
    /// Words of an entry that has no more to say.
    pub(in crate::store::region) const SHORT: usize = 13;
    /// Tokens sent.
    pub(in crate::store::region) const INPUT: usize = 13;
    /// Tokens made.
    pub(in crate::store::region) const OUTPUT: usize = 14;
    /// Cached tokens.
    pub(in crate::store::region) const CACHED: usize = 15;
    /// Words of one with split tokens: two cache lines.
    pub(in crate::store::region) const SPLIT: usize = 16;
    /// Reasoning tokens; of a correction the errors.
    pub(in crate::store::region) const REASONING: usize = 16;
    /// The hold's number; of a correction the requests.
    pub(in crate::store::region) const HOLD: usize = 17;
    /// Wall nanoseconds of its grant.
    pub(in crate::store::region) const GRANTED: usize = 18;
    /// Tokens held.
    pub(in crate::store::region) const HELD_TOKENS: usize = 19;
    /// Nano-dollars held.
    pub(in crate::store::region) const HELD_COST: usize = 20;
    /// Requests held.
    pub(in crate::store::region) const HELD_REQUESTS: usize = 21;
    /// Words of one with a hold.
    pub(in crate::store::region) const HOLDING: usize = 22;
    /// The starts of hour, day and month before and after another time zone, in place of what a call has.
    pub(in crate::store::region) const STARTS: usize = 16;
    /// Words of one with starts.
    pub(in crate::store::region) const REZONED: usize = 22;
    /// The method, then the request's id, each of at most so many words, padded with 0.
    pub(in crate::store::region) const METHOD: usize = 22;
    /// Words of the method.
    pub(in crate::store::region) const METHOD_WORDS: usize = 6;
    /// The request's id.
    pub(in crate::store::region) const REQUEST: usize = METHOD + METHOD_WORDS;
    /// Words of the request's id.
    pub(in crate::store::region) const REQUEST_WORDS: usize = 12;
    /// Words of an entry.
    pub(in crate::store::region) const LEN: usize = 40;
}

/// The words of a process's slot.
pub(super) mod slot {
    /// Its process id; 0 for a slot never used.
    pub(in crate::store::region) const PID: usize = 0;
    /// When the process began, as the system tells it.
    pub(in crate::store::region) const STARTED: usize = 1;
    /// Rises each time the slot is claimed.
    pub(in crate::store::region) const INCARNATION: usize = 2;
    /// Words ever written to its ring
    pub(in crate::store::region) const WRITTEN: usize = 3;
    /// and those read again.
    pub(in crate::store::region) const READ: usize = 4;
    /// 1 while it listens to events.
    pub(in crate::store::region) const LISTENS: usize = 5;
    /// Version of the package, as text.
    pub(in crate::store::region) const PACKAGE: usize = 6;
    /// Words of a slot.
    pub(in crate::store::region) const LEN: usize = 8;
}

/// The words of an event.
pub(super) mod event {
    /// Its number.
    pub(in crate::store::region) const SEQUENCE: usize = 0;
    /// What it is | level << 8 | limit << 16 | mode << 24 | accounts << 32.
    pub(in crate::store::region) const HEAD: usize = 1;
    /// Wall nanoseconds.
    pub(in crate::store::region) const AT: usize = 2;
    /// The first account's version after the batch.
    pub(in crate::store::region) const VERSION: usize = 3;
    /// The first account's hash.
    pub(in crate::store::region) const WORKSPACE: usize = 4;
    /// The accounts' rows, two a word; of a crossing the first account's, and that of the account whose limit it is.
    pub(in crate::store::region) const ROWS: usize = 5;
    /// Of a crossing: the hash of the account whose limit it is,
    pub(in crate::store::region) const ACCOUNT: usize = 9;
    /// what was used,
    pub(in crate::store::region) const USED: usize = 10;
    /// what was held,
    pub(in crate::store::region) const HELD: usize = 11;
    /// of how much,
    pub(in crate::store::region) const CAP: usize = 12;
    /// and when the window gives something back (wall nanoseconds), 0 for never.
    pub(in crate::store::region) const RESETS: usize = 13;
    /// Words of an event: two cache lines.
    pub(in crate::store::region) const LEN: usize = 16;
}

/// The words of a limit's crossings.
pub(super) mod crossing {
    /// The account's hash; 0 for a free place.
    pub(in crate::store::region) const HASH: usize = 0;
    /// The account's row << 32 | limit.
    pub(in crate::store::region) const LIMIT: usize = 1;
    /// Hash of the workspace whose call crossed it.
    pub(in crate::store::region) const WORKSPACE: usize = 2;
    /// The workspace's row.
    pub(in crate::store::region) const WORKSPACE_ROW: usize = 3;
    /// Start of the period (Unix seconds); 0 for a window that slides.
    pub(in crate::store::region) const PERIOD: usize = 4;
    /// The limit's cap.
    pub(in crate::store::region) const CAP: usize = 5;
    /// For near, critical and full: the number of the event that told of it, from 1; 0 where it was not reached.
    pub(in crate::store::region) const TOLD: usize = 6;
    /// For each: the monotonic second in which it was last met, of windows that slide.
    pub(in crate::store::region) const MET: usize = 9;
    /// When the last of them was told (wall nanoseconds).
    pub(in crate::store::region) const AT: usize = 12;
    /// From when on it may be forgotten (wall seconds).
    pub(in crate::store::region) const UNTIL: usize = 13;
    /// Words of an entry.
    pub(in crate::store::region) const LEN: usize = 16;
}
