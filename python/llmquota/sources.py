"""Where a manager's settings come from: the arguments that it was made with, or the environment.

A source opens a manager, and gives it its limits file again when that has changed. It knows nothing of usage.
"""

from __future__ import annotations

import dataclasses
import logging
import os
from collections.abc import Mapping
from typing import Any, Protocol

from . import _native
from .errors import QuotaConfigError
from .settings import MENDING, NAMES, LimitsWatcher, Settings, warn_once

__all__ = ["Arguments", "Environment", "Source"]

DEFAULT_TIMEZONE = "UTC"
DEFAULT_POLICY = "closed"
DEFAULT_HISTORY_DAYS = 90

RELOAD_SECONDS = 1.0
"""How often a limits file is looked at, at most."""

_log = logging.getLogger("llmquota")


class Source(Protocol):
    """What a manager asks for its settings. One thread at a time."""

    @property
    def store(self) -> str:
        """The name of the store, which may have a password in it."""

    @property
    def settings(self) -> Settings:
        """The settings of the environment that are in force; the defaults where it has no say."""

    @property
    def problems(self) -> tuple[str, ...]:
        """What is wrong with the settings, each in a sentence that says what holds instead."""

    def open(self, manager: _native.Manager) -> None:
        """Opens the manager with the settings as they are now."""

    def reload(self, manager: _native.Manager, now: float) -> None:
        """Gives the manager its limits file, where that has changed."""

    def forked(self, manager: _native.Manager) -> None:
        """Called in a forked child, for a manager that is open."""


