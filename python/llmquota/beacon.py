"""Finds out that several processes of one program each count on their own, and says so once.

A process that counts on ``memory:`` locks one byte of a file, its beacon: the byte whose number is its process id, in a
file named by its parent and its command line. The kernel drops such a lock when the process ends, however it ends, and
a forked child does not inherit it, so what is locked is what lives. Nothing here ever raises: a beacon that cannot be
lit is one warning less.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import re
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass

from .settings import MENDING

# Windows has no such locks, and there nothing is said.
if sys.platform != "win32":
    import fcntl

__all__ = ["Family", "families", "light", "sentence"]

_log = logging.getLogger("llmquota")

#: The byte whose lock lets one process at a time look who is there. No process has this number as a sibling's.
_GATE = 0
_LAST_PID = 2**31 - 1
#: What a file has in it once the warning was given.
_WARNED = b"warned\n"
_PATIENCE_SECONDS = 0.1
#: How old a file of another boot or another container grows before it is taken away.
_STALE_SECONDS = 7 * 86_400


@dataclass(frozen=True)
class Family:
    """Living processes of one program, of one parent, that each count on their own."""

    parent: int
    #: Their process ids, ascending.
    members: tuple[int, ...]


@dataclass(frozen=True)
class _Beacon:
    pid: int
    fd: int
    #: Device and inode of the file: whoever closes all descriptors at once may have given the number to another file.
    file: tuple[int, int]

    def is_open(self) -> bool:
        try:
            return _identity(self.fd) == self.file
        except OSError:
            return False


_lighting = threading.Lock()
_own: _Beacon | None = None


def light() -> None:
    """Marks this process as one that counts on its own; warns where it is the second of its family. Once a process."""
    global _own
    # Under pytest each process has a store of its own on purpose.
    if sys.platform == "win32" or "llmquota.testing.plugin" in sys.modules:
        return
    second: Family | None = None
    try:
        with _lighting:
            if _own is None or _own.pid != os.getpid():
                inherited, _own = _own, None
                if inherited is not None and inherited.is_open():
                    os.close(inherited.fd)
                _own, second = _lit()
    except Exception as error:
        _log.debug("llmquota: no beacon: %s", error)
    if second is not None:
        # Outside of all locks: a handler of the log is anybody's code.
        _log.warning("llmquota: %s", sentence(second))


def families() -> list[Family]:
    """The families of this user's living processes that count on their own, by parent. Empty where none is known."""
    found: list[Family] = []
    if sys.platform == "win32":
        return found
    with _lighting, contextlib.suppress(OSError):
        folder = _folder(create=False)
        try:
            for name in sorted(os.listdir(folder)):
                with contextlib.suppress(OSError, ValueError):
                    found.append(Family(_Name.read(name).parent, _members(folder, name)))
        finally:
            os.close(folder)
    return sorted((family for family in found if family.members), key=lambda family: (family.parent, family.members))


def sentence(family: Family) -> str:
    """What is wrong with a family of several, and the line that mends it."""
    numbers = ", ".join(map(str, family.members))
    return (
        f"processes {numbers} of one program each count on their own (memory:), so that a limit holds for each of them"
        f" and not for all together; let them share one store: {MENDING}"
    )


def _after_fork_in_child() -> None:
    # Another thread of the parent may have held it.
    global _lighting
    _lighting = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)


# --- the locks ---


def _lit() -> tuple[_Beacon, Family | None]:
    """This process's beacon, and its family where that has to be warned."""
    name = _Name.own()
    folder = _folder(create=True)
    try:
        _sweep(folder)
        fd = os.open(str(name), os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600, dir_fd=folder)
    finally:
        os.close(folder)
    pid = os.getpid()
    try:
        with _gate(fd):
            if not _take(fd, pid, 1):
                raise OSError(f"byte {pid} is locked")
            sibling = next(_others(fd, pid), None)
            warned = os.fstat(fd).st_size > 0
            if sibling is None:
                # All whom the warning was for are gone.
                os.ftruncate(fd, 0)
            elif not warned:
                os.pwrite(fd, _WARNED, 0)
        second = None if sibling is None or warned else Family(name.parent, tuple(sorted((sibling, pid))))
        return _Beacon(pid, fd, _identity(fd)), second
    except BaseException:
        os.close(fd)
        raise


def _members(folder: int, name: str) -> tuple[int, ...]:
    status = os.stat(name, dir_fd=folder, follow_symlinks=False)
    if _own is not None and _own.is_open() and _own.file == (status.st_dev, status.st_ino):
        # Not opened again: closing any descriptor of a file drops every lock that this process has on it.
        with _gate(_own.fd):
            return tuple(sorted([_own.pid, *_others(_own.fd, _own.pid)]))
    fd = os.open(name, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder)
    try:
        with _gate(fd):
            return tuple(_others(fd, _GATE))
    finally:
        os.close(fd)


