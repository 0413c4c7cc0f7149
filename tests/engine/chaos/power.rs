//! The power goes: of everything that was written and not synced, the disk may have any part. What a store must survive is made
//! of the files of one that is being used, more than a hundred times.
//!
//! The region is never synced, but for its first header: each of its pages is the one of now, an older one, nothing, or torn. The
//! write-ahead log is synced with each commit: it is whole up to its last commit, and then ends anywhere, or in garbage. The
//! index of that log is garbage. The machine comes up under another boot id, and the files lie where they were, or are a copy.

use std::collections::{HashMap, HashSet};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::time::Duration;

use llmquota::reservation::{Report, Verdict};
use llmquota::store::HoldId;
use llmquota::usage::TokenUsage;
use llmquota::usage::history::Kind;
use llmquota::{Ask, Call, Manager};

use crate::killer::Killer;
use crate::log::{self, Found, Told};
use crate::random::Random;
use crate::replay;
use crate::rows::{self, Row, Rows};
use crate::stage::{SMALL, Stage};

const PAGE: usize = 4_096;
const SECTOR: usize = 512;
/// Where the header of a region has the device and the inode of its file (bytes).
const DEVICE: u64 = 37 * 8;
/// What may be missing of what was acknowledged.
const LOST: Duration = Duration::from_secs(1);

/// A time at which the power might go.
struct Cut {
    /// How long everybody had worked by then.
    worked: Duration,
    /// How many operations each worker had been told of.
    told: HashMap<String, usize>,
}

/// A store's files, as the power left them.
struct Remains {
    region: Vec<u8>,
    database: Vec<u8>,
    log: Vec<u8>,
}

fn read(path: &Path) -> Vec<u8> {
    std::fs::read(path).unwrap_or_default()
}

impl Remains {
    fn of(stage: &Stage) -> Self {
        let beside = |name: &str| read(&stage.store().join(name));
        Self { region: read(&stage.region()), database: read(&stage.history()), log: beside("history.db-wal") }
    }
}

/// What became of each page of a region.
fn mix(now: &[u8], older: &[u8], random: &mut Random) -> Vec<u8> {
    let mut mixed = now.to_vec();
    // Of some cuts nearly all is there, of others nearly nothing.
    let lost = [1, 5, 25, 60, 95][random.below(5) as usize];
    for at in (0..now.len()).step_by(PAGE) {
        let end = now.len().min(at + PAGE);
        if random.below(100) >= lost {
            continue;
        }
        // The header was synced when the file was made: there always is an older one.
        let before = if older.is_empty() && at == 0 { now } else { older };
        let before = before.get(at..end).filter(|_| at == 0 || !random.once_in(4));
        let torn = if random.once_in(3) { at + SECTOR * (1 + random.below(7) as usize) } else { end };
        let into = &mut mixed[at..torn.min(end)];
        match before {
            Some(before) => into.copy_from_slice(&before[..into.len()]),
            None => into.fill(0),
        }
    }
    mixed
}

/// Where the last commit of a write-ahead log ends.
fn committed(log: &[u8]) -> usize {
    const HEADER: usize = 32;
    const FRAME: usize = 24;
    let number = |at: usize| log.get(at..at + 4).map_or(0, |bytes| u32::from_be_bytes(bytes.try_into().unwrap()));
    let (page, salts) = (number(8) as usize, log.get(16..24));
    let (mut end, mut at) = (HEADER.min(log.len()), HEADER);
    while page > 0 && at + FRAME + page <= log.len() && log.get(at + 8..at + 16) == salts {
        let is_commit = number(at + 4) != 0;
        at += FRAME + page;
        if is_commit {
            end = at;
        }
    }
    end
}

