//! What may go: reserves, by whoever waited for them or by nobody, and what a reserve would answer.

use std::time::Duration;

use super::{DEFAULT_TTL, MAX_TTL, Manager, answers, unexpected};
use crate::account::{AccountId, Call, Chain, Scope, canonical_workspace};
use crate::config::OnStoreFailure;
use crate::error::{Code, Error, Result};
use crate::reservation::{Ask, Hold, Verdict};
use crate::rules::decisions;
use crate::rules::turns::Priority;
use crate::store::{Batch, Fact, Queued, Receipt as Stored, Standing};
use crate::wire::{Decision, Reason};

/// What became of a reserve.
#[derive(Debug)]
pub(crate) struct Tried {
    pub(crate) verdict: Verdict,
    /// The accounts in its way, by their places in its chain; none where the store itself was.
    pub(crate) in_the_way: Vec<usize>,
}

impl From<Verdict> for Tried {
    fn from(verdict: Verdict) -> Self {
        Self { verdict, in_the_way: Vec::new() }
    }
}

impl Manager {
    /// Takes every limit of the call's accounts, or nothing.
    ///
    /// # Errors
    /// [`Code::InvalidId`], [`Code::InvalidNumber`]; [`Code::UnknownModel`] where unknown prices block. A refusal is no error.
    pub fn reserve(&self, call: &Call<'_>, ask: &Ask, ttl: Duration) -> Result<Verdict> {
        let chain = call.chain()?;
        let ask = self.ask(call, ask)?;
        let tried = self.reserve_unless_others_wait(call, &chain, ask, ttl)?;
        Ok(tried.unwrap_or_else(|ahead| Verdict::Refused(self.behind(&chain, ask, ahead))))
    }

    /// The same for whoever will wait where others do: `None` then, and it costs nobody to say when they will have gone.
    ///
    /// # Errors
    /// As [`Manager::reserve`].
    pub fn reserve_or_wait(&self, call: &Call<'_>, ask: &Ask, ttl: Duration) -> Result<Option<Verdict>> {
        let chain = call.chain()?;
        let ask = self.ask(call, ask)?;
        self.reserve_unless_others_wait(call, &chain, ask, ttl).map(std::result::Result::ok)
    }

    /// An error inside: so many others go first.
    fn reserve_unless_others_wait(
        &self,
        call: &Call<'_>,
        chain: &Chain<'_>,
        ask: decisions::Ask,
        ttl: Duration,
    ) -> Result<std::result::Result<Verdict, u32>> {
        if let Some(ahead) = self.0.queue.ahead_of(chain) {
            self.0.telemetry.refused(Reason::Queue, false);
            return Ok(Err(ahead));
        }
        Ok(match self.reserve_in_turn(call, chain, ask, ttl, None)?.verdict {
            Verdict::Refused(decision) if decision.reason == Some(Reason::Queue) => Err(decision.queued_ahead),
            verdict => Ok(verdict),
        })
    }

    /// The same past those who wait in this process; `queued` where it is the turn of one of them.
    pub(crate) fn reserve_in_turn(
        &self,
        call: &Call<'_>,
        chain: &Chain<'_>,
        ask: decisions::Ask,
        ttl: Duration,
        queued: Option<Queued>,
    ) -> Result<Tried> {
        let ttl = ttl.min(MAX_TTL);
        match self.apply(&Batch::Reserve { chain, ask, ttl, queued }) {
            Ok(Stored::Granted(grant)) => {
                self.0.telemetry.granted();
                Ok(Verdict::Granted(Hold::new(self.clone(), grant.hold, call)).into())
            }
            Ok(Stored::Refused(refusal)) => {
                let decision = answers::decision(chain, &refusal);
                self.0.telemetry.refused(decision.reason.unwrap_or(Reason::Limit), decision.never_fits);
                Ok(Tried { verdict: Verdict::Refused(decision), in_the_way: refusal.in_the_way().collect() })
            }
            Ok(other) => Err(unexpected(&other)),
            Err(error) => self.without_store(call, error).map(Tried::from),
        }
    }

