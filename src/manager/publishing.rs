//! One configuration for all processes of a store: what this one is given it publishes, and what others publish it takes.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::{Inner, Manager};
use crate::account::AccountId;
use crate::config::{Change, Config, LimitTable, Override, Published, Publisher};
use crate::error::Result;
use crate::store::Store;

impl Manager {
    /// The configuration in force.
    #[must_use]
    pub fn config(&self) -> Arc<Config> {
        self.0.config.load_full()
    }

    /// Takes another configuration, and of a shared store makes it known to the other processes. Usage and holds stay; the limits
    /// apply to the next grant. Overrides are set by [`Manager::set_override`] alone.
    ///
    /// # Errors
    /// Of a shared store: where the configuration cannot be published, and then nothing is changed.
    pub fn configure(&self, config: Config) -> Result<()> {
        let taken = self.0.publish(config, None)?;
        self.0.put_config(taken);
        Ok(())
    }

    /// Sets limits by hand for one account, above all others, until the wall time `expires_wall_nanos` or until taken away.
    ///
    /// # Errors
    /// As [`Manager::configure`].
    pub fn set_override(
        &self,
        account: AccountId<'_>,
        limits: impl Into<LimitTable>,
        expires_wall_nanos: Option<i64>,
    ) -> Result<()> {
        let limits = limits.into();
        let config = self.config();
        let taken = match self.0.shared {
            Some(_) => {
                let change = Change::Set(account, Override { limits, expires_wall_nanos });
                self.0.publish((*config).clone(), Some(&change))?
            }
            None => Taken::own(config.with_override(account, limits, expires_wall_nanos)),
        };
        self.0.put_config(taken);
        Ok(())
    }

    /// Takes an override away; false where the account has none.
    ///
    /// # Errors
    /// As [`Manager::configure`].
    pub fn remove_override(&self, account: AccountId<'_>) -> Result<bool> {
        let config = self.config();
        let without = match self.0.shared {
            Some(_) => Some(self.0.publish((*config).clone(), Some(&Change::Remove(account)))?),
            None => config.without_override(account).map(Taken::own),
        };
        let had = without.as_ref().is_some_and(|taken| taken.changed);
        if let Some(taken) = without {
            self.0.put_config(taken);
        }
        Ok(had)
    }
}

impl Inner {
    /// Publishes what this process was opened with, or takes what the others have where it only looks.
    pub(super) fn begin_publishing(&self) -> Result<()> {
        let config = self.config.load_full();
        self.put_config(self.publish((*config).clone(), None)?);
        for (account, set) in config.overrides() {
            let before = (*self.config.load_full()).clone();
            self.put_config(self.publish(before, Some(&Change::Set(account, *set)))?);
        }
        Ok(())
    }

    fn put_config(&self, taken: Taken) {
        let config = Arc::new(taken.config);
        self.per_1k_tokens.store(config.tariff().per_1k_tokens().nanos(), Ordering::Relaxed);
        self.config.store(Arc::clone(&config));
        self.region.configure(config);
        self.region.follows(taken.version);
        self.region.tell_of_config();
        self.queue.wake();
    }

    /// What holds with this configuration, for all processes of the store, after `change`.
    fn publish(&self, config: Config, change: Option<&Change<'_>>) -> Result<Taken> {
        let Some(shared) = &self.shared else { return Ok(Taken::own(config)) };
        if shared.observes && change.is_none() {
            return match Published::read(&shared.directory)? {
                Some(published) => self.taken(&published, &config, false),
                None => Ok(Taken { version: self.region.config_version(), ..Taken::own(config) }),
            };
        }
        let region = &self.region;
        region.configuring(|directory| {
            let read = Published::read(directory)?.unwrap_or_else(|| Published::new(region.config_version()));
            let alive = |publisher: Publisher| region.owner_lives(publisher.id);
            let merged = if shared.observes { None } else { read.merge(self.publisher(), &config, alive) };
            let mut next = merged.unwrap_or_else(|| read.clone());
            if let Some(without) = next.without_ended(region.wall()) {
                next = without;
            }
            let mut changed = false;
            if let Some(change) = change
                && let Some(with) = next.apply(change)?
            {
                (next, changed) = (with, true);
            }
            // Before it is written, for it may fail.
            let taken = self.taken(&next, &config, changed)?;
            if next != read {
                next.write(directory)?;
            }
            // Always: whoever wrote it last may have died before this.
            region.set_config_version(next.version());
            Ok(taken)
        })
    }

    fn publisher(&self) -> Publisher {
        Publisher { id: self.region.owner(), pid: std::process::id() }
    }

    /// A file that somebody has put back is followed too, or every batch would wait for a newer one.
    fn taken(&self, published: &Published, before: &Config, changed: bool) -> Result<Taken> {
        let version = published.version().max(self.region.config_version());
        Ok(Taken { config: published.config(before)?, version, changed })
    }

    /// In what the living processes are configured differently, and what of it holds: a sentence each.
    pub(super) fn differences(&self) -> Result<Vec<String>> {
        let Some(shared) = &self.shared else { return Ok(Vec::new()) };
        let Some(published) = Published::read(&shared.directory)? else { return Ok(Vec::new()) };
        let living = published.forget(|publisher| self.region.owner_lives(publisher.id));
        Ok(living.unwrap_or(published).notes())
    }

    /// Takes what another process has published.
    pub(super) fn follow_published(&self) -> Result<()> {
        let Some(shared) = &self.shared else { return Ok(()) };
        if self.region.is_up_to_date() {
            return Ok(());
        }
        let before = self.config.load_full();
        let published = Published::read(&shared.directory)?;
        let taken = match published.filter(|published| shared.observes || published.has(self.publisher())) {
            Some(published) => self.taken(&published, &before, false)?,
            None => self.publish((*before).clone(), None)?,
        };
        if taken.config == *before {
            self.region.follows(taken.version);
        } else {
            self.put_config(taken);
        }
        Ok(())
    }
}

/// A configuration that this process takes.
#[derive(Debug)]
struct Taken {
    config: Config,
    /// The published version that it is of; 0 for one that nobody else has.
    version: u64,
    /// A change by hand changed something.
    changed: bool,
}

impl Taken {
    fn own(config: Config) -> Self {
        Self { config, version: 0, changed: true }
    }
}
