//! Notices as people read them: an id and its arguments become a title, a text and actions in the reader's language.
//!
//! The texts are Fluent, one file a language. To add a language, write `locales/<lang>/quota.ftl` and add its line to
//! [`SOURCES`]; the tests then name every message and argument that it lacks. Numbers, money and times are laid out by messages
//! of the same file, so nothing else knows a language.

use std::sync::LazyLock;

use fluent_bundle::concurrent::FluentBundle;
use fluent_bundle::{FluentArgs, FluentResource};
use serde::Serialize;
use unic_langid::LanguageIdentifier;

use super::languages;
use super::notices::{Arg, Level, Notice, NoticeId};
use super::phrases;

/// The languages there are, each with its texts. The first is what the others fall back to.
pub const SOURCES: &[(&str, &str)] =
    &[("en", include_str!("../../locales/en/quota.ftl")), ("it", include_str!("../../locales/it/quota.ftl"))];

/// Most actions that a notice proposes: the attributes `action-1` to `action-3` of its message.
const ACTIONS: [&str; 3] = ["action-1", "action-2", "action-3"];

/// A notice in one language. The empty title of `status-normal` and `allowed` means that there is nothing to show.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Rendered {
    /// Which notice.
    pub id: NoticeId,
    /// How much it matters.
    pub level: Level,
    /// The language of the texts, e.g. `it`.
    pub language: String,
    /// A few words.
    pub title: String,
    /// One or a few sentences.
    pub message: String,
    /// What the reader may do, most useful first; none to three.
    pub actions: Vec<String>,
}

/// The parsed texts of one language.
pub(super) type Bundle = FluentBundle<FluentResource>;

/// The texts of all languages; threads may share one.
pub struct Catalog {
    languages: Vec<LanguageIdentifier>,
    /// One for each language, in the same order.
    bundles: Vec<Bundle>,
    problems: Vec<String>,
}

impl std::fmt::Debug for Catalog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Catalog").field("languages", &self.languages).field("problems", &self.problems).finish()
    }
}

impl Catalog {
    /// The catalog of [`SOURCES`], parsed on first use.
    #[must_use]
    pub fn bundled() -> &'static Catalog {
        static BUNDLED: LazyLock<Catalog> = LazyLock::new(|| Catalog::new(SOURCES));
        &BUNDLED
    }

    /// A catalog of `(language tag, Fluent text)` pairs; the first language is what the others fall back to.
    ///
    /// Never fails: what cannot be read is left out and named by [`Catalog::problems`].
    #[must_use]
    pub fn new(sources: &[(&str, &str)]) -> Self {
        let mut catalog = Self { languages: Vec::new(), bundles: Vec::new(), problems: Vec::new() };
        for (tag, text) in sources {
            match tag.parse::<LanguageIdentifier>() {
                Ok(language) => catalog.add(language, text),
                Err(error) => catalog.problems.push(format!("{tag}: {error}")),
            }
        }
        catalog
    }

    fn add(&mut self, language: LanguageIdentifier, text: &str) {
        let resource = FluentResource::try_new(text.to_owned()).unwrap_or_else(|(readable, errors)| {
            self.problems.extend(errors.iter().map(|error| format!("{language}: {error}")));
            readable
        });
        let mut bundle = Bundle::new_concurrent(vec![language.clone()]);
        // Isolation marks would show as boxes in terminals and logs; no language here is written from right to left.
        bundle.set_use_isolating(false);
        if let Err(errors) = bundle.add_resource(resource) {
            self.problems.extend(errors.iter().map(|error| format!("{language}: {error}")));
        }
        self.languages.push(language);
        self.bundles.push(bundle);
    }

    /// What could not be read, in words; empty for the bundled catalog.
    #[must_use]
    pub fn problems(&self) -> &[String] {
        &self.problems
    }

    /// The languages there are; the first is the fallback.
    #[must_use]
    pub fn languages(&self) -> &[LanguageIdentifier] {
        &self.languages
    }

    /// The language for the value of an `Accept-Language` header. Where the value names none of the languages there are, or is
    /// malformed or empty, the fallback.
    #[must_use]
    pub fn negotiate(&self, accept_language: &str) -> LanguageIdentifier {
        languages::negotiate(accept_language, &self.languages).or(self.languages.first()).cloned().unwrap_or_default()
    }

    /// The notice in the language nearest to `language`. Where that lacks any of its messages, the whole notice is in the
    /// fallback, as `Rendered::language` says: two languages are never mixed in one notice.
    #[must_use]
    pub fn render(&self, notice: &Notice, language: &LanguageIdentifier) -> Rendered {
        let rendered = self.order(language).find_map(|(language, bundle)| self.render_in(notice, language, bundle));
        rendered.unwrap_or_else(|| Rendered {
            id: notice.id,
            level: notice.level,
            language: String::new(),
            title: String::new(),
            message: notice.id.as_str().to_owned(),
            actions: Vec::new(),
        })
    }

    /// The message `id` in the language nearest to `language`, else in the fallback, else the id itself.
    #[must_use]
    pub fn text(&self, id: &str, args: &[(&'static str, Arg)], language: &LanguageIdentifier) -> String {
        let text =
            self.order(language).find_map(|(_, bundle)| value(bundle, id, None, &phrases::fluent(bundle, args)?));
        text.unwrap_or_else(|| id.to_owned())
    }

    /// The bundles to try: the nearest to `language`, then the fallback.
    fn order(&self, language: &LanguageIdentifier) -> impl Iterator<Item = (&LanguageIdentifier, &Bundle)> {
        let nearest = languages::best(language, &self.languages);
        let pairs = || self.languages.iter().zip(&self.bundles);
        pairs().find(|(language, _)| Some(*language) == nearest).into_iter().chain(pairs().next())
    }

    /// `None` where the bundle lacks a message, an attribute that the fallback has, or an argument.
    fn render_in(&self, notice: &Notice, language: &LanguageIdentifier, bundle: &Bundle) -> Option<Rendered> {
        let id = notice.id.as_str();
        let args = phrases::fluent(bundle, &notice.args)?;
        let wanted = self.bundles.first()?.get_message(id)?;
        let attribute = |name: &'static str| wanted.get_attribute(name).map(|_| value(bundle, id, Some(name), &args));
        let actions = ACTIONS.into_iter().filter_map(attribute).collect::<Option<Vec<_>>>()?;
        Some(Rendered {
            id: notice.id,
            level: notice.level,
            language: language.to_string(),
            title: attribute("title").unwrap_or_else(|| Some(String::new()))?,
            message: value(bundle, id, None, &args)?,
            actions,
        })
    }
}

/// The value of message `id`, or of one of its attributes; `None` where it or anything that it refers to is missing.
pub(super) fn value(bundle: &Bundle, id: &str, attribute: Option<&str>, args: &FluentArgs<'_>) -> Option<String> {
    let message = bundle.get_message(id)?;
    let pattern = match attribute {
        None => message.value()?,
        Some(name) => message.get_attribute(name)?.value(),
    };
    let mut errors = Vec::new();
    let text = bundle.format_pattern(pattern, Some(args), &mut errors).into_owned();
    errors.is_empty().then_some(text)
}
