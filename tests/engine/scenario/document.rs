//! A scenario as it is written. What is not known is an error: a typo must not pass. `tests/scenarios/README.md` is its
//! reference.

use std::collections::BTreeMap;

use jiff::Timestamp;
use llmquota::Call;
use llmquota::rules::breaker::Failure;
use llmquota::usage::{NanoUsd, TokenUsage};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

pub(crate) type Outcome<T> = Result<T, String>;

pub(crate) struct Scenario {
    /// Wall nanoseconds since the epoch.
    pub(crate) start: i64,
    pub(crate) limits: Value,
    pub(crate) steps: Vec<Step>,
}

pub(crate) struct Step {
    pub(crate) verb: Verb,
    /// What the refusal says; a step without it has to be granted.
    pub(crate) refused: Option<Value>,
    /// The state of the hold after the step.
    pub(crate) becomes: Option<String>,
}

pub(crate) enum Verb {
    Record(Whose, Record),
    Reserve(Whose, Reserve),
    Explain(Whose, Explain),
    Start(String),
    Settle(Settle),
    Release(String),
    Abandon(String),
    Drop(String),
    Learn(Whose, Failed),
    Hear(Whose, Headers),
    /// Nanoseconds.
    Wait(i64),
    /// Wall nanoseconds since the epoch.
    WaitUntil(i64),
    SetClock(i64),
    ChangeLimits(Value),
    Reset(Option<String>),
    Expect(Whose, Map<String, Value>),
}

/// Whom a call is for.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Whose {
    pub(crate) workspace: Option<String>,
    goal: Option<String>,
    task: Option<String>,
    model: Option<String>,
    user: Option<String>,
    credential: Option<String>,
}

impl Whose {
    const KEYS: [&str; 6] = ["workspace", "goal", "task", "model", "user", "credential"];

