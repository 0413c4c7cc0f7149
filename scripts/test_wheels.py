"""Installs built artifacts, and nothing else, on each Python asked for, and runs `tests/wheel` there.

Usage: python scripts/test_wheels.py DIST [--kind wheel|sdist|both] [--python VERSION...]

DIST holds one wheel, one sdist, or both. The wheel is installed on every version that this machine has; the sdist is
built on the first of them. Exits 1 on the first installation or test that fails, and when none of the versions is here.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

SUPPORTED = ["3.10", "3.11", "3.12", "3.13"]
ROOT = Path(__file__).resolve().parent.parent
TESTS = ROOT / "tests" / "wheel"
PROBE = """
import sys, sysconfig
print("%d.%d%s" % (*sys.version_info[:2], "t" if sysconfig.get_config_var("Py_GIL_DISABLED") else ""))
print(sys._base_executable)
"""


def candidates(version: str) -> list[Path]:
    """Returns where a Python of this version may be: PATH, the versions that pyenv keeps, GitHub's tool cache."""
    folders = [Path(folder) for folder in os.environ.get("PATH", "").split(os.pathsep) if folder]
    found = [folder / name for folder in folders for name in (f"python{version}", "python.exe")]
    # A shim knows where its pyenv is, also when HOME is another one's.
    pyenvs = {folder.parent for folder in folders if folder.name == "shims"}
    if root := os.environ.get("PYENV_ROOT"):
        pyenvs.add(Path(root))
    for pyenv in sorted(pyenvs):
        found += sorted(pyenv.glob(f"versions/{version}.*/bin/python{version}"))
    if cache := os.environ.get("RUNNER_TOOL_CACHE"):
        for name in ("python.exe", "bin/python"):
            found += sorted(Path(cache).glob(f"Python/{version.rstrip('t')}.*/*/{name}"))
    return [path for path in found if path.exists()]


def interpreter(version: str) -> Path | None:
    """Returns the base interpreter of the first candidate that runs and has this version.

    A pyenv shim exists also for versions that are not selected, and then fails.
    """
    for candidate in candidates(version):
        answer = subprocess.run([candidate, "-c", PROBE], capture_output=True, text=True)
        if answer.returncode == 0:
            reported, path = answer.stdout.splitlines()
            if reported == version:
                return Path(path)
    return None


def only(pattern: str, folder: Path) -> Path:
    """Returns the one file of the folder that matches; anything else means that an older build was left behind."""
    matches = list(folder.glob(pattern))
    if len(matches) != 1:
        sys.exit(f"expected one {pattern} in {folder}, found {len(matches)}")
    return matches[0].resolve()


def check(python: Path, artifact: Path, folder: Path) -> None:
    """Installs the artifact into a new environment in `folder` and runs `tests/wheel` there, away from the checkout."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "VIRTUAL_ENV"))}
    # Shared with the wheel's build, so that the sdist compiles only what differs.
    environment["CARGO_TARGET_DIR"] = os.environ.get("CARGO_TARGET_DIR", str(ROOT / "target"))
    inside = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    # Without pip: the environment then holds the artifact alone, and Debian's split of ensurepip does not matter.
    subprocess.run([python, "-m", "venv", "--without-pip", folder], check=True, env=environment)
    pip = [sys.executable, "-m", "pip", "--python", str(inside), "install", "--quiet", "--no-deps"]
    subprocess.run([*pip, str(artifact)], check=True, env=environment)
    tests = ["-m", "unittest", "discover", "--start-directory", str(TESTS)]
    subprocess.run([inside, "-I", "-W", "error", *tests], check=True, env=environment, cwd=folder)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dist", type=Path)
    parser.add_argument("--kind", choices=["wheel", "sdist", "both"], default="both")
    parser.add_argument("--python", nargs="+", default=SUPPORTED, metavar="VERSION")
    asked = parser.parse_args()

    found = {version: python for version in asked.python if (python := interpreter(version)) is not None}
    print("found:", ", ".join(f"{version} ({python})" for version, python in found.items()) or "none", flush=True)
    if missing := [version for version in asked.python if version not in found]:
        print("not on this machine, not tested:", ", ".join(missing), flush=True)
    if not found:
        return 1

    runs: list[tuple[str, Path]] = []
    if asked.kind != "sdist":
        wheel = only("*.whl", asked.dist)
        runs += [(version, wheel) for version in found]
    if asked.kind != "wheel":
        runs.append((next(iter(found)), only("*.tar.gz", asked.dist)))

    for version, artifact in runs:
        print(f"--- Python {version}: {artifact.name}", flush=True)
        folder = Path(tempfile.mkdtemp(prefix="llmquota-wheel-"))
        try:
            check(found[version], artifact, folder)
        except subprocess.CalledProcessError as error:
            print(f"failed on Python {version} with {artifact.name}: {error}", file=sys.stderr)
            return 1
        finally:
            shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