    /// The store could not be asked: what the workspace's policy says.
    fn without_store(&self, call: &Call<'_>, error: Error) -> Result<Verdict> {
        let reason = match error.code() {
            Code::StoreBusy => Reason::StoreBusy,
            Code::StoreFull => Reason::StoreFull,
            _ => return Err(error),
        };
        let workspace = canonical_workspace(call.workspace)?;
        let account = AccountId { scope: Scope::Workspace, owner: "", name: workspace };
        let policy = self.0.config.load().resolve(account, self.now().wall).on_store_failure;
        if policy == OnStoreFailure::Open {
            return Ok(Verdict::Granted(Hold::uncounted(self.clone(), call)));
        }
        self.0.telemetry.refused(reason, false);
        Ok(Verdict::Refused(answers::without_store(reason, &error)))
    }

    /// What a reserve would answer now. Changes nothing and creates nothing.
    ///
    /// # Errors
    /// As [`Manager::reserve`].
    pub fn explain(&self, call: &Call<'_>, ask: &Ask) -> Result<Decision> {
        self.explain_to(call, ask, Standing::Plain)
    }

    /// When somebody would go who came to wait now: `allowed` where there is nothing to wait for, else `retry_at` is the time
    /// at which it would, if those before it take what they ask, open holds end as held, and nobody comes who is more urgent.
    ///
    /// # Errors
    /// As [`Manager::reserve`].
    pub fn explain_waiting(&self, call: &Call<'_>, ask: &Ask, priority: Priority) -> Result<Decision> {
        self.explain_to(call, ask, Standing::Newcomer(priority))
    }

    fn explain_to(&self, call: &Call<'_>, ask: &Ask, standing: Standing) -> Result<Decision> {
        let chain = call.chain()?;
        let ask = self.ask(call, ask)?;
        self.explained(&chain, ask, standing)
    }

    pub(crate) fn explained(&self, chain: &Chain<'_>, ask: decisions::Ask, standing: Standing) -> Result<Decision> {
        match self.apply(&Batch::Explain { chain, ask, standing })? {
            Stored::Granted(_) => Ok(answers::allowed()),
            Stored::Refused(refusal) => Ok(answers::decision(chain, &refusal)),
            other => Err(unexpected(&other)),
        }
    }

    /// What somebody is told who has so many before it: when it would go, where that can be said.
    fn behind(&self, chain: &Chain<'_>, ask: decisions::Ask, ahead: u32) -> Decision {
        match self.explained(chain, ask, Standing::Plain) {
            Ok(decision) if decision.queued_ahead > 0 || decision.never_fits => decision,
            // They went meanwhile, or the store has no room for their tickets.
            _ => answers::queued(ahead),
        }
    }

    /// Asks for a permit of a legacy limiter, and records it where there is one.
    ///
    /// # Errors
    /// [`Code::InvalidId`] for a name that is none; those of the store.
    pub fn permit(&self, limiter: &str) -> Result<Option<Decision>> {
        let chain = Chain::limiter(limiter)?;
        let ask = decisions::Ask { requests: 1, tokens: 0, money: 0 };
        match self.apply(&Batch::Reserve { chain: &chain, ask, ttl: DEFAULT_TTL, queued: None })? {
            Stored::Granted(grant) => {
                let fact = Fact { requests: 1, ..Fact::default() };
                self.fact_lands(&Batch::Settle { hold: grant.hold, chain: None, fact: &fact })?;
                Ok(None)
            }
            Stored::Refused(refusal) => Ok(Some(answers::decision(&chain, &refusal))),
            other => Err(unexpected(&other)),
        }
    }

    /// Takes a place among those who wait. A store that cannot be asked has none to give: it then waits behind all others of
    /// this process.
    pub(crate) fn take_place(&self, chain: &Chain<'_>, ask: decisions::Ask, priority: Priority) -> Queued {
        let queue = &self.0.queue;
        let workspace = chain.accounts().first().map_or("", |account| account.name);
        let weight = self.0.config.load().weight(workspace);
        let after = queue.end_of(chain, priority);
        match self.apply(&Batch::Queue { chain, ask, priority, weight, after }) {
            Ok(Stored::Queued(queued)) => queued,
            _ => queue.place_behind_all(priority),
        }
    }

    /// Tells the store that somebody still waits, behind others of this process, for these of its accounts.
    pub(crate) fn tell_of_staying(&self, queued: Queued, behind: &[usize]) {
        if self.has_other_processes() {
            // Where it cannot be told, others pass it before long.
            let _told = self.apply(&Batch::Stay { queued, behind });
        }
    }

    /// Tells the store that somebody waits no longer. Where that cannot be told, its ticket stands in the others' way for as
    /// long as their patience lasts.
    pub(crate) fn tell_of_leaving(&self, queued: Queued) {
        let _told = self.apply(&Batch::Leave(queued));
    }
}
