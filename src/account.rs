//! Accounts: whose counters a call touches. One call touches one chain of them.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use arrayvec::ArrayVec;

use crate::error::{Code, Error, Result};

/// Longest id, in bytes of UTF-8.
pub const MAX_ID_BYTES: usize = 256;

/// The workspace of calls that nobody attributed; `None`, `""` and `"_global"` name it too.
pub const GLOBAL: &str = "global";

/// What an account stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum Scope {
    /// A tenant.
    Workspace = 1,
    /// A goal inside a workspace.
    Goal = 2,
    /// A task inside a workspace.
    Task = 3,
    /// A model as one workspace uses it.
    Model = 4,
    /// A user inside a workspace.
    User = 5,
    /// A credential at a provider, shared by all workspaces.
    Credential = 6,
    /// A model behind a credential, shared by all workspaces.
    ProviderModel = 7,
    /// A named limiter of the legacy `api_rate_limiter`, alone in its chain.
    Limiter = 8,
}

impl Scope {
    /// Every scope, in the order of a chain.
    pub const ALL: [Scope; 8] = [
        Scope::Workspace,
        Scope::Goal,
        Scope::Task,
        Scope::Model,
        Scope::User,
        Scope::Credential,
        Scope::ProviderModel,
        Scope::Limiter,
    ];

    /// The scope as it stands on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Scope::Workspace => "workspace",
            Scope::Goal => "goal",
            Scope::Task => "task",
            Scope::Model => "model",
            Scope::User => "user",
            Scope::Credential => "credential",
            Scope::ProviderModel => "provider_model",
            Scope::Limiter => "limiter",
        }
    }

    /// The scope of a stored number; `None` where the number is none of ours.
    #[must_use]
    pub fn from_u8(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|scope| *scope as u8 == number)
    }
}

/// Most accounts one call can touch.
pub const MAX_CHAIN: usize = 7;

/// Names an account: its scope, the owner it lies inside, and its own name.
///
/// The owner is the workspace for goals, tasks, models and users; `provider/credential` for a provider's model; empty otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AccountId<'a> {
    /// What it stands for.
    pub scope: Scope,
    /// What it lies inside.
    pub owner: &'a str,
    /// Its own name.
    pub name: &'a str,
}

/// Whom a call is for and what it uses: the accounts it touches, by name. All ids are validated when the chain is made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Call<'a> {
    /// The tenant; `None`, `""` and `"_global"` are [`GLOBAL`].
    pub workspace: Option<&'a str>,
    /// The goal, where there is one.
    pub goal: Option<&'a str>,
    /// The task, where there is one.
    pub task: Option<&'a str>,
    /// The model, for the workspace's model account and, with a credential, the provider's.
    pub model: Option<&'a str>,
    /// The end user, where known.
    pub user: Option<&'a str>,
    /// `provider/credential`: whose limits at the provider this call uses. The credential part is a keyed hash, never a key.
    pub credential: Option<&'a str>,
}

impl<'a> Call<'a> {
    /// A call for `workspace` and nothing else.
    #[must_use]
    pub fn new(workspace: &'a str) -> Self {
        Self { workspace: Some(workspace), ..Self::default() }
    }

    /// The call for a goal.
    #[must_use]
    pub fn goal(self, goal: &'a str) -> Self {
        Self { goal: Some(goal), ..self }
    }

    /// The call for a task.
    #[must_use]
    pub fn task(self, task: &'a str) -> Self {
        Self { task: Some(task), ..self }
    }

    /// The call of a model.
    #[must_use]
    pub fn model(self, model: &'a str) -> Self {
        Self { model: Some(model), ..self }
    }

    /// The call on behalf of a user.
    #[must_use]
    pub fn user(self, user: &'a str) -> Self {
        Self { user: Some(user), ..self }
    }

    /// The call through a provider's credential, `provider/credential`.
    #[must_use]
    pub fn credential(self, credential: &'a str) -> Self {
        Self { credential: Some(credential), ..self }
    }