@contextlib.contextmanager
def _gate(fd: int) -> Iterator[None]:
    """Holds the gate of a file. Raises ``TimeoutError`` where its holder does not go on, as one that is stopped."""
    until = time.monotonic() + _PATIENCE_SECONDS
    while not _take(fd, _GATE, 1):
        if time.monotonic() > until:
            raise TimeoutError("another process does not end its look")
        time.sleep(0.001)
    try:
        yield
    finally:
        _drop(fd, _GATE, 1)


def _others(fd: int, own: int) -> Iterator[int]:
    """The processes that have a lock on the file, without the one whose number is ``own``. Hold the gate."""
    # Never over the own byte: taking it again succeeds, and dropping it drops the beacon.
    for first, last in ((_GATE + 1, own - 1), (own + 1, _LAST_PID)):
        yield from _locked(fd, first, last)


def _locked(fd: int, first: int, last: int) -> Iterator[int]:
    """The bytes from ``first`` to ``last`` that another process has locked, found by halving."""
    if first > last:
        return
    if _take(fd, first, last - first + 1):
        _drop(fd, first, last - first + 1)
    elif first == last:
        yield first
    else:
        middle = (first + last) // 2
        yield from _locked(fd, first, middle)
        yield from _locked(fd, middle + 1, last)


def _take(fd: int, start: int, length: int) -> bool:
    try:
        fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB, length, start, os.SEEK_SET)
    except (BlockingIOError, PermissionError):
        # Each of the two may say that another process has it.
        return False
    return True


def _drop(fd: int, start: int, length: int) -> None:
    fcntl.lockf(fd, fcntl.LOCK_UN, length, start, os.SEEK_SET)


def _identity(fd: int) -> tuple[int, int]:
    status = os.fstat(fd)
    return status.st_dev, status.st_ino


# --- the files ---


@dataclass(frozen=True)
class _Name:
    """The name of a family's file: what all its members share, and nobody else does."""

    #: The boot and the container: process ids of others mean nothing here.
    realm: str
    parent: int
    #: When the parent started, so that a process id that is used again is another family; ``"0"`` where unknown.
    started: str
    program: str

    def __str__(self) -> str:
        return f"{self.realm}-{self.parent}-{self.started}-{self.program}"

    @classmethod
    def own(cls) -> _Name:
        parent = os.getppid()
        return cls(_realm(), parent, _started(parent), _program())

    @classmethod
    def read(cls, text: str) -> _Name:
        """Raises ``ValueError`` for any other name."""
        realm, parent, started, program = text.split("-")
        return cls(realm, int(parent), started, program)

    def is_over(self) -> bool:
        """True where the parent is known to have ended: nobody will look for this file any more."""
        try:
            os.kill(self.parent, 0)
        except ProcessLookupError:
            return True
        except OSError:
            pass
        return _started(self.parent) not in ("0", self.started)


def _realm() -> str:
    boot = container = ""
    with contextlib.suppress(OSError), open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        boot = file.read().strip()
    with contextlib.suppress(OSError):
        container = str(os.stat("/proc/self/ns/pid").st_ino)
    return _digest(boot, container)


def _started(pid: int) -> str:
    """When a process started, in ticks since the boot; ``"0"`` where the platform or its settings do not tell."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            # Behind the last bracket: the command's name before it may have blanks and brackets of its own.
            fields = file.read().rpartition(b")")[2].split()
        return str(int(fields[19]))
    except (OSError, ValueError, IndexError):
        return "0"


def _program() -> str:
    """What the members of a family run. Unrelated programs of one shell differ in it."""
    # A child that multiprocessing spawned has a command line of its own, and its parent's as sys.argv.
    command = sys.argv if "--multiprocessing-fork" in sys.orig_argv else sys.orig_argv
    try:
        folder = os.getcwd()
    except OSError:
        folder = ""
    # Workers that are started one by one differ in their port, or in their number.
    return _digest(folder, *(re.sub(r"(^|[=:])[0-9]+$", r"\1#", word) for word in command))


def _digest(*words: str) -> str:
    content = "\0".join(words).encode("utf-8", "surrogateescape")
    return hashlib.blake2b(content, digest_size=6).hexdigest()


def _folder(create: bool) -> int:
    """A descriptor of this user's folder of beacons. Raises ``OSError`` where none is the user's alone."""
    from tempfile import gettempdir

    path = os.path.join(gettempdir(), f"llmquota-{os.getuid()}")
    if create:
        with contextlib.suppress(FileExistsError):
            os.mkdir(path, 0o700)
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    status = os.fstat(folder)
    if status.st_uid != os.getuid() or status.st_mode & 0o077:
        os.close(folder)
        raise PermissionError(f"{path} is not this user's alone")
    return folder


def _sweep(folder: int) -> None:
    """Takes away the files that nobody will look for any more."""
    realm = _realm()
    for text in os.listdir(folder):
        with contextlib.suppress(OSError, ValueError):
            name = _Name.read(text)
            if name.realm == realm:
                over = name.is_over()
            else:
                age = time.time() - os.stat(text, dir_fd=folder, follow_symlinks=False).st_mtime
                over = age > _STALE_SECONDS
            if over:
                os.unlink(text, dir_fd=folder)
