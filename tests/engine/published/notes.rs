//! What `doctor` says of settings in which processes differ.

use llmquota::config::{Config, LimitsFile};
use serde_json::json;

use super::{NOW, published, with_file, with_variables};

#[test]
fn processes_that_agree_are_not_worth_a_note() {
    let config = with_variables(&[("OPENAI_RATE_LIMIT_PER_MINUTE", "100"), ("LLMQUOTA_TIMEZONE", "Europe/Rome")]);
    let same = with_variables(&[("OPENAI_RATE_LIMIT_PER_MINUTE", " 0100 "), ("LLMQUOTA_TIMEZONE", "europe/rome")]);
    assert_eq!(published([&config, &config, &same]).notes(), [""; 0]);
    let said = with_variables(&[("OPENAI_RATE_LIMIT_PER_MINUTE", "500")]);
    assert_eq!(published([&Config::default(), &said]).notes(), [""; 0], "what is built in, said aloud");
    let file = with_file("/etc/limits.toml", "", NOW);
    assert_eq!(published([&file, &file]).notes(), [""; 0]);
}

#[test]
fn a_note_names_each_value_its_variable_its_processes_and_which_holds() {
    let low = with_variables(&[("OPENAI_RATE_LIMIT_PER_MINUTE", "100"), ("OPENAI_MONTHLY_BUDGET_USD", "50")]);
    let high = with_variables(&[("OPENAI_RATE_LIMIT_PER_MINUTE", "200"), ("LLMQUOTA_TIMEZONE", "Europe/Rome")]);
    assert_eq!(
        published([&low, &high, &low, &Config::default(), &low]).notes(),
        [
            "requests_per_minute: processes 1, 3 and 5 have OPENAI_RATE_LIMIT_PER_MINUTE=100, \
             process 2 has OPENAI_RATE_LIMIT_PER_MINUTE=200, process 4 has none set (built in: 500); \
             100, the lowest, holds for all",
            "budget_usd_per_month: processes 1, 3 and 5 have OPENAI_MONTHLY_BUDGET_USD=50.00, \
             processes 2 and 4 have none set (built in: 100.00, only observed); 50.00, the lowest, holds for all",
            "timezone: processes 1, 3, 4 and 5 have none set (built in: UTC), \
             process 2 has LLMQUOTA_TIMEZONE=Europe/Rome; Europe/Rome, published first, holds for all",
        ]
    );
    let raised = with_variables(&[("OPENAI_RATE_LIMIT_PER_MINUTE", "1000")]);
    assert_eq!(
        published([&raised, &Config::default()]).notes(),
        ["requests_per_minute: process 1 has OPENAI_RATE_LIMIT_PER_MINUTE=1000, \
          process 2 has none set (built in: 500); 500, the lowest, holds for all"]
    );
    assert_eq!(
        published([&Config::unlimited(), &Config::default()]).notes(),
        ["what is built in: process 1 asked for none of it, process 2 did not; it holds for all"]
    );
}

#[test]
fn a_note_names_the_files_and_their_times() {
    let old = with_file("/a/limits.toml", "", NOW);
    let new = with_file("/b/limits.toml", "", NOW + 1_000_000_000);
    assert_eq!(
        published([&old, &new, &Config::default(), &new]).notes(),
        ["limits: process 1 has '/a/limits.toml' of 2026-01-31T00:00:00Z, \
          processes 2 and 4 have '/b/limits.toml' of 2026-01-31T00:00:01Z, process 3 has no limits file; \
          that of processes 2 and 4, the newest, holds for all"]
    );
    assert_eq!(
        published([&old, &Config::default()]).notes(),
        ["limits: process 1 has '/a/limits.toml' of 2026-01-31T00:00:00Z, process 2 has no limits file; \
          that of process 1, the only one, holds for all"]
    );
    let mapping = |cap: u64| {
        let value = json!({"defaults": {"max_burst": cap}});
        Config::default().with_file(LimitsFile::from_json(&value, "limits").unwrap())
    };
    assert_eq!(
        published([&mapping(1), &mapping(2)]).notes(),
        ["limits: process 1 has 'limits' (without a time), process 2 has 'limits' (without a time); \
          that of process 2, published last of those as old, holds for all"]
    );
}