    /// The chain of accounts, workspace first.
    ///
    /// # Errors
    /// [`Code::InvalidId`] names the first id that is not 1 to 256 bytes of UTF-8 without control characters.
    pub fn chain(&self) -> Result<Chain<'a>> {
        let mut chain = Chain::default();
        self.chain_into(&mut chain)?;
        Ok(chain)
    }

    /// The same into an empty chain of the caller's, which spares the hot path a copy.
    #[inline]
    pub(crate) fn chain_into(&self, chain: &mut Chain<'a>) -> Result<()> {
        self.chain_inside(canonical_workspace(self.workspace)?, chain)
    }

    /// The same with hints, for a workspace whose id is known to be valid, whatever the call's own.
    #[inline]
    pub(crate) fn chain_hinted(&self, workspace: &'a str, hints: &'a Hints, chain: &mut Chain<'a>) -> Result<()> {
        chain.hints = Some(hints);
        self.chain_inside(workspace, chain)
    }

    #[inline]
    fn chain_inside(&self, workspace: &'a str, chain: &mut Chain<'a>) -> Result<()> {
        chain.push(AccountId { scope: Scope::Workspace, owner: "", name: workspace });
        let inside = [
            (Scope::Goal, "goal_id", self.goal),
            (Scope::Task, "task_id", self.task),
            (Scope::Model, "model", self.model),
            (Scope::User, "user_id", self.user),
        ];
        for (scope, field, name) in inside {
            if let Some(name) = name {
                validate(field, name)?;
                chain.push(AccountId { scope, owner: workspace, name });
            }
        }
        if let Some(credential) = self.credential {
            validate("credential", credential)?;
            chain.push(AccountId { scope: Scope::Credential, owner: "", name: credential });
            if let Some(model) = self.model {
                chain.push(AccountId { scope: Scope::ProviderModel, owner: credential, name: model });
            }
        }
        Ok(())
    }
}

/// The accounts that one call touches, at most [`MAX_CHAIN`], each once.
#[derive(Debug, Clone, Default)]
pub struct Chain<'a> {
    accounts: ArrayVec<AccountId<'a>, MAX_CHAIN>,
    hints: Option<&'a Hints>,
}

/// Where a store found the last account of each scope: what a tracker remembers from call to call. A hint that is wrong costs
/// a look and no more; a store checks the name.
#[derive(Debug, Default)]
pub struct Hints {
    rows: [AtomicU32; Scope::ALL.len() + 1],
    /// What a store wrote down when the workspace last had room: as long as nothing was written since, it has.
    pub(crate) roomy: AtomicU64,
}

impl Hints {
    /// The last place of an account of this scope; 0 for none.
    #[inline]
    pub(crate) fn get(&self, scope: Scope) -> u32 {
        self.rows.get(scope as usize).map_or(0, |place| place.load(Ordering::Relaxed))
    }

    /// Remembers a place.
    #[inline]
    pub(crate) fn set(&self, scope: Scope, row: u32) {
        if let Some(place) = self.rows.get(scope as usize) {
            place.store(row, Ordering::Relaxed);
        }
    }
}

impl<'a> Chain<'a> {
    /// A chain of one account.
    #[must_use]
    pub fn one(account: AccountId<'a>) -> Self {
        let mut chain = Chain::default();
        chain.push(account);
        chain
    }

    /// The hints of whoever made this chain.
    #[inline]
    pub(crate) fn hints(&self) -> Option<&'a Hints> {
        self.hints
    }

    /// The chain of a legacy limiter's permit: its own account alone.
    ///
    /// # Errors
    /// [`Code::InvalidId`] where the name is not a valid id.
    pub fn limiter(name: &'a str) -> Result<Self> {
        validate("provider", name)?;
        Ok(Self::one(AccountId { scope: Scope::Limiter, owner: "", name }))
    }

    #[inline]
    pub(crate) fn push(&mut self, account: AccountId<'a>) {
        // There are as many places as scopes that can meet in one call.
        let _fits = self.accounts.try_push(account);
    }

    /// The accounts, workspace (or limiter) first.
    #[must_use]
    pub fn accounts(&self) -> &[AccountId<'a>] {
        &self.accounts
    }
}

