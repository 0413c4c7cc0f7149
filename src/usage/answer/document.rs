//! One document of an answer: a whole body, or the data of one event. What matters is picked out as it passes.

use super::json::Listener;
use super::names::Name;
use super::numbers::Numbers;
use super::{Failure, MOST_PROBLEMS};

/// How many objects an answer may lie in: an event, its data, its response.
const HOLDERS: usize = 4;
const WEB_SEARCH: &str = "web_search";
/// Kinds of tools that are told of one answer.
const MOST_TOOLS: usize = 32;

/// What one object that may be an answer says of itself.
#[derive(Debug, Clone, Default)]
struct Holder {
    id: Option<String>,
    model: Option<String>,
    tier: Option<String>,
    object: Option<String>,
    kind: Option<String>,
    numbers: Option<Numbers>,
}

/// What one document says.
#[derive(Debug, Default)]
pub(super) struct Document {
    /// From the outermost object on.
    holders: [Holder; HOLDERS],
    found: Found,
}

/// What was found in a document.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) id: Option<String>,
    pub(super) model: Option<String>,
    pub(super) tier: Option<String>,
    /// Of the outermost object: `response.completed`, `message_stop`, ...
    pub(super) kind: Option<String>,
    pub(super) numbers: Option<Numbers>,
    /// Characters that a model made, of a piece of an answer and of a whole one.
    pub(super) pieces: u64,
    pub(super) whole: u64,
    pub(super) images: u64,
    pub(super) tools: Vec<(String, u64)>,
    /// What a transcription without a usage says.
    duration: Option<Numbers>,
    /// Searches of the web that are charged, where that is told; else of those that were made these are not.
    charged_searches: Option<u64>,
    free_searches: u64,
    pub(super) error: Option<Failure>,
    pub(super) problems: Vec<String>,
    /// A value has ended.
    pub(super) is_whole: bool,
}

impl Found {
    /// Has as many searches of the web as are charged; `told` by the usage.
    fn count_searches(&mut self, told: Option<u64>) {
        let made = self.tools.iter().find(|(tool, _)| tool == WEB_SEARCH).map_or(0, |(_, times)| *times);
        let charged = told.or(self.charged_searches).unwrap_or(made.saturating_sub(self.free_searches));
        match self.tools.iter_mut().find(|(tool, _)| tool == WEB_SEARCH) {
            Some((_, times)) => *times = charged,
            None => self.tools.push((WEB_SEARCH.to_owned(), charged)),
        }
        self.tools.retain(|(_, times)| *times > 0);
    }
}

impl Document {
    /// The holder that a value belongs to, and its place inside.
    fn split(path: &[Name]) -> (usize, &[Name]) {
        let held = path.iter().take(HOLDERS - 1).take_while(|name| name.holds()).count();
        // Of what is itself called `data` the name is the value's own.
        let held = if held == path.len() { held.saturating_sub(1) } else { held };
        path.split_at_checked(held).map_or((0, path), |(before, inside)| (before.len(), inside))
    }

    fn note(&mut self, problem: Result<(), String>) {
        if let Err(problem) = problem
            && self.found.problems.len() < MOST_PROBLEMS
        {
            self.found.problems.push(problem);
        }
    }

    /// Takes a word of a usage.
    fn in_usage(&mut self, held: usize, names: &[Name], word: &str) {
        if let Some(holder) = self.holders.get_mut(held) {
            let told = holder.numbers.get_or_insert_default().take(names, word);
            self.note(told);
        }
    }

    fn used_tool(&mut self, kind: &str) {
        // What the caller's own code does is not the provider's.
        let Some(tool) = kind.strip_suffix("_call").filter(|tool| !matches!(*tool, "function" | "custom_tool")) else {
            return;
        };
        if let Some((_, times)) = self.found.tools.iter_mut().find(|(name, _)| name == tool) {
            *times += 1;
        } else if self.found.tools.len() < MOST_TOOLS {
            self.found.tools.push((tool.to_owned(), 1));
        }
    }