    pub(crate) fn call(&self) -> Call<'_> {
        Call {
            workspace: self.workspace.as_deref(),
            goal: self.goal.as_deref(),
            task: self.task.as_deref(),
            model: self.model.as_deref(),
            user: self.user.as_deref(),
            credential: self.credential.as_deref(),
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Record {
    tokens: Option<u64>,
    input_tokens: Option<u64>,
    output_tokens: Option<u64>,
    cached_tokens: Option<u64>,
    cost_usd: Option<f64>,
    pub(crate) failed: Option<Failed>,
    pub(crate) times: Option<u32>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Reserve {
    pub(crate) tokens: Option<u64>,
    cost_usd: Option<f64>,
    pub(crate) ttl: Option<String>,
    #[serde(rename = "as")]
    pub(crate) name: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Explain {
    pub(crate) tokens: Option<u64>,
    cost_usd: Option<f64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Settle {
    pub(crate) hold: String,
    tokens: Option<u64>,
    input_tokens: Option<u64>,
    output_tokens: Option<u64>,
    cached_tokens: Option<u64>,
    cost_usd: Option<f64>,
    pub(crate) requests: Option<u32>,
    pub(crate) failed: Option<Failed>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Failed {
    code: Option<String>,
    status: Option<u16>,
    retry_after: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Headers {
    pub(crate) headers: BTreeMap<String, String>,
}

impl Failed {
    pub(crate) fn failure(&self) -> Outcome<Failure> {
        let wait = self.retry_after.as_deref().map(duration).transpose()?;
        Ok(Failure::classify(self.code.as_deref(), self.status, wait))
    }
}

impl Record {
    pub(crate) fn usage(&self) -> TokenUsage {
        usage(self.tokens, self.input_tokens, self.output_tokens, self.cached_tokens)
    }

    pub(crate) fn cost(&self) -> Outcome<Option<NanoUsd>> {
        cost(self.cost_usd)
    }
}

impl Reserve {
    pub(crate) fn cost(&self) -> Outcome<Option<NanoUsd>> {
        cost(self.cost_usd)
    }
}

impl Explain {
    pub(crate) fn cost(&self) -> Outcome<Option<NanoUsd>> {
        cost(self.cost_usd)
    }
}

impl Settle {
    pub(crate) fn usage(&self) -> TokenUsage {
        usage(self.tokens, self.input_tokens, self.output_tokens, self.cached_tokens)
    }

    pub(crate) fn cost(&self) -> Outcome<Option<NanoUsd>> {
        cost(self.cost_usd)
    }

    fn says_something(&self) -> bool {
        let numbers = [self.tokens, self.input_tokens, self.output_tokens];
        numbers.iter().any(Option::is_some) || self.cost_usd.is_some() || self.failed.is_some()
    }
}

fn usage(all: Option<u64>, input: Option<u64>, output: Option<u64>, cached: Option<u64>) -> TokenUsage {
    let (input, output) = (input.unwrap_or(0), output.unwrap_or(0));
    let unsplit = all.unwrap_or(0).saturating_sub(input.saturating_add(output));
    TokenUsage { input, output, cached_input: cached.unwrap_or(0), unsplit, ..TokenUsage::default() }
}

fn cost(usd: Option<f64>) -> Outcome<Option<NanoUsd>> {
    usd.map(|usd| NanoUsd::from_usd_f64("cost_usd", usd)).transpose().map_err(|error| error.to_string())
}

impl Scenario {
    /// Reads the text of one.
    pub(crate) fn read(text: &str) -> Outcome<Self> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Document {
            about: String,
            start: String,
            #[serde(default)]
            limits: Map<String, Value>,
            steps: Vec<Value>,
        }
        // To YAML 1.2 `yes` is a text.
        let options = serde_saphyr::options! { strict_booleans: true };
        let value: Value = serde_saphyr::from_str_with_options(text, options).map_err(|error| error.to_string())?;
        let document: Document = typed(value)?;
        if document.about.is_empty() || document.steps.is_empty() {
            return Err("about and steps: neither may be empty".to_owned());
        }
        let numbered = document.steps.into_iter().enumerate();
        let read = |(number, step)| Step::read(step).map_err(|error| format!("step {}: {error}", number + 1));
        Ok(Self {
            start: instant(&document.start)?,
            limits: document.limits.into(),
            steps: numbered.map(read).collect::<Outcome<_>>()?,
        })
    }
}

impl Step {
    fn read(value: Value) -> Outcome<Self> {
        let mut keys = table(value)?;
        let refused = keys.remove("refused");
        let becomes = keys.remove("becomes").map(typed).transpose()?;
        let mut rest = keys.into_iter();
        let (Some((verb, value)), None) = (rest.next(), rest.next()) else {
            return Err("a step is one verb, and what is attached to it".to_owned());
        };
        let may_be_refused = ["reserve", "explain"].contains(&verb.as_str());
        if refused.is_some() && !may_be_refused {
            return Err(format!("refused: a {verb} is never refused"));
        }
        if becomes.is_some() && !["start", "settle", "release", "abandon"].contains(&verb.as_str()) {
            return Err(format!("becomes: a {verb} changes no hold"));
        }
        Ok(Self { verb: Verb::read(&verb, value).map_err(|error| format!("{verb}: {error}"))?, refused, becomes })
    }
}

impl Verb {
    fn read(verb: &str, value: Value) -> Outcome<Self> {
        Ok(match verb {
            "record" => with_whose(value, Self::Record)?,
            "reserve" => with_whose(value, Self::Reserve)?,
            "explain" => with_whose(value, Self::Explain)?,
            "learn" => with_whose(value, Self::Learn)?,
            "hear" => with_whose(value, Self::Hear)?,
            "expect" => with_whose(value, Self::Expect)?,
            "start" => Self::Start(typed(value)?),
            "settle" => {
                let settle: Settle = typed(value)?;
                if !settle.says_something() {
                    return Err("say what was used, or that it failed".to_owned());
                }
                Self::Settle(settle)
            }
            "release" => Self::Release(typed(value)?),
            "abandon" => Self::Abandon(typed(value)?),
            "drop" => Self::Drop(typed(value)?),
            "wait" => Self::Wait(duration(&typed::<String>(value)?)?),
            "wait_until" => Self::WaitUntil(instant(&typed::<String>(value)?)?),
            "set_clock" => Self::SetClock(instant(&typed::<String>(value)?)?),
            "change_limits" => Self::ChangeLimits(table(value)?.into()),
            "reset" => Self::Reset(typed(value)?),
            _ => return Err("there is no such verb".to_owned()),
        })
    }
}

/// Parts the call's own keys from the rest.
fn with_whose<T: DeserializeOwned>(value: Value, verb: fn(Whose, T) -> Verb) -> Outcome<Verb> {
    let (whose, rest) = table(value)?.into_iter().partition(|(key, _)| Whose::KEYS.contains(&key.as_str()));
    Ok(verb(typed(Value::Object(whose))?, typed(Value::Object(rest))?))
}

fn typed<T: DeserializeOwned>(value: Value) -> Outcome<T> {
    serde_json::from_value(value).map_err(|error| error.to_string())
}

fn table(value: Value) -> Outcome<Map<String, Value>> {
    typed(value)
}

/// Nanoseconds of `61s`: a whole number and its unit.
pub(crate) fn duration(text: &str) -> Outcome<i64> {
    let unit = text.trim_start_matches(|character: char| character.is_ascii_digit());
    let nanos = match unit {
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60 * 1_000_000_000,
        "h" => 3_600 * 1_000_000_000,
        "d" => 86_400 * 1_000_000_000,
        _ => return Err(format!("'{text}' is no duration such as 61s, 500ms, 2h")),
    };
    let number: i64 =
        text.strip_suffix(unit).unwrap_or_default().parse().map_err(|_| format!("'{text}': how many?"))?;
    Ok(number * nanos)
}

/// Wall nanoseconds of `2026-01-31T12:00:00Z`, to the second.
pub(crate) fn instant(text: &str) -> Outcome<i64> {
    let stamp: Option<Timestamp> = text.parse().ok().filter(|_| text.len() == 20 && text.ends_with('Z'));
    let stamp = stamp.ok_or_else(|| format!("'{text}' is no instant such as 2026-01-31T12:00:00Z"))?;
    Ok(stamp.as_second() * 1_000_000_000)
}
