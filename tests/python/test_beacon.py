"""Several processes of one program on ``memory:`` are told once. All are real: forked, spawned, uvicorn's workers."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

fcntl = pytest.importorskip("fcntl", reason="the platform has no locks of this kind, and there nothing is said")

MENDING = "LLMQUOTA_STORE=shared:/var/lib/llmquota"
FOLDER = f"llmquota-{os.getuid()}"

USES = "from llmquota import workspace_quota_manager as manager; manager.get_tracker('acme').record_request()"
STAYS = f"{USES}; print('counts', flush=True); input()"


class Process:
    """A process that counts, until it is ended."""

    def __init__(self, arguments: Sequence[str], folder: Path, environment: dict[str, str]) -> None:
        self._errors = folder / f"errors-{time.monotonic_ns()}"
        with self._errors.open("w", encoding="utf-8") as errors:
            self.process = subprocess.Popen(
                [sys.executable, *arguments],
                cwd=folder,
                env=environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )

    @property
    def pid(self) -> int:
        return self.process.pid

    def line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def errors(self) -> str:
        return self._errors.read_text(encoding="utf-8")

    def end(self, number: int = signal.SIGKILL) -> None:
        self.process.send_signal(number)
        self.process.wait(30)


Start = Callable[..., Process]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The temporary directory of the processes, and where they run."""
    return tmp_path


@pytest.fixture
def environment(folder: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("LLMQUOTA_", "OPENAI_"))}
    return {**kept, "TMPDIR": str(folder)}


@pytest.fixture
def start(folder: Path, environment: dict[str, str]) -> Iterator[Start]:
    """Starts a process and waits until it counts."""
    started: list[Process] = []

    def begin(*arguments: str, ready: str | None = "counts", **settings: str) -> Process:
        process = Process(arguments, folder, {**environment, **settings})
        started.append(process)
        if ready is not None:
            assert process.line() == ready, process.errors()
        return process

    yield begin
    for process in started:
        if process.process.poll() is None:
            process.end()
        for stream in (process.process.stdin, process.process.stdout):
            assert stream is not None
            stream.close()


@pytest.fixture
def program(folder: Path) -> Callable[[str, str], str]:
    def write(name: str, code: str) -> str:
        (folder / name).write_text(textwrap.dedent(code), encoding="utf-8")
        return name

    return write


def run(code: str, folder: Path, environment: dict[str, str]) -> str:
    """What a process that runs ``code`` writes to its error output. It must end well."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(code)],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stderr


def test_the_second_living_one_says_it_once_with_the_line_that_mends_it(start: Start) -> None:
    first, second, third = start("-c", STAYS), start("-c", STAYS), start("-c", STAYS)
    low, high = sorted((first.pid, second.pid))
    assert second.errors() == (
        f"llmquota: processes {low}, {high} of one program each count on their own (memory:), so that a limit holds for"
        f" each of them and not for all together; let them share one store: {MENDING}\n"
    )
    assert (first.errors(), third.errors()) == ("", "")
    third.end()
    assert start("-c", STAYS).errors() == "", "a worker that takes another's place says nothing again"


def test_a_killed_one_is_forgotten_and_a_new_pair_is_told(start: Start) -> None:
    start("-c", STAYS).end()
    alone = start("-c", STAYS)
    assert alone.errors() == ""
    assert MENDING in start("-c", STAYS).errors()


def test_all_that_were_told_are_gone(start: Start) -> None:
    for _ in range(2):
        pair = start("-c", STAYS), start("-c", STAYS)
        assert MENDING in pair[1].errors()
        for process in pair:
            process.end()


def test_unrelated_programs_of_one_shell_are_no_family(start: Start, program: Callable[[str, str], str]) -> None:
    a, b = program("a.py", STAYS), program("b.py", STAYS)
    processes = start(a), start(b), start(a, "--shop=one"), start("-c", STAYS), start("-c", f"{STAYS}; exit()")
    assert [process.errors() for process in processes] == [""] * 5


def test_workers_that_differ_in_a_port_are_a_family(start: Start, program: Callable[[str, str], str]) -> None:
    name = program("app.py", STAYS)
    start(name, "--port", "8001", "--bind=:8001")
    assert MENDING in start(name, "--port", "8002", "--bind=:8002").errors()


def test_a_manager_that_was_given_its_store_lights_none(start: Start, folder: Path) -> None:
    code = STAYS.replace("workspace_quota_manager as manager;", "QuotaManager; manager = QuotaManager('memory:');")
    processes = start("-c", code), start("-c", code)
    assert [process.errors() for process in processes] == ["", ""]
    assert not (folder / FOLDER).exists()


def test_under_pytest_nothing_is_said(start: Start) -> None:
    code = f"import llmquota.testing.plugin; {STAYS}"
    assert [process.errors() for process in (start("-c", code), start("-c", code))] == ["", ""]


def test_looking_who_is_there_drops_no_lock(start: Start) -> None:
    code = f"{USES}; from llmquota.beacon import families; print(families(), flush=True); input()"
    first = start("-c", code, ready=None)
    members = f"[Family(parent={os.getpid()}, members=({first.pid},))]"
    assert first.line() == members
    second = start("-c", code, ready=None)
    numbers = ", ".join(map(str, sorted((first.pid, second.pid))))
    assert second.line() == f"[Family(parent={os.getpid()}, members=({numbers}))]"
    assert MENDING in second.errors()


# --- what one process makes of itself ---

FORKS = """
import os, signal, time
from llmquota import QuotaManager, workspace_quota_manager as manager
from llmquota.beacon import families