    /// The document is over.
    pub(super) fn end(self) -> Found {
        let Self { holders, mut found } = self;
        found.kind = holders[0].kind.clone();
        // Sound comes in letters too, and is no text.
        if found.kind.as_deref().is_some_and(|kind| kind.ends_with("audio.delta")) {
            found.pieces = 0;
        }
        let said = holders.iter().position(|holder| holder.numbers.as_ref().is_some_and(Numbers::says_anything));
        // What a step of a run used is in the run's own usage.
        let is_a_step = said.is_some_and(|held| holders[held].object.as_deref() == Some("thread.run.step"));
        let [first, ..] = &holders;
        let about = said.map_or(first, |held| &holders[held]);
        found.numbers = about.numbers.clone().filter(|_| said.is_some() && !is_a_step);
        found.numbers = found.numbers.or(found.duration.take());
        let told = found.numbers.as_ref().map(Numbers::searches).filter(|searches| *searches > 0);
        found.count_searches(told);
        // An answer is called what it calls itself, and else what the object around it is called.
        let around =
            || holders.iter().take(said.unwrap_or(0) + 1).rev().chain(holders.iter().skip(said.unwrap_or(0) + 1));
        found.id = around().find_map(|holder| holder.id.clone());
        found.model = around().find_map(|holder| holder.model.clone());
        found.tier = around().find_map(|holder| holder.tier.clone());
        found
    }
}

impl Listener for Document {
    type Key = Name;

    fn key(name: Option<&str>) -> Name {
        name.map_or(Name::Other, Name::of)
    }

    fn element() -> Name {
        Name::Element
    }

    fn opens(&mut self, path: &[Name]) {
        if let (held, [Name::Error]) = Self::split(path)
            && held < HOLDERS
        {
            self.found.error.get_or_insert_default();
        }
    }

    fn text(&mut self, path: &[Name], text: Option<&str>, characters: u64) {
        let (held, inside) = Self::split(path);
        let Some(holder) = self.holders.get_mut(held) else { return };
        let named = |field: &mut Option<String>| {
            if let Some(text) = text.filter(|text| !text.is_empty()) {
                *field = Some(text.to_owned());
            }
        };
        match inside {
            [Name::Id | Name::ResponseId] => named(&mut holder.id),
            [Name::Model] => named(&mut holder.model),
            [Name::ServiceTier] => named(&mut holder.tier),
            [Name::Object] => named(&mut holder.object),
            [Name::Type] => named(&mut holder.kind),
            [Name::Usage, Name::ServiceTier] => named(&mut holder.tier),
            [Name::Usage, names @ ..] if !matches!(names, [Name::Type]) => {
                // A number in quotation marks is none.
                let shown = format!("{:?}", text.unwrap_or("a long text"));
                self.in_usage(held, names, &shown);
            }
            [Name::Output, Name::Element, Name::Type] => {
                if let Some(kind) = text {
                    self.used_tool(kind);
                }
            }
            // A page that was found is opened for nothing.
            [Name::Output, Name::Element, Name::Action, Name::Type]
                if matches!(text, Some("open_page" | "find_in_page")) =>
            {
                self.found.free_searches += 1;
            }
            [Name::Duration] if held == 0 => self.found.duration = text.and_then(Numbers::of_duration),
            [Name::Error] => drop(self.found.error.get_or_insert_default()),
            [Name::Error, field @ (Name::Code | Name::Type)] => {
                let error = self.found.error.get_or_insert_default();
                named(if *field == Name::Code { &mut error.code } else { &mut error.kind });
            }
            [Name::Image] | [Name::Data, Name::Element, Name::Image] => self.found.images += 1,
            [Name::Element, Name::Image] if path.first() == Some(&Name::Data) => self.found.images += 1,
            _ => {
                let is_made = inside.last().copied().is_some_and(Name::is_made);
                if is_made && inside.contains(&Name::Delta) {
                    self.found.pieces += characters;
                } else if is_made {
                    match inside.first() {
                        // The older completions, in pieces or not.
                        Some(Name::Choices) if inside.last() == Some(&Name::Text) => self.found.pieces += characters,
                        Some(Name::Choices | Name::Output | Name::Content | Name::Text) => {
                            self.found.whole += characters
                        }
                        _ => {}
                    }
                }
            }
        }
    }

    fn plain(&mut self, path: &[Name], word: &str) {
        if let (held, [Name::Usage, names @ ..]) = Self::split(path)
            && !names.is_empty()
        {
            self.in_usage(held, names, word);
        } else if path == [Name::Duration] {
            self.found.duration = Numbers::of_duration(word);
        } else if let (_, [Name::ToolUsage, Name::WebSearch, Name::NumRequests]) = Self::split(path) {
            self.found.charged_searches = word.parse().ok();
        }
    }

    fn ends(&mut self) {
        self.found.is_whole = true;
    }
}
