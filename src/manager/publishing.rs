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
        let config = self.0.publish(config, None)?.0;
        self.0.put_config(config);
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
        let config = match self.0.shared {
            Some(_) => {
                let change = Change::Set(account, Override { limits, expires_wall_nanos });
                self.0.publish((*config).clone(), Some(&change))?.0
            }
            None => config.with_override(account, limits, expires_wall_nanos),
        };
        self.0.put_config(config);
        Ok(())
    }

    /// Takes an override away; false where the account has none.
    ///
    /// # Errors
    /// As [`Manager::configure`].
    pub fn remove_override(&self, account: AccountId<'_>) -> Result<bool> {
        let config = self.config();
        let without = match self.0.shared {
            Some(_) => {
                let (config, had) = self.0.publish((*config).clone(), Some(&Change::Remove(account)))?;
                had.then_some(config)
            }
            None => config.without_override(account),
        };
        let had = without.is_some();
        if let Some(config) = without {
            self.0.put_config(config);
        }
        Ok(had)
    }
}

impl Inner {
    /// Publishes what this process was opened with, or takes what the others have where it only looks.
    pub(super) fn begin_publishing(&self) -> Result<()> {
        let config = self.config.load_full();
        self.put_config(self.publish((*config).clone(), None)?.0);
        for (account, set) in config.overrides() {
            let before = (*self.config.load_full()).clone();
            self.put_config(self.publish(before, Some(&Change::Set(account, *set)))?.0);
        }
        Ok(())
    }

    fn put_config(&self, config: Config) {
        let config = Arc::new(config);
        self.per_1k_tokens.store(config.tariff().per_1k_tokens().nanos(), Ordering::Relaxed);
        self.config.store(Arc::clone(&config));
        self.region.configure(config);
        self.queue.wake();
    }

    /// What holds with this configuration, for all processes of the store; and whether `change` changed anything.
    pub(super) fn publish(&self, config: Config, change: Option<&Change<'_>>) -> Result<(Config, bool)> {
        let Some(shared) = &self.shared else { return Ok((config, false)) };
        if shared.observes && change.is_none() {
            let published = Published::read(&shared.directory)?;
            return Ok((published.map_or(Ok(config.clone()), |published| published.config(&config))?, false));
        }
        let region = &self.region;
        let me = Publisher { id: region.owner(), pid: std::process::id() };
        region.configuring(|directory| {
            let read = Published::read(directory)?.unwrap_or_else(|| Published::new(region.config_version()));
            let alive = |publisher: Publisher| region.owner_lives(publisher.id);
            let merged = if shared.observes { None } else { read.merge(me, &config, alive) };
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
            let taken = next.config(&config)?;
            if next != read {
                next.write(directory)?;
            }
            // Always: whoever wrote it last may have died before this.
            region.set_config_version(next.version());
            Ok((taken, changed))
        })
    }

    /// Takes what another process has published.
    pub(super) fn follow_published(&self) -> Result<()> {
        let Some(shared) = &self.shared else { return Ok(()) };
        let before = self.config.load_full();
        let Some(published) = Published::read(&shared.directory)? else { return Ok(()) };
        let me = Publisher { id: self.region.owner(), pid: std::process::id() };
        let config = if shared.observes || published.has(me) {
            published.config(&before)?
        } else {
            self.publish((*before).clone(), None)?.0
        };
        if config != *before {
            self.put_config(config);
        }
        Ok(())
    }
}