children, (here, there) = [], os.pipe()
{before}
for number in range({children}):
    child = os.fork()
    if child == 0:
        if number < {using}:
            manager.get_tracker("acme").record_request()
            manager.get_tracker("acme").record_request()
        os.write(there, b".")
        time.sleep(60)
    children.append(child)
read = b""
while len(read) < {children}:
    read += os.read(here, 100)
for family in families():
    print(len(family.members), "of", "this" if family.parent == os.getpid() else "its parent")
for child in children:
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
"""


def forks(folder: Path, environment: dict[str, str], before: str, children: int, using: int) -> tuple[list[str], str]:
    """The families that there are once some of a process's forked children count, and what was said."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FORKS.format(before=before, children=children, using=using)],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return sorted(done.stdout.splitlines()), done.stderr


@pytest.mark.parametrize("before", ["manager.get_tracker('acme').record_request()", "pass"], ids=["preloaded", "fresh"])
def test_forked_children_are_a_family_and_their_parent_is_not_of_it(
    folder: Path, environment: dict[str, str], before: str
) -> None:
    found, said = forks(folder, environment, before, children=3, using=3)
    assert found == ["1 of its parent", "3 of this"][before == "pass" :]
    assert said.count(MENDING) == 1


def test_a_forked_child_that_never_counts_is_nobody(folder: Path, environment: dict[str, str]) -> None:
    found, said = forks(folder, environment, "manager.get_tracker('acme').record_request()", children=3, using=1)
    assert (found, said) == (["1 of its parent", "1 of this"], "")


def test_a_forked_child_still_reads_its_limits_file_again(folder: Path, environment: dict[str, str]) -> None:
    code = """
    import os, time
    from llmquota import workspace_quota_manager as manager

    def cap():
        return manager.terms("acme")["limits"]["requests_per_minute"]["cap"]

    assert cap() == 5
    child = os.fork()
    if child == 0:
        try:
            assert cap() == 5
            with open("new.toml", "w") as file:
                file.write("[defaults]\\nrequests_per_minute = 66\\n")
            os.replace("new.toml", "limits.toml")
            until = time.monotonic() + 20
            while cap() != 66:
                assert time.monotonic() < until
                time.sleep(0.05)
        except BaseException as error:
            print(error)
            os._exit(1)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    """
    (folder / "limits.toml").write_text("[defaults]\nrequests_per_minute = 5\n", encoding="utf-8")
    assert run(code, folder, {**environment, "LLMQUOTA_LIMITS": "limits.toml"}) == ""


def test_a_child_closes_the_beacon_that_it_inherited_and_no_file_of_anybody_else(
    folder: Path, environment: dict[str, str]
) -> None:
    code = f"""
    import os
    {USES}
    from llmquota import beacon

    def opened():
        found = []
        for fd in os.listdir("/proc/self/fd"):
            try:
                found.append(os.path.basename(os.readlink(f"/proc/self/fd/{{fd}}")))
            except FileNotFoundError:
                pass
        return found

    inherited = beacon._own.fd
    for taken in (False, True):
        child = os.fork()
        if child == 0:
            if taken:
                # As a daemon does that closes all that it has inherited, and opens its own.
                mine = os.open("mine", os.O_CREAT | os.O_RDWR)
                os.dup2(mine, inherited)
                os.close(mine)
            manager.get_tracker("acme").record_request()
            names = opened()
            beacons = [name for name in names if name.count("-") == 3]
            os._exit(0 if len(beacons) == 1 and names.count("mine") == taken else 1)
        assert os.waitpid(child, 0)[1] == 0, taken
    """
    if not os.path.isdir("/proc/self/fd"):
        pytest.skip("the platform does not list what a process has open")
    assert run(code, folder, environment) == ""


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_processes_of_multiprocessing_are_a_family(
    start: Start, program: Callable[[str, str], str], method: str
) -> None:
    name = program(
        "app.py",
        """
        import multiprocessing, sys

        def work(counts, done):
            from llmquota import workspace_quota_manager as manager
            manager.get_tracker("acme").record_request()
            counts.release()
            done.acquire()

        if __name__ == "__main__":
            context = multiprocessing.get_context(sys.argv[1])
            counts, done = context.Semaphore(0), context.Semaphore(0)
            workers = [context.Process(target=work, args=(counts, done)) for _ in range(3)]
            for worker in workers:
                worker.start()
            for _ in workers:
                counts.acquire()
            print("counts", flush=True)
            for worker in workers:
                done.release()
            for worker in workers:
                worker.join()
        """,
    )
    process = start(name, method)
    process.process.wait(60)
    assert process.errors().count(MENDING) == 1, process.errors()


