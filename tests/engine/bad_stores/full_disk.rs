//! A disk that is full: when the store is made, while it grows, and while history is written.

use std::path::{Path, PathBuf};

use llmquota::error::Code;
use llmquota::wire::Reason;
use llmquota::{Call, Manager, Verdict};

use crate::scene::{
    Door, SMALL, ask, assert_clean, assert_says, in_history, inside, record, total, until, used, warnings,
};

fn on_a_disk_of(size: &str, test: &str) -> Option<PathBuf> {
    inside(&format!("full_disk::{test}"), &format!("mount -t tmpfs -o size={size} none \"$AT\""))
}

/// Takes all the room that is left, down to the last page.
fn fill(place: &Path) {
    use std::io::Write;
    let mut file = std::fs::File::options().append(true).create(true).open(place.join("ballast")).unwrap();
    for bytes in [1 << 20, 1 << 12] {
        while file.write_all(&vec![1; bytes]).is_ok() {}
    }
}

fn free(place: &Path) {
    std::fs::remove_file(place.join("ballast")).unwrap();
}

#[test]
fn a_store_that_does_not_fit_is_not_made_and_leaves_nothing_behind() {
    let Some(place) = on_a_disk_of("3m", "a_store_that_does_not_fit_is_not_made_and_leaves_nothing_behind") else {
        return;
    };
    let store = place.join("store");
    let error = Door { bytes: 64 << 20, ..Door::default() }.open(&store).err().unwrap();
    assert_says(&error, Code::StoreFull, &["disk", "free"]);
    assert!(!store.join("region").exists() && !store.join("region.new").exists());
    // Only history has begun.
    let taken: u64 = std::fs::read_dir(&store).unwrap().flatten().map(|file| file.metadata().unwrap().len()).sum();
    assert!(taken < 1 << 20, "{taken}");
    fill(&place);
    let error = Door::default().open(&place.join("other")).err().unwrap();
    assert!(matches!(error.code(), Code::StoreFull | Code::InvalidConfig), "{error}");
    assert!(error.message().contains("other"), "{error}");
    free(&place);
    record(&Door { bytes: 1 << 20, ..Door::default() }.open(&store).unwrap(), "acme", 5);
}

/// As many new workspaces as the region has room for, with long names, and open calls on them.
fn grow(manager: &Manager, holds: &mut Vec<llmquota::reservation::Hold>) -> (u64, u64, Vec<String>) {
    let (mut landed, mut folded, mut told) = (0, 0, Vec::new());
    for name in 0..3_000 {
        let name = format!("{name}-{}", "long".repeat(50));
        let call = Call::new(&name);
        match manager.record(&call, &used(1)) {
            Ok(receipt) => {
                landed += 1;
                folded += u64::from(receipt.folded);
            }
            Err(error) => told.push(error.message().to_owned()),
        }
        match ask(manager, &name, 1) {
            Ok(Verdict::Granted(hold)) => holds.push(hold),
            Ok(Verdict::Refused(decision)) => assert_eq!(decision.reason, Some(Reason::StoreFull)),
            Err(error) => told.push(error.message().to_owned()),
        }
    }
    (landed, folded, told)
}

#[test]
fn a_store_that_cannot_grow_counts_facts_elsewhere_and_grows_when_it_can() {
    let Some(place) = on_a_disk_of("40m", "a_store_that_cannot_grow_counts_facts_elsewhere_and_grows_when_it_can")
    else {
        return;
    };
    let manager = Door { bytes: 16 << 20, ..Door::default() }.open(&place.join("store")).unwrap();
    record(&manager, "acme", 5);
    manager.flush().unwrap();
    fill(&place);
    let mut holds = Vec::new();
    let (landed, folded, told) = grow(&manager, &mut holds);
    assert!(folded > 0, "the disk was meant to be too small");
    assert_eq!((landed, told), (3_000, Vec::new()), "every fact lands");
    assert_eq!(total(&manager, "global"), folded);
    let Verdict::Refused(decision) = ask(&manager, &format!("new-{}", "x".repeat(200)), 1).unwrap() else {
        panic!("there is no room")
    };
    assert_eq!(decision.reason, Some(Reason::StoreFull));
    let told = warnings(&manager);
    free(&place);
    holds.clear();
    manager.flush().unwrap();
    record(&manager, &format!("new-{}", "x".repeat(200)), 1);
    assert!(matches!(ask(&manager, &format!("new-{}", "x".repeat(200)), 1).unwrap(), Verdict::Granted(_)), "{told}");
    assert_clean(&manager);
}

