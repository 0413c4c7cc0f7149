//! Questions to what is kept: history, its sums, whether the counters are its, and how the store is.

use llmquota::store::history::Query;
use llmquota::usage::history::{Kind, Span};
use llmquota::{Code, Error};
use pyo3::prelude::*;

use crate::calls::{self, Given};
use crate::errors::OrRaise;

/// How many rows are given unless told.
const LIMIT: usize = 1_000;

/// Which rows are asked for, as Python says it.
pub(crate) struct Asked<'a, 'py> {
    pub(crate) workspace: Given<'a, 'py>,
    pub(crate) goal: Given<'a, 'py>,
    pub(crate) task: Given<'a, 'py>,
    pub(crate) model: Given<'a, 'py>,
    pub(crate) user: Given<'a, 'py>,
    pub(crate) since: Given<'a, 'py>,
    pub(crate) until: Given<'a, 'py>,
    pub(crate) kinds: Vec<String>,
    pub(crate) after: Given<'a, 'py>,
    pub(crate) limit: Given<'a, 'py>,
    pub(crate) newest_first: bool,
}

impl Asked<'_, '_> {
    /// The question.
    pub(crate) fn query(self, py: Python<'_>) -> PyResult<Query> {
        let name = |field: &str, value: Given<'_, '_>| -> PyResult<Option<String>> {
            value.map(|value| calls::text(field, value).map(str::to_owned)).transpose()
        };
        let count = |field: &str, value: Given<'_, '_>| value.map(|value| calls::count(field, value)).transpose();
        let kinds: Result<Vec<Kind>, Error> = self.kinds.iter().map(|word| kind(word)).collect();
        Ok(Query {
            // Without one, of any workspace: `None` is not the global one here.
            workspace: self.workspace.map(|_| calls::workspace(self.workspace).map(str::to_owned)).transpose()?,
            goal: name("goal_id", self.goal)?,
            task: name("task_id", self.task)?,
            model: name("model", self.model)?,
            user: name("user_id", self.user)?,
            since: self.since.map(|at| calls::instant("since", at)).transpose()?,
            until: self.until.map(|at| calls::instant("until", at)).transpose()?,
            kinds: kinds.or_raise(py)?,
            after: count("after", self.after)?.map(|id| i64::try_from(id).unwrap_or(i64::MAX)),
            limit: count("limit", self.limit)?.map_or(LIMIT, |limit| usize::try_from(limit).unwrap_or(usize::MAX)),
            newest_first: self.newest_first,
        })
    }
}

/// The kind of that word, of those that become rows.
fn kind(word: &str) -> Result<Kind, Error> {
    let rows = || Kind::ALL.into_iter().filter(|kind| !matches!(kind, Kind::Grant | Kind::Start));
    let names: Vec<_> = rows().map(Kind::as_str).collect();
    let known = rows().find(|kind| kind.as_str() == word);
    known.ok_or_else(|| Error::invalid(Code::InvalidChoice, "kinds", word, &format!("one of {}", names.join(", "))))
}

/// The span of that word.
pub(crate) fn span(word: &str) -> Result<Span, Error> {
    let names: Vec<_> = Span::ALL.iter().map(|span| span.as_str()).collect();
    let known = Span::ALL.into_iter().find(|span| span.as_str() == word);
    known.ok_or_else(|| Error::invalid(Code::InvalidChoice, "period", word, &format!("one of {}", names.join(", "))))
}
