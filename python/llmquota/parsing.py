"""What the text of a setting means: a function for each kind of value, which raises :class:`Invalid` for any other."""

from __future__ import annotations

import os
import re
from decimal import Decimal

__all__ = [
    "Invalid",
    "count",
    "days",
    "is_unicode",
    "path",
    "percent",
    "secret",
    "shown_store",
    "store",
    "switch",
    "time_zone",
    "us_dollars",
]

_MAX_COUNT = 2**53
_MAX_DAYS = 36_500
_MAX_USD = Decimal("9223372036")

STORES = (
    "memory:, memory:?size=512MB, shared:/absolute/path, shared:/absolute/path?size=512MB, redis://..., rediss://... or"
    " redis-cluster://..."
)
"""Every form of a store's name."""

#: What stands behind the scheme where nothing better is known.
_SCHEMES = {
    "memory": "",
    "shared": "/absolute/path",
    "redis": "//...",
    "rediss": "//...",
    "redis-cluster": "//...",
}
_LONGEST_SCHEME = 32


class Invalid(Exception):
    """Says what would be right."""


def count(text: str) -> int:
    """A limit: a whole number, 0 included."""
    number = _whole(text)
    if number is None or number > _MAX_COUNT:
        raise Invalid(f"a whole number from 0 (which blocks) to {_MAX_COUNT}, written without fraction or exponent")
    return number


def days(text: str) -> int:
    """A number of days. 0 is none: one reader takes it for "nothing is kept", another for "for ever"."""
    number = _whole(text)
    if number is None or not 1 <= number <= _MAX_DAYS:
        raise Invalid(f"a whole number of days from 1 to {_MAX_DAYS}")
    return number


def us_dollars(text: str) -> str:
    """A budget, as decimal text, so that no digit is lost."""
    whole, point, fraction = text.partition(".")
    amount = _digits(whole) + point + fraction
    if not re.fullmatch(r"[0-9]{1,40}(\.[0-9]{1,40})?", amount) or Decimal(amount) > _MAX_USD:
        raise Invalid(f"US dollars from 0 (which blocks) to {_MAX_USD}, such as 12.50, written without exponent")
    return amount


def percent(text: str) -> int:
    """A whole percentage, not 0."""
    number = _whole(text)
    if number is None or not 1 <= number <= 100:
        raise Invalid("a whole percentage from 1 to 100")
    return number


def _whole(text: str) -> int | None:
    digits = _digits(text)
    significant = digits.lstrip("0")
    # By length first: int() of thousands of digits raises an error of its own.
    return int(significant or "0") if digits and len(significant) <= 16 else None


def _digits(text: str) -> str:
    """ASCII digits without the underscores that may stand between them; ``""`` for any other text."""
    return text.replace("_", "") if re.fullmatch(r"[0-9]+(_[0-9]+)*", text) else ""


def switch(text: str) -> bool:
    """On or off."""
    word = text.lower()
    if word in {"1", "true", "yes", "on"}:
        return True
    if word in {"", "0", "false", "no", "off"}:
        return False
    raise Invalid("1 or 0")


def store(text: str) -> str:
    """The name of a store, by its form alone: what stands behind a question mark is for the store itself to judge."""
    scheme, _, rest = text.partition(":")
    memory = text == "memory:" or text.startswith("memory:?")
    local = memory or (scheme == "shared" and (rest.startswith("/") or os.path.isabs(rest)))
    remote = scheme in {"redis", "rediss", "redis-cluster"} and rest.startswith("//") and len(rest) > 2
    if not (local or remote) or not is_unicode(text):
        meant = _meant(text)
        raise Invalid(STORES if meant is None else f"{STORES}; did you mean '{meant}'?")
    return text


def shown_store(text: str) -> str:
    """A store's name without user, password and options, any of which may be a secret."""
    scheme, _, _ = text.partition(":")
    if scheme in {"memory", "shared"}:
        return text
    # Only where there is a URL, so that no other import pays for it.
    from urllib.parse import urlsplit

    try:
        parts = urlsplit(text)
        port = "" if parts.port is None else f":{parts.port}"
        return f"{scheme}://{'...@' if '@' in parts.netloc else ''}{parts.hostname or ''}{port}{parts.path}"
    except ValueError:
        return f"{scheme}://..."


def _meant(text: str) -> str | None:
    """The store that a misspelt name was meant to be; a path is repeated, and nothing that may hold a password."""
    scheme, colon, rest = text.partition(":")
    if not colon and text.startswith("/"):
        scheme, rest = "shared", text
    # Only for a value that is not valid, so that no other import pays for it.
    from difflib import get_close_matches

    near = get_close_matches(scheme[:_LONGEST_SCHEME].lower(), _SCHEMES, n=1)
    if not near:
        return None
    is_path = re.fullmatch(r"/[\w.-]+(/[\w.-]+)*/?", rest) is not None and len(rest) <= 200 and is_unicode(rest)
    return f"{near[0]}:{rest if near[0] == 'shared' and is_path else _SCHEMES[near[0]]}"


def path(text: str) -> str:
    """A path, absolute at once, so that a later chdir does not point elsewhere."""
    return os.path.abspath(os.path.expanduser(text))


def time_zone(text: str) -> str:
    """The name of a time zone, by its form alone: whether it exists is for the engine, which has the database."""
    if not re.fullmatch(r"[A-Za-z0-9_+\-/]{1,64}", text):
        raise Invalid("an IANA time zone such as Europe/Rome or UTC")
    return text


def secret(text: str) -> str:
    """Any text."""
    if not is_unicode(text):
        raise Invalid("text in UTF-8")
    return text


def is_unicode(text: str) -> bool:
    """False for bytes of the environment that are no UTF-8, which Python keeps as lone surrogates."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
