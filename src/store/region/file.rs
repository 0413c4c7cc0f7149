//! The region's file: whether there is one, whether it is ours, whole, of this layout and of this boot, and how a new one is
//! made. What is not ours is never written to.

use std::fs::File;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::attempt::{Elsewhere, Growing};
use super::layout::{self, HOLD_SLOT_BITS, LEAST_BYTES, Map, head};
use super::locks::Locks;
use super::log::Durability;
use super::memory::Memory;
use super::process::Process;
use super::{Region, place};
use crate::clock::Clock;
use crate::config::Config;
use crate::error::{Code, Error, Result};

/// The file's name in its directory.
pub(crate) const FILE: &str = "region";
/// Numbers of holds that are left out: those that were given after history was written last.
const HOLDS_APART: u64 = 1 << 24;
/// Bytes of a growing table that a new file has from the start.
const FIRST_EXTENT: usize = 1 << 20;

const CUT_OFF: &str = "it was cut off";
const SPOILT: &str = "it was truncated or written over while it was in use";
const CONTRADICTS: &str = "is damaged: its header contradicts itself; move it away, and history goes on without it";

/// The number after the last entry of a region's journal.
pub(crate) fn journal_end(region: &File) -> u64 {
    read_word(region, head::JOURNAL_TAIL)
}

/// A word of a file; 0 where it has none there.
fn read_word(file: &File, word: usize) -> u64 {
    let mut bytes = [0; 8];
    let read = file.read_exact_at(&mut bytes, word as u64 * 8);
    read.map_or(0, |()| u64::from_le_bytes(bytes))
}

/// What was found in a directory.
#[derive(Debug)]
pub(crate) enum Found {
    /// No file.
    Nothing,
    /// A file that can be gone on with, and whether nobody else has it open.
    Usable(File, usize, bool),
    /// A file of ours that is not to be believed, and why. Its journal may still have entries that history lacks.
    Stale(Option<(File, usize)>, String),
}

/// The number after which a new region gives its holds, where history knows of no later one than `last`.
pub(crate) const fn apart(last: u64) -> u64 {
    ((last >> HOLD_SLOT_BITS) + HOLDS_APART) << HOLD_SLOT_BITS
}

/// Where a new region goes on from history.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Continued {
    /// The number of the next entry of its journal.
    pub(crate) sequence: u64,
    /// Its holds come after this one: see [`apart`].
    pub(crate) hold: u64,
    /// History has counted in no hour that begins from here on (wall nanoseconds).
    pub(crate) counted_until: i64,
}

/// A shared store's directory, with the opening byte locked until dropped.
#[derive(Debug)]
pub(crate) struct Site {
    pub(crate) directory: PathBuf,
    pub(crate) warnings: Vec<String>,
    locks: Arc<Locks>,
    boot: u64,
}

/// What every opening of a region needs.
#[derive(Debug, Clone)]
pub(crate) struct Parts {
    pub(crate) bytes: usize,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) config: Arc<Config>,
    pub(crate) elsewhere: Arc<dyn Elsewhere>,
}

impl Site {
    /// Waits for its turn to open the store. `boot` stands in for the machine's own, in tests.
    ///
    /// # Errors
    /// [`Code::InvalidConfig`] for a directory that cannot serve, [`Code::StoreBusy`] where somebody else takes too long.
    pub(crate) fn enter(directory: &Path, boot: Option<u64>) -> Result<Self> {
        let place = place::Place::of(directory)?;
        let locks = Process::open_locks(directory)?;
        Process::lock_opening(&locks)?;
        let boot = boot.unwrap_or_else(place::boot);
        Ok(Self { directory: directory.to_owned(), warnings: place.warnings, locks, boot })
    }

    /// Makes another file of the store, empty and with its rights, where it is missing.
    ///
    /// # Errors
    /// [`Code::StoreDamaged`] where it cannot be opened.
    pub(crate) fn have(&self, name: &str) -> Result<()> {
        let path = self.directory.join(name);
        let refused =
            |error| Error::new(Code::StoreDamaged, "store", format!("{} cannot be made: {error}", path.display()));
        place::create(&path).map(|_| ()).map_err(refused)
    }

    fn path(&self) -> PathBuf {
        self.directory.join(FILE)
    }

