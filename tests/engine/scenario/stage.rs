//! Plays a scenario on a manual clock, and holds the engine to its laws at every step.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use llmquota::config::{Config, LimitsFile};
use llmquota::manager::DEFAULT_TTL;
use llmquota::reservation::Ended;
use llmquota::rules::left::Headers;
use llmquota::rules::limits::Mode;
use llmquota::wire::{Decision, LimitLine, Quantity};
use llmquota::{Ask, Call, Clock, Hold, Manager, ManualClock, Options, Report, Tracker, Verdict};
use serde_json::{Map, Value, json};

use super::document::{Outcome, Reserve, Scenario, Settle, Step, Verb, Whose, duration};
use super::expectation::matches;

/// Plays all of it.
///
/// # Errors
/// The first thing that does not go as written, with the number of its step.
pub(crate) fn play(scenario: &Scenario) -> Outcome<()> {
    let mut stage = Stage::new(scenario)?;
    let mut numbered = (1..).zip(&scenario.steps);
    numbered.try_for_each(|(number, step)| stage.step(step).map_err(|error| format!("step {number}: {error}")))
}

struct Stage {
    manager: Manager,
    clock: ManualClock,
    holds: HashMap<String, Hold>,
    /// Held until they expire, or the scenario ends.
    nameless: Vec<Hold>,
}

fn told(error: llmquota::Error) -> String {
    error.to_string()
}

impl Stage {
    fn new(scenario: &Scenario) -> Outcome<Self> {
        let clock = ManualClock::at(scenario.start);
        let config = Config::default().with_file(limits(&scenario.limits)?);
        let options = Options { bytes: 8 << 20, clock: Arc::new(clock.clone()), config, shared: None };
        let manager = Manager::new(options).map_err(told)?;
        Ok(Self { manager, clock, holds: HashMap::new(), nameless: Vec::new() })
    }

    fn step(&mut self, step: &Step) -> Outcome<()> {
        match &step.verb {
            Verb::Record(whose, record) => {
                let failure = record.failed.as_ref().map(|failed| failed.failure()).transpose()?;
                let report = Report { cost: record.cost()?, failure, ..Report::success(record.usage()) };
                for _ in 0..record.times.unwrap_or(1) {
                    self.tracker(whose)?.record_call(&whose.call(), &report).map_err(told)?;
                }
            }
            Verb::Reserve(whose, reserve) => self.reserve(whose, reserve, step.refused.as_ref())?,
            Verb::Explain(whose, explain) => {
                let ask = Ask { cost: explain.cost()?, ..Ask::tokens(explain.tokens.unwrap_or(0)) };
                let decision = self.manager.explain(&whose.call(), &ask).map_err(told)?;
                answered(&decision, step.refused.as_ref())?;
            }
            Verb::Learn(whose, failed) => self.manager.learn(&whose.call(), failed.failure()?).map_err(told)?,
            Verb::Hear(whose, told) => {
                let now = self.clock.exact();
                let mut reader = Headers::at(now.wall);
                told.headers.iter().for_each(|(name, value)| reader.see(name.as_bytes(), value.as_bytes()));
                let (left, _) = reader.end();
                self.manager.hear(&whose.call(), left, now.mono, true).map_err(|error| error.to_string())?;
            }
            Verb::Start(name) => became(self.hold(name)?.start().map_err(told)?, step)?,
            Verb::Settle(settle) => became(self.settle(settle)?, step)?,
            Verb::Release(name) => became(self.hold(name)?.release().map_err(told)?, step)?,
            Verb::Abandon(name) => became(self.hold(name)?.abandon().map_err(told)?, step)?,
            Verb::Drop(name) => {
                self.hold(name)?;
                self.holds.remove(name);
            }
            Verb::Wait(nanos) => self.clock.advance(*nanos),
            Verb::WaitUntil(instant) => {
                let wait = instant - self.clock.exact().wall;
                if wait <= 0 {
                    return Err("wait_until: that is over; set_clock sets the clock back".to_owned());
                }
                self.clock.advance(wait);
            }
            Verb::SetClock(instant) => self.clock.set_wall(*instant),
            Verb::ChangeLimits(file) => {
                self.manager
                    .configure(self.manager.config().with_file(limits(file)?))
                    .map_err(|error| error.to_string())?;
            }
            Verb::Reset(workspace) => {
                self.manager.tracker(workspace.as_deref()).and_then(|tracker| tracker.reset()).map_err(told)?;
            }
            Verb::Expect(whose, expected) => self.expect(whose, expected)?,
        }
        Ok(())
    }

    fn tracker(&self, whose: &Whose) -> Outcome<Tracker> {
        self.manager.tracker(whose.workspace.as_deref()).map_err(told)
    }

    fn hold(&mut self, name: &str) -> Outcome<&mut Hold> {
        self.holds.get_mut(name).ok_or_else(|| format!("there is no hold '{name}'"))
    }