/// Writes what is left of a store into `to`.
fn leave(to: &Stage, now: &Remains, older: &[u8], random: &mut Random) {
    std::fs::create_dir(to.store()).unwrap();
    let beside = |name: &str| to.store().join(name);
    let end = committed(&now.log);
    let cut = end + random.below((now.log.len() - end) as u64 + 1) as usize;
    let mut log = now.log[..cut].to_vec();
    if random.once_in(2) {
        log.extend((0..random.below(9_000)).map(|_| random.next() as u8));
    }
    std::fs::write(to.history(), &now.database).unwrap();
    std::fs::write(beside("history.db-wal"), log).unwrap();
    std::fs::write(beside("history.db-shm"), (0..32_768).map(|_| random.next() as u8).collect::<Vec<u8>>()).unwrap();
    std::fs::write(beside("lock"), "").unwrap();
    if random.once_in(20) {
        return;
    }
    let mut region = mix(&now.region, older, random);
    if random.once_in(20) {
        region.truncate(random.below(region.len() as u64) as usize);
    }
    std::fs::write(to.region(), &region).unwrap();
    if region.len() == now.region.len() && !random.once_in(3) {
        // Where the files lie where they were, the header names the very file.
        let file = std::fs::File::options().write(true).open(to.region()).unwrap();
        let meta = file.metadata().unwrap();
        let (device, inode) = (meta.dev().to_le_bytes(), meta.ino().to_le_bytes());
        file.write_all_at(&[device, inode].concat(), DEVICE).unwrap();
    }
}

/// Cuts the power of a store in use so many times; answers how many cuts there were and what was wrong.
pub(crate) fn cut_often(stage: &Stage, cuts: u64, seed: u64) -> Vec<String> {
    let mut random = Random::new(seed);
    let mut killer = Killer::new(stage, seed);
    let mut older = Vec::new();
    let mut past: Vec<Cut> = Vec::new();
    let mut worked = Duration::ZERO;
    killer.begin(2);
    for number in 0..cuts {
        let more = Duration::from_millis(20 + random.below(80));
        killer.hold_still(more);
        worked += more;
        let remains = Remains::of(stage);
        let logs = log::read_all(stage);
        let since = past.iter().rev().find(|earlier| earlier.worked + LOST <= worked);
        let directory = tempfile::tempdir().unwrap();
        let to = Stage::set_up(directory.path(), stage.clock, SMALL);
        leave(&to, &remains, &older, &mut random);
        let faults = after(&to, &logs, since, number + 2);
        if !faults.is_empty() {
            let kept = directory.keep();
            return faults.into_iter().map(|fault| format!("cut {number}: {fault} ({})", kept.display())).collect();
        }
        if random.once_in(3) || older.is_empty() {
            older = remains.region;
        }
        past.push(Cut { worked, told: logs.iter().map(|log| (log.name.clone(), log.told.len())).collect() });
        killer.go_on();
    }
    killer.end(false);
    killer.faults.clone()
}

/// What is wrong with a store after a cut. `since` is the time before which nothing may be missing.
fn after(stage: &Stage, logs: &[Found], since: Option<&Cut>, boot: u64) -> Vec<String> {
    let mut faults = Vec::new();
    let manager = match stage.open_in_boot(boot) {
        Ok(manager) => manager,
        Err(error) => return vec![format!("it does not open: {error:?}")],
    };
    in_order(&manager, &mut faults);
    let rows = rows::read(stage);
    if rows.open_holds > 0 {
        faults.push(format!("{} holds are open", rows.open_holds));
    }
    chains_are_whole(&rows, &mut faults);
    nothing_older_is_missing(logs, &rows, since, &mut faults);
    holds_ended(logs, &rows, since, &mut faults);
    let replayed = replay::replay(&rows, &Stage::config(), &stage.clock);
    faults.extend(replayed.past);
    faults.extend(replayed.contradictions);
    let told: HashSet<u64> = logs.iter().flat_map(|log| &log.told).filter_map(Told::hold).collect();
    goes_on(&manager, &told, &mut faults);
    drop(manager);
    // The file that was made anew serves the next process of this boot.
    match stage.open_in_boot(boot) {
        Ok(manager) => in_order(&manager, &mut faults),
        Err(error) => faults.push(format!("it does not open again: {error:?}")),
    }
    faults
}

fn in_order(manager: &Manager, faults: &mut Vec<String>) {
    match manager.verify(false) {
        Ok(findings) => faults.extend(findings.iter().map(|finding| format!("verify: {finding:?}"))),
        Err(error) => faults.push(format!("verify: {error:?}")),
    }
}

/// How much of a log was written by the cut at `since`.
fn old_enough<'l>(log: &'l Found, since: Option<&Cut>) -> &'l [Told] {
    let count = since.and_then(|cut| cut.told.get(&log.name)).copied().unwrap_or(0);
    &log.told[..count]
}