    /// Looks at the file.
    ///
    /// # Errors
    /// [`Code::StoreDamaged`] where it is not ours, or one that this version must not touch.
    pub(crate) fn find(&self) -> Result<Found> {
        let path = self.path();
        if matches!(path.symlink_metadata(), Err(error) if error.kind() == std::io::ErrorKind::NotFound) {
            if Process::anybody_lives(&self.locks)? {
                return Err(self.refused("was deleted while other processes use it; stop them first"));
            }
            return Ok(Found::Nothing);
        }
        let file = place::create(&path).map_err(|error| self.unreadable(&error))?;
        let mut bytes = [0_u8; head::LEN * 8];
        let read = file.read_at(&mut bytes, 0).map_err(|error| self.unreadable(&error))?;
        let word = |word: usize| {
            let bytes = bytes.get(word * 8..word * 8 + 8).and_then(|bytes| bytes.try_into().ok());
            bytes.map_or(0, u64::from_le_bytes)
        };
        let lives = Process::anybody_lives(&self.locks)?;
        let magic = word(head::MAGIC);
        let is_ours = read >= 8 && (magic == layout::MAGIC || magic == layout::SPOILT);
        if read == 0 || is_ours && read < bytes.len() {
            return self.stale(None, CUT_OFF, lives);
        }
        if !is_ours {
            return Err(
                self.refused("is no store of llmquota: it was left as it is; move it away, or name another directory")
            );
        }
        let undrained = word(head::JOURNAL_TAIL).saturating_sub(word(head::JOURNAL_DRAINED));
        let is_spoilt = magic == layout::SPOILT;
        match word(head::VERSION) {
            version if is_spoilt && version != layout::VERSION => return self.stale(None, SPOILT, lives),
            version if version > layout::VERSION => {
                return Err(self.refused(&format!(
                    "has layout {version}, and this version of llmquota knows up to {}: upgrade the package in this process",
                    layout::VERSION
                )));
            }
            version if version < layout::VERSION && (lives || undrained > 0) => {
                return Err(self.refused(&format!(
                    "has the older layout {version} and {undrained} records that are not in history yet: stop every process \
                     of the older version (its last one writes them out within a second), then start this one"
                )));
            }
            version if version < layout::VERSION => {
                return self.stale(None, &format!("it had the older layout {version}"), lives);
            }
            _ => {}
        }
        let bytes = word(head::BYTES) as usize;
        let map = Map::of(bytes.max(LEAST_BYTES))?;
        if is_spoilt && map.words as u64 != word(head::WORDS) {
            return self.stale(None, SPOILT, lives);
        }
        if map.words as u64 != word(head::WORDS) {
            return Err(self.refused(CONTRADICTS));
        }
        let meta = file.metadata().map_err(|error| self.unreadable(&error))?;
        let whole = meta.len() >= map.words as u64 * 8;
        let has_its_locks = self.locks.identity()? == (word(head::LOCK_DEVICE), word(head::LOCK_INODE));
        if whole && !has_its_locks {
            // Only one of this boot can still be there.
            let read = |word: usize| read_word(&file, word);
            let there = Process::still_there(read, &map).filter(|_| word(head::BOOT) == self.boot);
            if let Some(pid) = there {
                return Err(self.refused(&format!(
                    "is used by process {pid}, whose lock file was deleted or replaced; stop all processes of this store first"
                )));
            }
        }
        let stale = if !whole {
            Some(CUT_OFF)
        } else if is_spoilt {
            Some(SPOILT)
        } else if word(head::DEVICE) != meta.dev() || word(head::INODE) != meta.ino() {
            Some("it is a copy of another store's file")
        } else if word(head::BOOT) != self.boot {
            Some("the machine was started anew, or it is another one")
        } else if !has_its_locks {
            Some("its lock file was deleted or replaced")
        } else {
            None
        };
        if let Some(why) = stale {
            // What was cut off cannot be read, not even the rest of it by this map.
            return self.stale(whole.then_some((file, bytes)), why, lives);
        }
        let contradicts = map.header_bounds().into_iter().any(|(at, bound)| word(at) > bound)
            || word(head::JOURNAL_DRAINED) > word(head::JOURNAL_TAIL)
            || undrained > map.journal.count() as u64;
        if contradicts { Err(self.refused(CONTRADICTS)) } else { Ok(Found::Usable(file, bytes, !lives)) }
    }

    fn stale(&self, file: Option<(File, usize)>, why: &str, lives: bool) -> Result<Found> {
        if lives {
            return Err(
                self.refused(&format!("cannot be used: {why}, and other processes have it open; stop them first"))
            );
        }
        Ok(Found::Stale(file, why.to_owned()))
    }