#[test]
fn while_history_cannot_be_written_facts_land_and_reserve_is_refused_by_policy() {
    let Some(place) =
        on_a_disk_of("16m", "while_history_cannot_be_written_facts_land_and_reserve_is_refused_by_policy")
    else {
        return;
    };
    let limits = "[workspaces.opened]\non_store_failure = \"open\"".to_owned();
    let manager = Door { bytes: SMALL, limits, ..Door::default() }.open(&place.join("store")).unwrap();
    record(&manager, "acme", 5);
    record(&manager, "opened", 5);
    manager.flush().unwrap();
    fill(&place);
    let full = |manager: &Manager| matches!(ask(manager, "acme", 1).unwrap(), Verdict::Refused(it) if it.reason == Some(Reason::StoreFull));
    let mut recorded = 0;
    // What is drained before the log of history is full still gets through.
    until("the journal is full", || {
        for _ in 0..200 {
            record(&manager, "acme", 1);
            recorded += 1;
        }
        full(&manager) && warnings(&manager).contains("history is not written")
    });
    for _ in 0..500 {
        record(&manager, "acme", 1);
        recorded += 1;
    }
    assert_eq!(total(&manager, "acme"), 5 + recorded);
    let Verdict::Granted(mut uncounted) = ask(&manager, "opened", 1).unwrap() else { panic!("its policy is to go on") };
    uncounted.release().unwrap();
    let told = warnings(&manager);
    assert!(told.contains("history is not written") && told.contains("history.db") && told.contains("disk"), "{told}");
    free(&place);
    until("history goes on by itself", || !full(&manager));
    until("it has it all", || manager.verify(false).is_ok_and(|findings| findings.is_empty()));
    assert_eq!(in_history(&manager, "acme"), 5 + i64::try_from(recorded).unwrap());
    assert!(!warnings(&manager).contains("history is not written"));
}

#[test]
fn limits_that_cannot_be_published_are_told_and_the_old_ones_hold() {
    let Some(place) = on_a_disk_of("16m", "limits_that_cannot_be_published_are_told_and_the_old_ones_hold") else {
        return;
    };
    let manager = Door::default().open(&place.join("store")).unwrap();
    record(&manager, "acme", 5);
    manager.flush().unwrap();
    fill(&place);
    let limits = llmquota::rules::limits::LimitSet::NONE.with(llmquota::rules::limits::LimitKind::TokensPerDay, 1);
    let error = manager.set_override(crate::scene::workspace("acme"), limits, None).unwrap_err();
    assert_says(&error, Code::StoreFull, &["limits.json", "make room"]);
    assert!(matches!(ask(&manager, "acme", 10).unwrap(), Verdict::Granted(_)));
    free(&place);
    manager.set_override(crate::scene::workspace("acme"), limits, None).unwrap();
    assert!(matches!(ask(&manager, "acme", 10).unwrap(), Verdict::Refused(_)));
}

/// A process more, while there is no room: it needs none.
#[test]
fn a_store_that_is_there_is_opened_on_a_full_disk() {
    let Some(place) = on_a_disk_of("16m", "a_store_that_is_there_is_opened_on_a_full_disk") else { return };
    let first = Door::default().open(&place.join("store")).unwrap();
    record(&first, "acme", 5);
    first.flush().unwrap();
    fill(&place);
    match Door::default().open(&place.join("store")) {
        Ok(second) => {
            record(&second, "acme", 5);
            assert_eq!(total(&first, "acme"), 10);
        }
        // Its own settings may have to be published, which needs a page.
        Err(error) => assert_says(&error, Code::StoreFull, &["store", "room"]),
    }
    free(&place);
    let third = Door::default().open(&place.join("store")).unwrap();
    record(&third, "acme", 5);
    assert_clean(&third);
}
