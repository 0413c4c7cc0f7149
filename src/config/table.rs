//! One table of limits, in which a limit can be set, lifted, or left to what lies below.

use serde_json::{Map, Value, json};

use super::document::{Item, Path, Reader};
use super::environment::cap_text;
use super::{read, value};
use crate::error::Result;
use crate::rules::limits::{KINDS, Limit, LimitKind, LimitSet, Mode, Resource};

/// What a table says about one kind of limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Setting {
    /// Nothing: what lies below holds.
    #[default]
    Inherit,
    /// There is no limit, whatever lies below.
    Unlimited,
    /// This limit.
    Limited(Limit),
}

/// What one table says about every kind of limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LimitTable([Setting; KINDS]);

impl LimitTable {
    /// Reads a mapping such as `{"requests_per_minute": 100, "budget_usd_per_day": "2.50"}`. The values are those of a
    /// limits file; `name` says in errors where the mapping came from.
    ///
    /// # Errors
    /// [`Code::InvalidLimit`](crate::error::Code::InvalidLimit) for an unknown key or a value that is no limit.
    pub fn from_json(value: &Value, name: &str) -> Result<Self> {
        read::limit_table(&Reader::of_mapping(name), &Path::ROOT, Item::Json(value))
    }

    /// The mapping that [`LimitTable::from_json`] reads as this table, where each cap is one that a limits file may
    /// have.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let mut limits = Map::new();
        for (kind, setting) in LimitKind::ALL.into_iter().zip(self.0) {
            let value = match setting {
                Setting::Inherit => continue,
                Setting::Unlimited => json!(value::UNLIMITED),
                Setting::Limited(Limit { cap, mode: Mode::Enforce }) => cap_json(kind, cap),
                Setting::Limited(Limit { cap, mode: Mode::Observe }) => {
                    json!({"cap": cap_json(kind, cap), "mode": Mode::Observe})
                }
            };
            limits.insert(kind.as_str().to_owned(), value);
        }
        Value::Object(limits)
    }

    /// What it says about `kind`.
    #[must_use]
    pub fn get(&self, kind: LimitKind) -> Setting {
        self.0.get(kind as usize).copied().unwrap_or_default()
    }

    /// Says `setting` about `kind`.
    pub fn set(&mut self, kind: LimitKind, setting: Setting) {
        if let Some(place) = self.0.get_mut(kind as usize) {
            *place = setting;
        }
    }

    /// True where it says nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(|setting| *setting == Setting::Inherit)
    }
}

/// The limits that are set; an absent one inherits.
impl From<LimitSet> for LimitTable {
    fn from(set: LimitSet) -> Self {
        let mut table = Self::default();
        for (kind, limit) in set.iter() {
            table.set(kind, Setting::Limited(limit));
        }
        table
    }
}

/// A whole number, or US dollars as decimal text.
fn cap_json(kind: LimitKind, cap: u64) -> Value {
    match kind.resource() {
        Resource::Money => json!(cap_text(kind, cap)),
        _ => json!(cap),
    }
}