    /// Goes on with a file that was found usable, and claims a slot.
    ///
    /// # Errors
    /// [`Code::StoreFull`] where there are more processes than slots.
    pub(crate) fn attach(&self, file: File, bytes: usize, parts: &Parts) -> Result<Region> {
        let region = self.map(file, bytes, parts)?;
        region.claim(Arc::clone(&self.locks))?;
        Ok(region)
    }

    /// Maps a file without taking part in it: what a stale one still has to tell.
    pub(crate) fn map(&self, file: File, bytes: usize, parts: &Parts) -> Result<Region> {
        let map = Map::of(bytes)?;
        let words = Arc::new(Memory::mapped(file, map.words)?);
        let (clock, config) = (Arc::clone(&parts.clock), Arc::clone(&parts.config));
        let mut region = Region::over(words, map, Durability::Logged, clock, config);
        region.process = Some(Process::new(&self.directory));
        region.elsewhere = Some(Arc::clone(&parts.elsewhere));
        Ok(region)
    }

    /// Makes a new file in place of the one there is, and claims a slot in it. Its holds begin well
    /// after the last that history knows of.
    ///
    /// # Errors
    /// [`Code::StoreFull`] where the disk has no room for it.
    pub(crate) fn create(&self, from: &Continued, parts: &Parts) -> Result<Region> {
        let path = self.directory.join("region.new");
        let made = self.make(&path, from, parts);
        if made.is_err() {
            // It takes room on a disk that may be full. The first error is the one that counts.
            let _removed = std::fs::remove_file(&path);
        }
        made
    }

    fn make(&self, path: &Path, from: &Continued, parts: &Parts) -> Result<Region> {
        let map = Map::of(parts.bytes)?;
        let failed = |error: std::io::Error| self.refused(&format!("cannot be made: {error}"));
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(failed(error)),
            _ => {}
        }
        let file = place::create(path).map_err(failed)?;
        file.set_len(map.words as u64 * 8).map_err(failed)?;
        let meta = file.metadata().map_err(failed)?;
        let region = self.map(file, parts.bytes, parts)?;
        let backed = self.back(&region, map)?;
        let (lock_device, lock_inode) = self.locks.identity()?;
        let header = [
            (head::BYTES, parts.bytes as u64),
            (head::BOOT, self.boot),
            (head::DEVICE, meta.dev()),
            (head::INODE, meta.ino()),
            (head::LOCK_DEVICE, lock_device),
            (head::LOCK_INODE, lock_inode),
            (head::JOURNAL_TAIL, from.sequence),
            (head::JOURNAL_DRAINED, from.sequence),
            (head::HOLD_SEQUENCE, from.hold >> HOLD_SLOT_BITS),
            (head::LATEST_HOUR, from.counted_until as u64),
            (head::COUNTED_UNTIL, from.counted_until as u64),
        ];
        let words: Vec<(usize, u64)> = header.into_iter().chain(backed).collect();
        region.begin(&words);
        // Of a region the power may leave what it likes, but for the header that says whose file it is.
        File::open(path).and_then(|file| file.sync_all()).map_err(failed)?;
        std::fs::rename(path, self.path()).map_err(failed)?;
        File::open(&self.directory).and_then(|directory| directory.sync_all()).map_err(failed)?;
        region.claim(Arc::clone(&self.locks))?;
        Ok(region)
    }

    /// Takes from the disk what every region needs, and the first extents of what grows.
    fn back(&self, region: &Region, map: Map) -> Result<Vec<(usize, u64)>> {
        let mut from = 0;
        let mut backed = Vec::new();
        let mut growing: Vec<Growing> = Growing::ALL.into();
        growing.sort_by_key(|growing| growing.table(&map).at(0));
        for growing in growing {
            let table = growing.table(&map);
            let first = (FIRST_EXTENT / 8 / (table.at(1) - table.at(0))).clamp(1, table.count());
            region.words.back(from..table.at(first))?;
            from = table.at(table.count());
            backed.push((growing.backed(), first as u64));
        }
        region.words.back(from..map.words)?;
        Ok(backed)
    }

    fn unreadable(&self, error: &std::io::Error) -> Error {
        self.refused(&format!("cannot be read: {error}"))
    }

    fn refused(&self, why: &str) -> Error {
        Error::new(Code::StoreDamaged, "store", format!("{} {why}", self.path().display()))
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        // Closing the file at the end of the process would let go of it too.
        let _ = self.locks.unlock(super::process::OPENING);
    }
}
