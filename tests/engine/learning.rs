//! Laws of what estimates learn: it converges, it is bounded, and no single answer ruins it.

use llmquota::usage::learning::{Learning, Observation};
use llmquota::{Manager, Options};
use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;

/// More than a model may answer.
const MOST: u64 = (1 << 24) - 1;

fn answer(output: u64) -> Observation {
    Observation { guessed_prompt: 1_000, input: 1_000, open_choices: 1, output }
}

fn learned(outputs: &[u64]) -> Learning {
    let mut learning = Learning::default();
    outputs.iter().for_each(|output| learning.observe("acme", "m", &answer(*output)));
    learning
}

fn output(outputs: &[u64]) -> Option<u64> {
    learned(outputs).output("acme", "m")
}

#[test]
fn nothing_is_said_before_there_is_enough() {
    assert_eq!(output(&[500; 7]), None);
    assert_eq!(output(&[500; 8]), Some(500));
    assert_eq!(Learning::default().prompt("acme", "m", 77), 77);
}

#[test]
fn a_new_workspace_has_what_others_of_the_model_used_and_then_its_own() {
    let mut learning = learned(&[500; 20]);
    assert_eq!(learning.output("new", "m"), Some(500));
    assert_eq!(learning.output("new", "other"), None);
    for _ in 0..8 {
        learning.observe("new", "m", &answer(30));
    }
    assert_eq!((learning.output("new", "m"), learning.output("acme", "m")), (Some(30), Some(500)));
}

#[test]
fn an_answer_with_a_maximum_teaches_nothing_of_those_without() {
    let mut learning = Learning::default();
    for _ in 0..100 {
        learning.observe("acme", "m", &Observation { open_choices: 0, ..answer(500) });
    }
    assert_eq!(learning.output("acme", "m"), None);
    for _ in 0..8 {
        learning.observe("acme", "m", &Observation { open_choices: 4, ..answer(2_000) });
    }
    assert_eq!(learning.output("acme", "m"), Some(500), "an estimate is of one of the answers");
}

#[test]
fn prompts_are_learned_as_a_part_of_their_guess() {
    let mut learning = Learning::default();
    for _ in 0..8 {
        // Of text of another script the characters are more tokens.
        learning.observe("acme", "m", &Observation { input: 3_000, ..answer(1) });
        // Of a short prompt most is what the provider adds.
        learning.observe("acme", "m", &Observation { guessed_prompt: 3, input: 400, ..answer(1) });
    }
    assert_eq!(learning.prompt("acme", "m", 500), 1_500);
    assert_eq!(learning.prompt("acme", "m", 1), 3);
    assert_eq!(learning.prompt("acme", "m", 0), 0);
    assert_eq!(learning.prompt("acme", "m", u64::MAX), u64::MAX);
}

#[test]
fn it_follows_up_at_once_and_down_in_time() {
    let mut learning = learned(&[100; 1_000]);
    for _ in 0..17 {
        learning.observe("acme", "m", &answer(5_000));
    }
    assert_eq!(learning.output("acme", "m"), Some(5_000));
    for _ in 0..300 {
        learning.observe("acme", "m", &answer(100));
    }
    let down = learning.output("acme", "m").unwrap();
    assert!((100..=112).contains(&down), "{down}");
}

#[test]
fn answers_that_all_differ_are_not_forgotten() {
    let outputs: Vec<u64> = (0..128).map(|step| 1 << (step % 24)).chain((1..1_000).map(|step| step * 97)).collect();
    for count in 8..outputs.len() {
        assert!(output(&outputs[..count]).is_some(), "{count}");
    }
}

#[test]
fn the_manager_hands_it_on() {
    let manager = Manager::new(Options::default()).unwrap();
    assert_eq!(manager.foresee("acme", "m", 77), (77, None));
    for _ in 0..8 {
        manager.observe("acme", "m", &Observation { input: 500, ..answer(40) });
    }
    assert_eq!(manager.foresee("acme", "m", 100), (50, Some(40)));
}

/// The number that at most one in eight are above, by sorting.
fn by_sorting(mut outputs: Vec<u64>) -> u64 {
    outputs.sort_unstable();
    outputs[outputs.len() - 1 - outputs.len() / 8]
}

proptest! {
    #![proptest_config(ProptestConfig {
        failure_persistence: Some(Box::new(FileFailurePersistence::WithSource("regressions"))),
        ..ProptestConfig::default()
    })]

    #[test]
    fn it_is_the_quantile_within_an_eighth(outputs in prop::collection::vec(0..=MOST, 8..128)) {
        let said = output(&outputs).unwrap();
        let exact = by_sorting(outputs);
        prop_assert!(exact <= said && said <= exact + exact / 8, "{exact} {said}");
    }

    #[test]
    fn it_is_never_more_than_was_seen_and_never_less(outputs in prop::collection::vec(any::<u64>().prop_flat_map(|most| 0..=most), 8..1_000)) {
        let said = output(&outputs).unwrap();
        let (least, most) = (outputs.iter().min().unwrap(), outputs.iter().max().unwrap());
        prop_assert!(said <= *most && (*least).min(MOST) <= said);
    }

    #[test]
    fn it_converges_to_what_answers_come_to(noise in prop::collection::vec(any::<u64>(), 0..300), now in 0..=MOST) {
        let mut learning = learned(&noise);
        for _ in 0..600 {
            learning.observe("acme", "m", &answer(now));
        }
        let said = learning.output("acme", "m").unwrap();
        prop_assert!(now <= said && said <= now + now / 8, "{now} {said}");
    }

    #[test]
    fn one_absurd_answer_changes_no_more_than_any_other(usual in prop::collection::vec(100..=200_u64, 8..1_000), place in any::<prop::sample::Index>(), absurd in any::<u64>()) {
        let mut outputs = usual.clone();
        outputs.insert(place.index(usual.len()), absurd);
        let said = output(&outputs).unwrap();
        prop_assert!((100..=200 + 200 / 8).contains(&said), "{said}");
    }

    #[test]
    fn longer_answers_are_never_estimated_shorter(outputs in prop::collection::vec((0..=MOST, 0..=MOST), 8..128)) {
        let (less, more): (Vec<u64>, Vec<u64>) = outputs.into_iter().map(|(one, other)| (one.min(other), one.max(other))).unzip();
        // To the width of a bucket: the largest that was seen bounds both.
        prop_assert!(output(&less) <= output(&more));
    }

    #[test]
    fn the_same_calls_teach_the_same(calls in prop::collection::vec((any::<u64>(), any::<u64>(), 0..5_u64, any::<u64>()), 0..300), guess in any::<u64>()) {
        let learn = || {
            let mut learning = Learning::default();
            for (guessed_prompt, input, open_choices, output) in &calls {
                learning.observe("acme", "m", &Observation { guessed_prompt: *guessed_prompt, input: *input, open_choices: *open_choices, output: *output });
            }
            (learning.prompt("acme", "m", guess), learning.output("acme", "m"))
        };
        let (prompt, output) = learn();
        prop_assert_eq!((prompt, output), learn());
        prop_assert!(prompt >= guess / 4 && prompt >= u64::from(guess > 0) && u128::from(prompt) <= u128::from(guess) * 8);
    }
}