/// The workspace that an id names: the id itself, or [`GLOBAL`] for none, `""` and `"_global"`.
///
/// # Errors
/// [`Code::InvalidId`] where the id is not valid.
#[inline]
pub fn canonical_workspace(id: Option<&str>) -> Result<&str> {
    match id {
        None | Some("" | "_global") => Ok(GLOBAL),
        Some(id) => validate("workspace_id", id).map(|()| id),
    }
}

/// Checks that `id`, which came in as `field`, is 1 to 256 bytes without control characters.
///
/// # Errors
/// [`Code::InvalidId`] names the field, the value (shortened) and what would be right.
#[inline]
pub fn validate(field: &'static str, id: &str) -> Result<()> {
    let expected = "1 to 256 bytes of UTF-8 without control characters";
    let bytes = id.as_bytes();
    if bytes.is_empty() || bytes.len() > MAX_ID_BYTES {
        return Err(Error::invalid(Code::InvalidId, field, id, expected));
    }
    if !is_printable_ascii(bytes) && id.chars().any(char::is_control) {
        return Err(Error::invalid(Code::InvalidId, field, id, expected));
    }
    Ok(())
}

/// True where every byte is a printable character of ASCII: looked at several at a time, for this is asked of each id of a call.
#[inline]
fn is_printable_ascii(bytes: &[u8]) -> bool {
    const EACH: u64 = 0x0101_0101_0101_0101;
    // The highest bit of a byte ends up set where it was set, where the byte is below a space, and where it is DEL. What is
    // borrowed or carried comes from such a byte.
    let is_odd = |word: u64| (word | word.wrapping_sub(EACH * 0x20) | word.wrapping_add(EACH)) & (EACH * 0x80) != 0;
    let (words, rest) = bytes.as_chunks::<8>();
    if words.iter().any(|word| is_odd(u64::from_le_bytes(*word))) {
        return false;
    }
    match (rest.first_chunk::<4>(), rest.last_chunk::<4>()) {
        (Some(first), Some(last)) => {
            !is_odd(u64::from(u32::from_le_bytes(*first)) | u64::from(u32::from_le_bytes(*last)) << 32)
        }
        _ => rest.iter().all(|byte| (b' '..0x7f).contains(byte)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_byte_that_is_no_printable_ascii_is_found_wherever_it_stands() {
        for len in 1..=25 {
            for place in 0..len {
                for byte in 0..=u8::MAX {
                    let mut bytes = vec![b'~'; len];
                    bytes[place] = byte;
                    assert_eq!(
                        is_printable_ascii(&bytes),
                        (b' '..=b'~').contains(&byte),
                        "{byte:#x} at {place} of {len}"
                    );
                }
            }
        }
    }

    #[test]
    fn a_chain_names_each_account_once_workspace_first() {
        let call = Call::new("acme").goal("g").task("t").model("gpt-4o").user("u").credential("openai/ab12");
        let chain = call.chain().unwrap();
        let scopes: Vec<_> = chain.accounts().iter().map(|account| account.scope).collect();
        assert_eq!(scopes, Scope::ALL[..7]);
        assert_eq!(
            chain.accounts()[6],
            AccountId { scope: Scope::ProviderModel, owner: "openai/ab12", name: "gpt-4o" }
        );
    }

    #[test]
    fn global_has_four_names() {
        for id in [None, Some(""), Some("_global"), Some("global")] {
            assert_eq!(canonical_workspace(id).unwrap(), GLOBAL);
        }
    }

    #[test]
    fn bad_ids_are_named() {
        for id in ["a\0b", "a\nb", "\u{85}", &"x".repeat(257)] {
            let error = Call::new(id).chain().unwrap_err();
            assert_eq!((error.code(), error.field()), (Code::InvalidId, "workspace_id"), "{id:?}");
        }
        assert_eq!(Call::new("a").goal("").chain().unwrap_err().field(), "goal_id");
        for id in ["é", "日本", "a b", &"x".repeat(256)] {
            Call::new(id).chain().unwrap();
        }
    }
}
