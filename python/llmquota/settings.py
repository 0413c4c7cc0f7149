"""What the environment says: the only module of the package that reads environment variables.

A bad value never stops an import. It is named in ``Settings.problems``, its default holds, and :func:`warn_once` says
so in one log entry. ``docs/settings.md`` and ``.env.example`` describe every variable of :data:`VARIABLES`.
"""

from __future__ import annotations

import dataclasses
import logging
import os
import stat
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from . import parsing

__all__ = [
    "MENDING",
    "NAMES",
    "VARIABLES",
    "LimitsWatcher",
    "Problem",
    "Settings",
    "Variable",
    "admin_reset_key",
    "provider_bases",
    "warn_once",
]

_SHOWN_CHARS = 60
_HIDDEN = "(hidden)"

EXAMPLE_ADMIN_KEY = "your_secure_admin_key_here"
"""What ``.env.example`` has for ``QUOTA_ADMIN_RESET_KEY``."""

MENDING = "LLMQUOTA_STORE=shared:/var/lib/llmquota"
"""The line that makes processes share one store, where each has its own."""


@dataclass(frozen=True)
class Problem:
    """A setting that is not valid: which one, what was given, what would be right, and what holds instead."""

    variable: str
    #: As given, quoted, shortened; never a secret.
    value: str
    #: What would be right.
    expected: str
    #: What holds instead.
    used: str

    def __str__(self) -> str:
        return f"{self.variable}: {self.value} is not valid; expected {self.expected}; using {self.used}"


@dataclass(frozen=True)
class Variable:
    """An environment variable that the package reads."""

    name: str
    #: The attribute of :class:`Settings`; ``None`` where it is read at each use instead.
    attribute: str | None
    #: What holds without it, as one would write it.
    default: str
    parse: Callable[[str], object]
    #: The kind of limit that it sets for every workspace, where it does.
    limit: str | None = None
    #: Numbers may not be blank; for the others, blank is the same as absent.
    blank_is_absent: bool = True
    show: Callable[[str], str] = field(default=repr)


def _hide(_text: str) -> str:
    return _HIDDEN


def _show_store(text: str) -> str:
    """The scheme alone: what follows it may hold a password."""
    scheme, colon, _ = text.partition(":")
    return repr(f"{scheme}:...") if colon and scheme.replace("-", "").isalnum() else _HIDDEN


def _limit(name: str, kind: str, default: str, parse: Callable[[str], object] = parsing.count) -> Variable:
    return Variable(name, kind, default, parse, limit=kind, blank_is_absent=False)


_NEAR = Variable("OPENAI_WARNING_THRESHOLD_PERCENT", "near_percent", "80", parsing.percent, blank_is_absent=False)
_CRITICAL = Variable(
    "OPENAI_CRITICAL_THRESHOLD_PERCENT", "critical_percent", "95", parsing.percent, blank_is_absent=False
)
_TIMEZONE = Variable("LLMQUOTA_TIMEZONE", "timezone", "UTC", parsing.time_zone)
_ADMIN_RESET_KEY = Variable("QUOTA_ADMIN_RESET_KEY", None, "", parsing.secret, show=_hide)

VARIABLES: tuple[Variable, ...] = (
    _limit("OPENAI_RATE_LIMIT_PER_MINUTE", "requests_per_minute", "500"),
    _limit("OPENAI_RATE_LIMIT_PER_DAY", "requests_per_day", "10000"),
    _limit("OPENAI_TOKEN_LIMIT_PER_MINUTE", "tokens_per_minute", "150000"),
    _limit("OPENAI_DAILY_TOKEN_LIMIT", "tokens_per_day", "2000000"),
    _limit("OPENAI_MONTHLY_BUDGET_USD", "budget_usd_per_month", "100", parsing.us_dollars),
    _NEAR,
    _CRITICAL,
    Variable("LLMQUOTA_STORE", "store", "memory:", parsing.store, show=_show_store),
    Variable("LLMQUOTA_LIMITS", "limits_path", "", parsing.path),
    _TIMEZONE,
    Variable("LLMQUOTA_TOKEN_SECRET", "token_secret", "", parsing.secret, show=_hide),
    Variable("LLMQUOTA_REQUIRE_SHARED", "require_shared", "0", parsing.switch),
    Variable("LLMQUOTA_HISTORY_DAYS", "history_days", "90", parsing.days, blank_is_absent=False),
    _ADMIN_RESET_KEY,
)
"""Every variable that the package reads."""