/// What counts on one account of a chain counts on all, and no account has a name that nobody gave it.
fn chains_are_whole(rows: &Rows, faults: &mut Vec<String>) {
    let worker = |row: &&Row| row.request_id.is_some();
    for row in rows.rows.iter().filter(worker).filter(|row| !matches!(row.accounts.len(), 5 | 7)) {
        let names: Vec<&rows::Name> = row.accounts.iter().map(|id| &rows.accounts[id]).collect();
        faults.push(format!("{:?} of {:?} names only {names:?}", row.kind, row.request_id));
    }
    for name @ (scope, owner, own) in rows.accounts.values() {
        let is_inside = !matches!(scope, 1 | 6 | 8);
        if own.is_empty() || is_inside == owner.is_empty() {
            faults.push(format!("there is an account {name:?}"));
        }
    }
}

/// Every acknowledged record and settle that is old enough is there, and each that is there was done, once.
fn nothing_older_is_missing(logs: &[Found], rows: &Rows, since: Option<&Cut>, faults: &mut Vec<String>) {
    let mut there: HashMap<&str, u64> = HashMap::new();
    for id in rows.rows.iter().filter_map(|row| row.request_id.as_deref()) {
        *there.entry(id).or_default() += 1;
    }
    faults.extend(
        there.iter().filter(|(_, times)| **times > 1).map(|(id, times)| format!("{id} is there {times} times")),
    );
    for log in logs {
        for (number, told) in (1..).zip(old_enough(log, since)) {
            let id = log::request_id(&log.name, number);
            if matches!(told, Told::Recorded { .. } | Told::Settled { .. }) && !there.contains_key(id.as_str()) {
                faults.push(format!("{id}: {told:?} is missing"));
            }
        }
        let name = format!("{}/", log.name);
        let numbers = there.keys().filter_map(|id| id.strip_prefix(&name)?.parse::<u64>().ok());
        let last = numbers.max().unwrap_or(0);
        if last > log.told.len() as u64 + 1 {
            faults.push(format!("{} did {} operations, and {last} is there", log.name, log.told.len()));
        }
    }
}

/// Every hold that is old enough has ended: charged, where it had started by then and nobody has ended it since.
fn holds_ended(logs: &[Found], rows: &Rows, since: Option<&Cut>, faults: &mut Vec<String>) {
    let mut ends: HashMap<u64, Vec<Kind>> = HashMap::new();
    for row in &rows.rows {
        if let Some(held) = row.held {
            ends.entry(held.hold).or_default().push(row.kind);
        }
    }
    for log in logs {
        let last = last_words(&log.told);
        // One operation of each worker may have been under way.
        let mut surprises = 0;
        for (hold, was) in last_words(old_enough(log, since)) {
            let kinds = ends.get(&hold).map_or(&[][..], Vec::as_slice);
            let is = last[&hold];
            let expected = match was {
                Told::Settled { .. } => Some(Kind::Settle),
                Told::Released { .. } => Some(Kind::Release),
                // What the worker was told of since then may be lost, or not.
                _ if was != is => None,
                Told::Started { .. } => Some(Kind::Orphan),
                Told::Granted { .. } => Some(Kind::Release),
                _ => None,
            };
            if kinds.len() != 1 {
                faults.push(format!("{}: {} was {was:?} and has {} ends", log.name, HoldId(hold), kinds.len()));
            }
            surprises += u64::from(expected.is_some_and(|expected| !kinds.contains(&expected)));
        }
        if surprises > 1 {
            faults.push(format!("{}: {surprises} holds ended otherwise than the table says", log.name));
        }
    }
}

/// What was said last of each hold.
fn last_words(told: &[Told]) -> HashMap<u64, Told> {
    told.iter().filter_map(|told| Some((told.hold()?, *told))).collect()
}

/// A store that was made anew works, and gives no hold's number again.
fn goes_on(manager: &Manager, told: &HashSet<u64>, faults: &mut Vec<String>) {
    let call = Call::new("free").goal("after");
    let tokens = || manager.usage(&call).unwrap().total.tokens;
    let before = tokens();
    let used = Report::success(TokenUsage::unsplit(3));
    manager.record(&call, &used).unwrap();
    match manager.reserve(&call, &Ask::tokens(5), Duration::from_secs(60)).unwrap() {
        Verdict::Granted(mut hold) => {
            if told.contains(&hold.id().0) {
                faults.push(format!("{} was given before", hold.id()));
            }
            hold.start().unwrap();
            hold.settle(&used, None).unwrap();
        }
        Verdict::Refused(decision) => faults.push(format!("nothing is granted any more: {decision:?}")),
    }
    if tokens() != before + 6 {
        faults.push(format!("{before} tokens became {}", tokens()));
    }
}