class _LimitsFile:
    """A limits file that may change. One that cannot be read leaves the last good one in force."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = os.fspath(path)
        # The manager paces the looks, by its own clock.
        self._watcher = LimitsWatcher(self.path, interval=0.0)
        self._rejected: str | None = None
        self._noted: str | None = None

    @property
    def problem(self) -> str | None:
        """What is wrong with it now."""
        return self._rejected if self._watcher.problem is None else str(self._watcher.problem)

    @property
    def changed_ns(self) -> int:
        """When the text that was given last had been changed: of two files of one store the newer holds."""
        return self._watcher.changed_ns

    def text(self, now: float = 0.0) -> str | None:
        """Its text, where that differs from the last one given."""
        return self._watcher.poll(now)

    def reject(self, error: QuotaConfigError | None) -> None:
        """The text that was given last is not valid (``error`` has the line), or is (``None``)."""
        self._rejected = None if error is None else f"{error}; the last good limits hold"

    def reload(self, manager: _native.Manager, now: float) -> None:
        text = self.text(now)
        if text is not None:
            try:
                manager.configure(limits_toml=text, limits_name=self.path, limits_changed=self.changed_ns)
            except QuotaConfigError as error:
                self.reject(error)
            else:
                self.reject(None)
        self._note()

    def _note(self) -> None:
        # Each problem once, and again only after it was away.
        problem = self.problem
        if problem is not None and problem != self._noted:
            _log.warning("llmquota: %s", problem)
        self._noted = problem


class Arguments:
    """What a manager was made with."""

    def __init__(
        self,
        store: str,
        limits: str | os.PathLike[str] | Mapping[str, Any] | None,
        clock: _native.ManualClock | None,
        timezone: str,
        on_store_failure: str,
        history_days: int,
    ) -> None:
        self.store = store
        self._clock = clock
        self._timezone = timezone
        self._on_store_failure = on_store_failure
        self._history_days = history_days
        self._file: _LimitsFile | None = None
        self._limits: Mapping[str, Any] | None = None
        if isinstance(limits, (str, os.PathLike)):
            self._file = _LimitsFile(limits)
        else:
            self._limits = limits

    @property
    def settings(self) -> Settings:
        return Settings()

    @property
    def problems(self) -> tuple[str, ...]:
        problem = None if self._file is None else self._file.problem
        return () if problem is None else (problem,)

    def open(self, manager: _native.Manager) -> None:
        """Raises :class:`QuotaConfigError` for what is not valid, a limits file that cannot be read included."""
        text = None
        if self._file is not None:
            # Another one for each opening, since it gives each text once.
            self._file = _LimitsFile(self._file.path)
            text = self._file.text()
            if text is None:
                raise QuotaConfigError(f"limits: {self._file.problem}", "invalid_config", "limits")
        manager.open(
            self.store,
            clock=self._clock,
            limits=self._limits,
            limits_toml=text,
            limits_name="limits" if self._file is None else self._file.path,
            limits_changed=None if self._file is None else self._file.changed_ns,
            # What nobody has asked for must not stand against what another process of the store was given.
            timezone=None if self._timezone == DEFAULT_TIMEZONE else self._timezone,
            on_store_failure=None if self._on_store_failure == DEFAULT_POLICY else self._on_store_failure,
            history_days=self._history_days,
        )
        if self._file is not None:
            manager.reload_every(RELOAD_SECONDS)

    def reload(self, manager: _native.Manager, now: float) -> None:
        if self._file is not None:
            self._file.reload(manager, now)

    def forked(self, manager: _native.Manager) -> None:
        """Nothing."""


class Environment:
    """The environment, as it is at the first use. What is not valid there is named in one warning, and survived."""

    def __init__(
        self, environ: Mapping[str, str] | None = None, store: str | None = None, observe: bool = False
    ) -> None:
        """With a ``store``, that one takes the place of the environment's: it is not survived, but raised for.

        With ``observe`` a shared store is only looked at: the limits of the environment are published to nobody.
        """
        self._environ = environ
        self._store = store
        self._observe = observe
        self._settings: Settings | None = None
        self._file: _LimitsFile | None = None
        # The process whose beacon is lit, where its store is its own.
        self._lit_in: int | None = None

    @property
    def store(self) -> str:
        return self.settings.store if self._store is None else self._store

    @property
    def settings(self) -> Settings:
        return Settings.from_env(self._environ) if self._settings is None else self._settings

    @property
    def problems(self) -> tuple[str, ...]:
        # The file's is told as it is now, and not as it was at the first use.
        known = [str(problem) for problem in self.settings.problems if problem.variable != "LLMQUOTA_LIMITS"]
        problem = None if self._file is None else self._file.problem
        return (*known, *([] if problem is None else [problem]))

    def open(self, manager: _native.Manager) -> None:
        """Opens the store; what is not valid in the environment does not stop it.

        Raises :class:`QuotaConfigError` where ``LLMQUOTA_REQUIRE_SHARED`` forbids a store of its own; and, as
        :class:`QuotaStoreError` too, where a shared store is named that cannot be opened: who asked for one count must
        not be given as many as there are processes. So for the store that takes the place of the environment's.
        """
        settings = Settings.from_env(self._environ)
        if self._store is not None:
            settings = dataclasses.replace(settings, store=self._store, require_shared=False)
        self._file = file = None if settings.limits_path is None else _LimitsFile(settings.limits_path)
        text = None if file is None else file.text()
        if file is not None and file.problem is not None:
            settings = settings.reject("LLMQUOTA_LIMITS", file.path, file.problem)
        while True:
            _refuse_a_store_of_its_own(settings)
            try:
                manager.open(
                    settings.store,
                    environment=settings.limits(),
                    names=NAMES,
                    timezone=settings.zone(),
                    limits_toml=text,
                    limits_name="" if file is None else file.path,
                    limits_changed=None if text is None or file is None else file.changed_ns,
                    limits_unreadable=file is not None and text is None,
                    history_days=settings.history_days,
                    observe=self._observe,
                )
                break
            except QuotaConfigError as error:
                expected = str(error).partition("; expected ")[2] or str(error)
                if file is not None and text is not None and str(error).startswith(file.path):
                    file.reject(error)
                    settings, text = settings.reject("LLMQUOTA_LIMITS", file.path, str(error)), None
                elif error.field == NAMES["timezone"] and settings.zone() is not None:
                    settings = settings.reject("LLMQUOTA_TIMEZONE", settings.timezone, expected)
                elif error.field == "store" and _may_give_way(settings.store) and self._store is None:
                    settings = settings.reject("LLMQUOTA_STORE", settings.store, expected)
                else:
                    raise
        self._settings = settings
        warn_once(settings)
        self._light()
        if file is not None:
            manager.reload_every(RELOAD_SECONDS)

    def reload(self, manager: _native.Manager, now: float) -> None:
        if self._lit_in != os.getpid():
            self._light()
            manager.reload_every(None if self._file is None else RELOAD_SECONDS)
        if self._file is not None:
            self._file.reload(manager, now)

    def forked(self, manager: _native.Manager) -> None:
        # Not lit here: a child that never uses the quota counts nothing on its own. Its first use comes by.
        manager.reload_every(0)

    def _light(self) -> None:
        self._lit_in = os.getpid()
        if self._store is None and self.settings.store.startswith("memory:"):
            # Only for a store that is in use, so that no import pays for it.
            from . import beacon

            beacon.light()


def _may_give_way(store: str) -> bool:
    """Whether memory: may take the place of a store that cannot be opened."""
    return store != "memory:" and not store.startswith("shared:")


def _refuse_a_store_of_its_own(settings: Settings) -> None:
    if not settings.require_shared or not settings.store.startswith("memory:"):
        return
    # A store that was named and is none is the reason, where there is one.
    named = [f" ({problem})" for problem in settings.problems if problem.variable == "LLMQUOTA_STORE"]
    raise QuotaConfigError(
        f"LLMQUOTA_REQUIRE_SHARED: this process would count for itself alone, on memory:{''.join(named)}; let all"
        f" processes share one store: {MENDING}",
        "invalid_config",
        "LLMQUOTA_REQUIRE_SHARED",
    )