_BY_NAME = {variable.name: variable for variable in VARIABLES}

NAMES: dict[str, str] = {
    variable.attribute: variable.name
    for variable in VARIABLES
    if variable.attribute is not None and (variable.limit is not None or variable in (_NEAR, _CRITICAL, _TIMEZONE))
}
"""The variable of each setting that the engine takes, by the engine's name of it."""


@dataclass(frozen=True)
class Settings:
    """The settings of the environment, each valid. ``Settings()`` has the defaults."""

    requests_per_minute: int = 500
    requests_per_day: int = 10_000
    tokens_per_minute: int = 150_000
    tokens_per_day: int = 2_000_000
    #: US dollars as decimal text, so that no digit is lost.
    budget_usd_per_month: str = "100"
    near_percent: int = 80
    critical_percent: int = 95
    #: May hold a password.
    store: str = field(default="memory:", repr=False)
    #: The absolute path of ``limits.toml``.
    limits_path: str | None = None
    timezone: str = "UTC"
    token_secret: str | None = field(default=None, repr=False)
    require_shared: bool = False
    #: How many days the rows of history are kept; the sums of periods outlive them.
    history_days: int = 90
    #: The variables that are set, and valid.
    configured: frozenset[str] = frozenset()
    problems: tuple[Problem, ...] = ()

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None) -> Settings:
        """Reads ``environ`` (by default that of the process). Never raises for what it finds there."""
        environ = os.environ if environ is None else environ
        values: dict[str, object] = {}
        configured: set[str] = set()
        problems: list[Problem] = []
        for variable in VARIABLES:
            given = environ.get(variable.name)
            if variable.attribute is None or given is None or (variable.blank_is_absent and not given.strip()):
                continue
            try:
                values[variable.attribute] = variable.parse(given.strip())
                configured.add(variable.name)
            except parsing.Invalid as invalid:
                problems.append(_problem(variable, given, str(invalid)))
        settings = dataclasses.replace(
            cls(),
            configured=frozenset(configured),
            problems=tuple(problems),
            **values,  # type: ignore[arg-type]  # each parser gives its attribute's type; a test looks
        )
        if settings.near_percent > settings.critical_percent:
            expected = "a warning percentage that is not above the critical one"
            for variable in (_NEAR, _CRITICAL):
                if variable.name in configured:
                    settings = settings.reject(variable.name, environ[variable.name], expected)
        return settings

    def limits(self) -> dict[str, str]:
        """The limits and percentages that the environment sets, as decimal text. What is absent here is built in."""
        return {
            variable.attribute: str(getattr(self, variable.attribute))
            for variable in VARIABLES
            if variable.attribute in NAMES and variable.name in self.configured and variable is not _TIMEZONE
        }

    def zone(self) -> str | None:
        """The time zone that the environment sets."""
        return self.timezone if _TIMEZONE.name in self.configured else None

    def reject(self, name: str, value: str, expected: str) -> Settings:
        """These settings with the default of the variable ``name``, and a problem that says why.

        For what only its user can judge, such as a time zone that the engine's database lacks. ``value`` is what was
        given, ``expected`` says what would be right.
        """
        variable = _BY_NAME[name]
        changes: dict[str, object] = {}
        if variable.attribute is not None:
            changes[variable.attribute] = getattr(_DEFAULTS, variable.attribute)
        return dataclasses.replace(
            self,
            configured=self.configured - {name},
            problems=(*self.problems, _problem(variable, value, expected)),
            **changes,  # type: ignore[arg-type]  # taken from the same attribute
        )


_DEFAULTS = Settings()


def _problem(variable: Variable, value: str, expected: str) -> Problem:
    shown = variable.show(value if len(value) <= _SHOWN_CHARS else value[:_SHOWN_CHARS] + "...")
    return Problem(variable.name, shown, expected, used=variable.default or "none")


def admin_reset_key(environ: Mapping[str, str] | None = None) -> str | None:
    """``QUOTA_ADMIN_RESET_KEY`` as it is now, unchanged, or ``None`` where no key may be accepted.

    That is where it is absent or blank, or the example's text, which everybody can read. Read at each request, so that
    a key can be changed without a restart. Compare it with ``hmac.compare_digest``.
    """
    key = (os.environ if environ is None else environ).get(_ADMIN_RESET_KEY.name, "")
    return key if key.strip() not in {"", EXAMPLE_ADMIN_KEY} and parsing.is_unicode(key) else None


