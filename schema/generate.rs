//! Writes the JSON Schema of every wire shape beside this file, or with `--check` says which one is out of date.
//!
//! `cargo run --features schema --example schema`

use std::fs;
use std::path::Path;
use std::process::ExitCode;

use llmquota::signal::i18n::Rendered;
use llmquota::wire::{Attribution, Decision, Event, Snapshot, Usage};

fn main() -> ExitCode {
    let check = std::env::args().any(|argument| argument == "--check");
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("schema");
    let shapes = [
        ("decision", schemars::schema_for!(Decision)),
        ("snapshot", schemars::schema_for!(Snapshot)),
        ("usage", schemars::schema_for!(Usage)),
        ("attribution", schemars::schema_for!(Attribution)),
        ("event", schemars::schema_for!(Event)),
        ("notice", schemars::schema_for!(Rendered)),
    ];
    let mut stale = false;
    for (name, schema) in shapes {
        let path = folder.join(format!("{name}.json"));
        let Ok(mut text) = serde_json::to_string_pretty(&schema) else { return ExitCode::FAILURE };
        text.push('\n');
        if check {
            if fs::read_to_string(&path).is_ok_and(|known| known == text) {
                continue;
            }
            eprintln!("{} is not what src/ says: cargo run --features schema --example schema", path.display());
            stale = true;
        } else if let Err(error) = fs::write(&path, text) {
            eprintln!("{}: {error}", path.display());
            return ExitCode::FAILURE;
        }
    }
    if stale { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}
