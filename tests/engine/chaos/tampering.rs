//! The judge is judged: what it must find is put into a store that is in order, one thing at a time, and taken out again.

use std::os::unix::fs::FileExt;

use llmquota::Scope;

use crate::judge::{self, Witness};
use crate::stage::{FastClock, Stage, USUAL};
use crate::{EVE, log, replay, rows, worker};

/// Where the header of a region counts the lines that were taken from its arena (bytes).
const LINES_USED: u64 = 17 * 8;

fn faults(stage: &Stage) -> Vec<String> {
    judge::judge(stage, &Witness { killed: &Default::default(), stops: &[] }).faults
}

fn assert_found(stage: &Stage, words: &str) {
    let faults = faults(stage);
    assert!(faults.iter().any(|fault| fault.contains(words)), "no {words:?} in {faults:#?}");
}

/// A change of history's file, what must be found of it, and how it is taken back.
fn changed(stage: &Stage, change: &str, words: &str, back: &str) {
    let run = |text: &str| rows::connect(stage).execute_batch(text).unwrap();
    run(change);
    assert_found(stage, words);
    run(back);
}

/// The same for a word of the region's file, which becomes one more.
fn counted_up(stage: &Stage, at: u64, words: &str) {
    let file = std::fs::File::options().read(true).write(true).open(stage.region()).unwrap();
    let mut word = [0; 8];
    file.read_exact_at(&mut word, at).unwrap();
    file.write_all_at(&(u64::from_le_bytes(word) + 1).to_le_bytes(), at).unwrap();
    assert_found(stage, words);
    file.write_all_at(&word, at).unwrap();
}

/// The same for the worker's log.
fn rewritten(stage: &Stage, rewrite: impl Fn(&str) -> String, words: &str) {
    let path = log::paths(stage).remove(0);
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, rewrite(&text)).unwrap();
    assert_found(stage, words);
    std::fs::write(&path, text).unwrap();
}

#[test]
fn the_judge_finds_whatever_is_falsified() {
    let _alone = crate::alone();
    let directory = tempfile::tempdir().unwrap();
    let stage = Stage::set_up(directory.path(), FastClock::at(EVE, 1), USUAL);
    let filler = || replay::replay(&rows::read(&stage), &Stage::config(), &stage.clock).filler;
    let mut rehearsals = 0;
    while rehearsals == 0 || filler().is_none() {
        rehearsals += 1;
        worker::rehearse(&stage, &format!("w{rehearsals}"), 6_000);
        stage.open(true).unwrap().flush().unwrap();
    }
    assert_eq!(faults(&stage), [""; 0]);

    let last = "(SELECT max(id) FROM history WHERE kind = 1)";
    let keep = format!("CREATE TABLE kept AS SELECT * FROM history WHERE id = {last}; ");
    let restore = "INSERT INTO history SELECT * FROM kept; DROP TABLE kept;";
    changed(&stage, &format!("{keep} DELETE FROM history WHERE id = {last};"), "is missing", restore);
    let again = format!("{keep} UPDATE kept SET id = id + 1000000; {restore}");
    changed(&stage, &again, "is there 2 times", &format!("DELETE FROM history WHERE id = {last};"));
    let more = |sign: char| format!("UPDATE history SET tokens = tokens {sign} 1 WHERE id = {last};");
    changed(&stage, &more('+'), "became", &more('-'));
    let orphan = "UPDATE history SET kind = 6 WHERE kind = 5 AND id = (SELECT min(id) FROM history WHERE kind = 5);";
    let first_orphan = "(SELECT min(id) FROM history WHERE kind = 6)";
    changed(&stage, orphan, "ended as [Orphan]", &format!("UPDATE history SET kind = 5 WHERE id = {first_orphan};"));
    let period = |sign: char| format!("UPDATE periods SET n_cost = n_cost {sign} 1 WHERE span = 3;");
    changed(&stage, &period('+'), "verify", &period('-'));

    // One unit more for a hold that took the last one is past the limit.
    let filler = filler().unwrap();
    let grant = |sign: char| {
        let columns =
            ["held_requests", "held_tokens", "held_cost"].map(|column| format!("{column} = {column} {sign} 1"));
        format!("UPDATE history SET {} WHERE hold = {filler};", columns.join(", "))
    };
    changed(&stage, &grant('+'), "a grant past a limit", &grant('-'));

    let inspector = stage.inspector().unwrap();
    counted_up(&stage, inspector.tokens_today(Scope::Workspace, "free").unwrap(), "verify");
    counted_up(&stage, LINES_USED, "lines were taken");

    let without_last_answer = |text: &str| {
        let mut lines: Vec<&str> = text.lines().collect();
        let last = lines.iter().rposition(|line| line.starts_with("recorded") || line.starts_with("settled")).unwrap();
        lines.truncate(last);
        lines.join("\n") + "\nend\n"
    };
    rewritten(&stage, without_last_answer, "nobody was told of");
    rewritten(&stage, |text| text.replace("end\n", ""), "died by itself");
    rewritten(&stage, |text| format!("{text}slow record 0 1600000000\n"), "a record took 1.6s");
    assert_eq!(faults(&stage), [""; 0]);
}
