//! Questions to what is kept: history, its sums, whether the counters are its, and how the store is.

use llmquota::store::history::Query;
use llmquota::usage::history::{Kind, Span};
use llmquota::{Code, Error};
use pyo3::prelude::*;

use crate::calls::{self, Given};
use crate::errors::OrRaise;

/// Which rows are asked for, as Python says it.
pub(crate) struct Asked<'a, 'py> {
    pub(crate) workspace: Option<String>,
    pub(crate) goal: Option<String>,
    pub(crate) task: Option<String>,
    pub(crate) model: Option<String>,
    pub(crate) user: Option<String>,
    pub(crate) since: Given<'a, 'py>,
    pub(crate) until: Given<'a, 'py>,
    pub(crate) kinds: Vec<String>,
    pub(crate) after: Option<i64>,
    pub(crate) limit: usize,
    pub(crate) newest_first: bool,
}

impl Asked<'_, '_> {
    /// The question.
    pub(crate) fn query(self, py: Python<'_>) -> PyResult<Query> {
        let workspace = match self.workspace.as_deref() {
            Some("" | "_global") => Some(llmquota::account::GLOBAL.to_owned()),
            _ => self.workspace,
        };
        let kinds: Result<Vec<Kind>, Error> = self.kinds.iter().map(|word| kind(word)).collect();
        Ok(Query {
            workspace,
            goal: self.goal,
            task: self.task,
            model: self.model,
            user: self.user,
            since: self.since.map(|at| calls::instant("since", at)).transpose()?,
            until: self.until.map(|at| calls::instant("until", at)).transpose()?,
            kinds: kinds.or_raise(py)?,
            after: self.after,
            limit: self.limit,
            newest_first: self.newest_first,
        })
    }
}

/// The kind of that word, of those that become rows.
fn kind(word: &str) -> Result<Kind, Error> {
    let rows = || Kind::ALL.into_iter().filter(|kind| !matches!(kind, Kind::Grant | Kind::Start));
    let names: Vec<_> = rows().map(Kind::as_str).collect();
    let known = rows().find(|kind| kind.as_str() == word);
    known.ok_or_else(|| Error::invalid(Code::InvalidChoice, "kind", word, &format!("one of {}", names.join(", "))))
}

/// The span of that word.
pub(crate) fn span(word: &str) -> Result<Span, Error> {
    let names: Vec<_> = Span::ALL.iter().map(|span| span.as_str()).collect();
    let known = Span::ALL.into_iter().find(|span| span.as_str() == word);
    known.ok_or_else(|| Error::invalid(Code::InvalidChoice, "period", word, &format!("one of {}", names.join(", "))))
}