_warned: dict[tuple[Problem, ...], object] = {}


def warn_once(settings: Settings) -> None:
    """Logs one warning that names every problem of ``settings``; nothing where it was logged before or there is none.

    A log entry and not ``warnings.warn``, which ``-W error`` turns into an exception that would stop the import.
    """
    mine = object()
    if settings.problems and _warned.setdefault(settings.problems, mine) is mine:
        logging.getLogger("llmquota").warning(
            "llmquota: settings that are not valid, and what holds instead: %s", "; ".join(map(str, settings.problems))
        )


class LimitsWatcher:
    """Watches one limits file, without a thread of its own: it looks when asked, and at most once an interval.

    :attr:`problem` says why the file could not be read at the last look; what was read before still holds then.
    Not for several threads at once: hold a lock from :meth:`poll` until its text is applied, or an older text may be
    applied after a newer one. :meth:`due` needs no lock.
    """

    #: The largest file that is read, in bytes.
    MAX_BYTES = 16 * 1024 * 1024
    #: A file can change twice within one tick of its clock (2 s on FAT), so a younger one is read again.
    _SETTLED_NS = 2_000_000_000

    def __init__(self, path: str | os.PathLike[str], interval: float = 1.0) -> None:
        """Watches ``path``, and looks at most once in ``interval`` seconds."""
        self.path = os.fspath(path)
        self.problem: Problem | None = None
        #: When the text that was given last had been changed, in nanoseconds since the epoch.
        self.changed_ns = 0
        self._interval = interval
        self._looked: float | None = None
        self._signature: tuple[int, int, int, int] | None = None
        self._text: str | None = None

    def due(self, now: float) -> bool:
        """True where :meth:`poll` would look. ``now`` is in seconds of one clock, such as ``time.monotonic()``."""
        # A clock that went back must not stop the looking.
        return self._looked is None or not 0 <= now - self._looked < self._interval

    def poll(self, now: float) -> str | None:
        """The file's text, where it differs from what the last call that gave one gave; ``None`` otherwise.

        Never raises for what it finds: see :attr:`problem`.
        """
        if not self.due(now):
            return None
        self._looked = now
        try:
            text = self._read_if_changed()
        except parsing.Invalid as invalid:
            self._fail(str(invalid))
        except UnicodeDecodeError as error:
            self._fail(f"text in UTF-8, but byte {error.start} is not")
        # ValueError: a path with a NUL.
        except (OSError, ValueError) as error:
            self._fail(f"a file that can be read ({getattr(error, 'strerror', None) or error})")
        else:
            self.problem = None
            if text is not None and text != self._text:
                self._text = text
                return text
        return None

    def _read_if_changed(self) -> str | None:
        # Before it is opened: opening a pipe waits for a writer.
        status = os.stat(self.path)
        if not stat.S_ISREG(status.st_mode):
            raise parsing.Invalid("a regular file")
        if self._signature == _signature(status):
            return None
        with open(self.path, "rb") as file:
            # Of the file that is read, and before it is: what changes from here on is seen at the next look.
            status = os.fstat(file.fileno())
            content = file.read(self.MAX_BYTES + 1)
        if len(content) > self.MAX_BYTES:
            raise parsing.Invalid(f"a file of at most {self.MAX_BYTES} bytes")
        text = content.decode("utf-8-sig")
        if text != self._text:
            self.changed_ns = status.st_mtime_ns
        settled = time.time_ns() - status.st_mtime_ns > self._SETTLED_NS
        self._signature = _signature(status) if settled else None
        return text

    def _fail(self, expected: str) -> None:
        self._signature = None
        used = "no limits file" if self._text is None else "the last good limits"
        self.problem = dataclasses.replace(_problem(_BY_NAME["LLMQUOTA_LIMITS"], self.path, expected), used=used)


def _signature(status: os.stat_result) -> tuple[int, int, int, int]:
    return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)


_BASES = {"OPENAI_BASE_URL": "openai", "AZURE_OPENAI_ENDPOINT": "azure", "ANTHROPIC_BASE_URL": "anthropic"}


def provider_bases(environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """Where the providers' own variables lead their SDKs, and to which provider. One that is no URL leads nowhere."""
    environ = os.environ if environ is None else environ
    given = {environ.get(name, "").strip(): provider for name, provider in _BASES.items()}
    return {base: provider for base, provider in given.items() if base.startswith(("http://", "https://"))}