    /// Asks for a hold. That the answer is what `explain` says, that a refusal takes nothing and that a grant is not past any
    /// limit is proven each time.
    fn reserve(&mut self, whose: &Whose, reserve: &Reserve, refused: Option<&Value>) -> Outcome<()> {
        let call = whose.call();
        let ask = Ask { cost: reserve.cost()?, ..Ask::tokens(reserve.tokens.unwrap_or(0)) };
        let ttl = reserve.ttl.as_deref().map(duration).transpose()?;
        let ttl = ttl.map_or(DEFAULT_TTL, |nanos| Duration::from_nanos(nanos.unsigned_abs()));
        let explained = self.manager.explain(&call, &ask).map_err(told)?;
        let before = self.lines(&call)?;
        match self.manager.reserve(&call, &ask, ttl).map_err(told)? {
            Verdict::Granted(hold) => {
                if !explained.allowed {
                    return Err(format!("granted, where explain says {explained:?}"));
                }
                answered(&explained, refused)?;
                self.lines(&call)?.iter().try_for_each(within)?;
                match &reserve.name {
                    Some(name) => {
                        if self.holds.insert(name.clone(), hold).is_some() {
                            return Err(format!("there is a hold '{name}' already"));
                        }
                    }
                    None => self.nameless.push(hold),
                }
            }
            Verdict::Refused(decision) => {
                answered(&decision, refused)?;
                if decision != explained {
                    return Err(format!("refused by {decision:?}, where explain says {explained:?}"));
                }
                let after = self.lines(&call)?;
                if after != before {
                    return Err(format!("the refusal took something: {before:?} became {after:?}"));
                }
            }
        }
        Ok(())
    }

    fn settle(&mut self, settle: &Settle) -> Outcome<Ended> {
        let failure = settle.failed.as_ref().map(|failed| failed.failure()).transpose()?;
        let report = Report {
            requests: settle.requests.unwrap_or(1),
            cost: settle.cost()?,
            failure,
            ..Report::success(settle.usage())
        };
        let (ended, _) = self.hold(&settle.hold)?.settle(&report, None).map_err(told)?;
        Ok(ended)
    }

    fn expect(&self, whose: &Whose, expected: &Map<String, Value>) -> Outcome<()> {
        let call = whose.call();
        let chain = call.chain().map_err(told)?;
        let Some(last) = chain.accounts().last() else { return Err("a call has accounts".to_owned()) };
        let own = self.lines(&call)?.into_iter().filter(|line| line.scope == last.scope);
        let limits: Map<_, _> = own.map(|line| (line.limit.as_str().to_owned(), json!(line))).collect();
        let mut found = json!({"limits": limits, "usage": self.manager.usage(&call).map_err(told)?});
        if chain.accounts().len() == 1 {
            let tracker = self.tracker(whose)?;
            let snapshot = tracker.snapshot().map_err(told)?;
            for key in ["status", "status_reasons", "holds", "provider_state"] {
                found[key] = json!(snapshot)[key].take();
            }
            found["can_make_request"] = json!(tracker.can_make_request().map_err(told)?);
        }
        if expected.is_empty() {
            return Err("nothing is expected".to_owned());
        }
        matches("", &Value::Object(expected.clone()), &found)
    }

    fn lines(&self, call: &Call<'_>) -> Outcome<Vec<LimitLine>> {
        self.manager.limits(call).map_err(told)
    }
}

fn limits(file: &Value) -> Outcome<LimitsFile> {
    LimitsFile::from_json(file, "limits").map_err(told)
}

fn became(ended: Ended, step: &Step) -> Outcome<()> {
    match &step.becomes {
        Some(state) if *state != ended.is.as_str() => Err(format!("becomes: expected {state}, found {ended:?}")),
        _ => Ok(()),
    }
}

/// No grant past the limit.
fn within(line: &LimitLine) -> Outcome<()> {
    let past = match (line.used, line.held, line.cap) {
        (Quantity::Count(used), Quantity::Count(held), Quantity::Count(cap)) => used + held > cap,
        (Quantity::Usd(used), Quantity::Usd(held), Quantity::Usd(cap)) => used + held > cap + 1e-9,
        _ => true,
    };
    if past && line.mode == Mode::Enforce { Err(format!("granted past the limit: {line:?}")) } else { Ok(()) }
}

/// Whether the answer is the one that is written.
fn answered(decision: &Decision, refused: Option<&Value>) -> Outcome<()> {
    match (decision.allowed, refused) {
        (true, None) => Ok(()),
        (true, Some(_)) => Err("granted, and should have been refused".to_owned()),
        (false, None) => Err(format!("refused, and should have been granted: {decision:?}")),
        (false, Some(written)) => {
            let limits = decision.limits.iter().map(|line| format!("{} {}", line.scope.as_str(), line.limit.as_str()));
            let found = json!({
                "reason": decision.reason,
                "breaker": decision.breaker,
                "never_fits": decision.never_fits,
                "retry_at": decision.retry_at,
                "retry_after": decision.retry_after_ms,
                "limits": limits.collect::<Vec<_>>(),
            });
            let mut written = written.clone();
            if let Some(wait) = written.get_mut("retry_after")
                && let Some(text) = wait.as_str()
            {
                *wait = json!(duration(text)? / 1_000_000);
            }
            if written.as_object().is_none_or(|keys| keys.is_empty()) {
                return Err("refused: say why".to_owned());
            }
            matches("refused", &written, &found)
        }
    }
}
