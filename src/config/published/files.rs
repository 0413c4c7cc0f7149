//! The limits files of several processes: the newest holds.

use jiff::Timestamp;

use super::Publisher;
use super::environments::Environment;
use super::notes::{have, processes};
use crate::config::origin::Origin;

/// The limits file that some processes name.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct PublishedFile {
    pub(super) processes: Vec<Publisher>,
    pub(super) origin: Origin,
}

/// The one that holds: that which was changed last, and of several as old the one that was published last.
pub(super) fn newest(all: &[PublishedFile]) -> Option<&PublishedFile> {
    all.iter().max_by_key(|file| file.origin.changed_wall_nanos)
}

/// Puts `process` where its file is, and nowhere else; `None` where it names no file.
pub(super) fn join(all: &mut Vec<PublishedFile>, process: Publisher, origin: Option<&Origin>) {
    let mut found = false;
    for file in &mut *all {
        if Some(&file.origin) == origin {
            found = true;
            if !file.processes.contains(&process) {
                file.processes.push(process);
            }
        } else {
            file.processes.retain(|other| *other != process);
        }
    }
    if let Some(origin) = origin.filter(|_| !found) {
        all.push(PublishedFile { processes: vec![process], origin: origin.clone() });
    }
    all.retain(|file| !file.processes.is_empty());
}

/// Puts `process`, which cannot read its file `name`, where the newest of that name is; nowhere where there is none.
pub(super) fn join_last_of(all: &mut Vec<PublishedFile>, process: Publisher, name: &str) {
    let last = all.iter().filter(|file| *file.origin.name == *name).max_by_key(|file| file.origin.changed_wall_nanos);
    let origin = last.map(|file| file.origin.clone());
    join(all, process, origin.as_ref());
}

/// The sentence that tells which file holds, where the processes name different ones or some name none.
pub(super) fn note(all: &[PublishedFile], environments: &[Environment]) -> Option<String> {
    let newest = newest(all)?;
    let distinct = distinct(all);
    let mut told: Vec<String> = distinct.iter().map(|file| have(&file.processes, &described(&file.origin))).collect();
    let without: Vec<&Publisher> = environments
        .iter()
        .flat_map(|environment| &environment.processes)
        .filter(|process| !all.iter().any(|file| file.processes.contains(process)))
        .collect();
    if !without.is_empty() {
        told.push(have(without, "no limits file"));
    }
    if told.len() < 2 {
        return None;
    }
    let as_old = |file: &&PublishedFile| file.origin.changed_wall_nanos == newest.origin.changed_wall_nanos;
    let why = match (distinct.len(), distinct.iter().filter(as_old).count()) {
        (1, _) => "the only one",
        (_, 1) => "the newest",
        _ => "published last of those as old",
    };
    let holding = distinct.iter().find(|file| is_same(&file.origin, &newest.origin));
    let holding = holding.map_or_else(Vec::new, |file| file.processes.clone());
    Some(format!("limits: {}; that of {}, {why}, holds for all", told.join(", "), processes(&holding)))
}

/// A file that was touched, or written anew with the same text, is the same file: of its times the last one counts.
fn distinct(all: &[PublishedFile]) -> Vec<PublishedFile> {
    let mut found: Vec<PublishedFile> = Vec::new();
    for file in all {
        match found.iter_mut().find(|known| is_same(&known.origin, &file.origin)) {
            Some(known) => {
                known.processes.extend(&file.processes);
                known.origin.changed_wall_nanos = known.origin.changed_wall_nanos.max(file.origin.changed_wall_nanos);
            }
            None => found.push(file.clone()),
        }
    }
    found
}

fn is_same(one: &Origin, other: &Origin) -> bool {
    one.name == other.name && one.content == other.content
}

fn described(origin: &Origin) -> String {
    match origin.changed_wall_nanos {
        0 => format!("'{}' (without a time)", origin.name),
        nanos => match Timestamp::from_nanosecond(i128::from(nanos)) {
            Ok(time) => format!("'{}' of {time}", origin.name),
            Err(_) => format!("'{}'", origin.name),
        },
    }
}
