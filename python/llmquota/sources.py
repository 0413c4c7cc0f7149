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
from .settings import MENDING, LimitsWatcher, Settings, warn_once

__all__ = ["Arguments", "Environment", "Source"]

RELOAD_SECONDS = 1.0
"""How often a limits file is looked at, at most."""

_log = logging.getLogger("llmquota")


class Source(Protocol):
    """What a manager asks for its settings. One thread at a time."""

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
                manager.configure(limits_toml=text, limits_name=self.path)
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
    ) -> None:
        self._store = store
        self._clock = clock
        self._timezone = timezone
        self._on_store_failure = on_store_failure
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
            self._store,
            clock=self._clock,
            limits=self._limits,
            limits_toml=text,
            limits_name="limits" if self._file is None else self._file.path,
            timezone=self._timezone,
            on_store_failure=self._on_store_failure,
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

    def __init__(self, environ: Mapping[str, str] | None = None, store: str | None = None) -> None:
        """With a ``store``, that one takes the place of the environment's: it is not survived, but raised for."""
        self._environ = environ
        self._store = store
        self._settings: Settings | None = None
        self._file: _LimitsFile | None = None
        # The process whose beacon is lit, where its store is its own.
        self._lit_in: int | None = None

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
        """Raises :class:`QuotaConfigError` only where ``LLMQUOTA_REQUIRE_SHARED`` forbids a store of its own.

        And for the store that takes the place of the environment's, where that cannot be opened.
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
                    environment={
                        **settings.limits(),
                        "near_percent": str(settings.near_percent),
                        "critical_percent": str(settings.critical_percent),
                    },
                    timezone=settings.timezone,
                    limits_toml=text,
                    limits_name="" if file is None else file.path,
                )
                break
            except QuotaConfigError as error:
                expected = str(error).partition("; expected ")[2] or str(error)
                if file is not None and text is not None and str(error).startswith(file.path):
                    file.reject(error)
                    settings, text = settings.reject("LLMQUOTA_LIMITS", file.path, str(error)), None
                elif error.field == "timezone" and settings.timezone != Settings.timezone:
                    settings = settings.reject("LLMQUOTA_TIMEZONE", settings.timezone, expected)
                elif error.field == "store" and settings.store != "memory:" and self._store is None:
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
