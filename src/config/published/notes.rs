//! How a note names processes and what they say.

use super::Publisher;

/// `process 12 has a`, `processes 12 and 13 have a`.
pub(super) fn have<'a>(who: impl IntoIterator<Item = &'a Publisher>, what: &str) -> String {
    let named = processes(who);
    let verb = if named.starts_with("processes") { "have" } else { "has" };
    format!("{named} {verb} {what}")
}

/// `process 12`, `processes 12, 13 and 14`: each once, by number.
pub(super) fn processes<'a>(processes: impl IntoIterator<Item = &'a Publisher>) -> String {
    let mut pids: Vec<u32> = processes.into_iter().map(|process| process.pid).collect();
    pids.sort_unstable();
    pids.dedup();
    let mut named: Vec<String> = pids.iter().map(u32::to_string).collect();
    match named.pop() {
        None => "no process".to_owned(),
        Some(only) if named.is_empty() => format!("process {only}"),
        Some(last) => format!("processes {} and {last}", named.join(", ")),
    }
}