def test_workers_of_uvicorn_are_a_family(start: Start, program: Callable[[str, str], str]) -> None:
    pytest.importorskip("uvicorn")
    program(
        "app.py",
        f"""
        import os
        from contextlib import asynccontextmanager
        from fastapi import FastAPI

        @asynccontextmanager
        async def lifespan(app):
            {USES}
            # In one piece: print may write the line's end apart, and both workers write here.
            os.write(1, b"counts\\n")
            yield

        app = FastAPI(lifespan=lifespan)
        """,
    )
    server = start("-m", "uvicorn", "app:app", "--workers", "2", "--port", "0")
    assert server.line() == "counts"
    server.end(signal.SIGTERM)
    said = [line for line in server.errors().splitlines() if MENDING in line]
    assert len(said) == 1, server.errors()


# --- a temporary directory that is not as it should be ---


def is_a_file(path: Path) -> None:
    path.write_text("")


def is_a_link(path: Path) -> None:
    (path.parent / "elsewhere").mkdir(mode=0o700)
    path.symlink_to(path.parent / "elsewhere")


def is_everybodys(path: Path) -> None:
    path.mkdir()
    path.chmod(0o777)


@pytest.mark.parametrize("spoil", [is_a_file, is_a_link, is_everybodys])
def test_a_folder_that_is_not_the_users_alone_is_left_alone_in_silence(
    start: Start, folder: Path, spoil: Callable[[Path], None]
) -> None:
    spoil(folder / FOLDER)
    before = sorted(path.relative_to(folder) for path in folder.rglob("*"))
    assert [process.errors() for process in (start("-c", STAYS), start("-c", STAYS))] == ["", ""]
    after = [path.relative_to(folder) for path in folder.rglob("*") if not path.name.startswith("errors-")]
    assert sorted(after) == before


def test_a_link_in_the_place_of_a_beacon_is_not_followed(start: Start, folder: Path) -> None:
    first = start("-c", STAYS)
    (beacon,) = (folder / FOLDER).iterdir()
    assert beacon.stat().st_mode & 0o777 == 0o600
    beacon.unlink()
    victim = folder / "victim"
    victim.write_text("kept", encoding="utf-8")
    beacon.symlink_to(victim)
    assert start("-c", STAYS).errors() == first.errors() == ""
    assert victim.read_text(encoding="utf-8") == "kept"


def test_a_directory_without_room_for_a_folder_is_survived(folder: Path, environment: dict[str, str]) -> None:
    # A directory that is gone is one in which nobody can write, the superuser neither.
    code = f"""
    import os, tempfile
    os.mkdir("gone")
    tempfile.tempdir = os.path.abspath("gone")
    os.rmdir("gone")
    {USES}
    from llmquota.beacon import families
    assert families() == []
    """
    assert run(code, folder, environment) == ""


def test_one_who_stops_in_the_middle_of_a_look_holds_nobody_up(start: Start, folder: Path) -> None:
    first = start("-c", STAYS)
    (beacon,) = (folder / FOLDER).iterdir()
    with beacon.open("r+b") as file:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, 0)
        began = time.monotonic()
        second = start("-c", STAYS)
        assert time.monotonic() - began < 10
    assert (first.errors(), second.errors()) == ("", "")
    assert MENDING in start("-c", STAYS).errors()


def test_the_files_of_families_that_are_over_are_taken_away(start: Start, folder: Path) -> None:
    first = start("-c", STAYS)
    (beacon,) = (folder / FOLDER).iterdir()
    realm, parent, started, _ = beacon.name.split("-")
    assert parent == str(os.getpid())
    finished = subprocess.Popen([sys.executable, "-c", ""])
    finished.wait(30)
    over = {f"{realm}-{finished.pid}-{started}-aa", f"{realm}-{parent}-1-aa", "other-1-1-old"}
    kept = {beacon.name, f"{realm}-{parent}-{started}-aa", "other-1-1-young", "notes"}
    if started == "0":
        over -= {f"{realm}-{parent}-1-aa"}
    for name in (over | kept) - {beacon.name}:
        (folder / FOLDER / name).touch()
    os.utime(folder / FOLDER / "other-1-1-old", (0, 0))
    os.utime(beacon, (0, 0))
    assert MENDING in start("-c", STAYS).errors()
    assert {path.name for path in (folder / FOLDER).iterdir()} == kept
    assert first.errors() == ""
