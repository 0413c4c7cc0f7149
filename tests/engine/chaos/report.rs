//! Figures for docs/reliability.md: each section stands between two marks, and is written anew as a whole.

use std::path::PathBuf;

use jiff::Timestamp;

/// Puts a table in place of what stands between the section's marks; its first line is its head. A note follows the command.
pub(crate) fn write(section: &str, command: &str, note: &str, lines: &[Vec<String>]) {
    let path = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/reliability.md"));
    let text = std::fs::read_to_string(&path).unwrap();
    let (begin, end) = (format!("<!-- {section} begins -->\n"), format!("<!-- {section} ends -->"));
    let (before, rest) = text.split_once(&begin).unwrap();
    let (_, after) = rest.split_once(&end).unwrap();
    let date = Timestamp::now().strftime("%Y-%m-%d");
    let mut table = format!("`{command}`{note} on {date}, {}:\n\n", machine());
    for (number, cells) in lines.iter().enumerate() {
        table.push_str(&format!("| {} |\n", cells.join(" | ")));
        if number == 0 {
            table.push_str(&format!("|{}\n", " --- |".repeat(cells.len())));
        }
    }
    std::fs::write(&path, format!("{before}{begin}{table}{end}{after}")).unwrap();
}

fn machine() -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let cpu = read("/proc/cpuinfo");
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    let kernel = read("/proc/sys/kernel/osrelease");
    format!("{}, {cores} cores, Linux {}", model.map_or("", |(_, model)| model), kernel.trim())
}

/// With its thousands apart.
pub(crate) fn count(number: u64) -> String {
    let digits = number.to_string();
    let first = digits.len() % 3;
    let mut groups: Vec<&str> = Vec::new();
    if first > 0 {
        groups.push(&digits[..first]);
    }
    groups.extend((first..digits.len()).step_by(3).map(|at| &digits[at..at + 3]));
    groups.join(",")
}
