"""Installs the built wheel, and nothing else, on each supported Python of this machine, and runs `tests/wheel` there.

Usage: python scripts/test_wheels.py DIST

DIST holds one wheel and one sdist. The sdist is built and installed on the oldest Python found. Exits 1 on the first
installation or test that fails, and when the machine has none of the versions.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

VERSIONS = ("3.10", "3.11", "3.12", "3.13")
ROOT = Path(__file__).resolve().parent.parent
TESTS = ROOT / "tests" / "wheel"


def candidates(version: str) -> list[Path]:
    """Returns where a Python of this version may be: every folder of PATH, then the versions that pyenv keeps."""
    folders = [Path(folder) for folder in os.environ.get("PATH", "").split(os.pathsep) if folder]
    found = [folder / f"python{version}" for folder in folders]
    roots = {Path(os.environ["PYENV_ROOT"])} if "PYENV_ROOT" in os.environ else set()
    # A shim knows where its pyenv is, also when HOME is another one's.
    roots |= {folder.parent for folder in folders if folder.name == "shims"}
    for root in sorted(roots):
        found += sorted(root.glob(f"versions/{version}.*/bin/python{version}"))
    return [path for path in found if path.exists()]


def interpreter(version: str) -> Path | None:
    """Returns the base interpreter of the first candidate that runs.

    A pyenv shim exists also for versions that are not selected, and then fails.
    """
    probe = "import sys; print('%d.%d' % sys.version_info[:2]); print(sys._base_executable)"
    for candidate in candidates(version):
        answer = subprocess.run([candidate, "-c", probe], capture_output=True, text=True)
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
    subprocess.run(
        [inside, "-I", "-W", "error", "-m", "unittest", "discover", "--start-directory", TESTS],
        check=True,
        env=environment,
        cwd=folder,
    )


def main() -> int:
    dist = Path(sys.argv[1])
    wheel, sdist = only("*.whl", dist), only("*.tar.gz", dist)
    found = {version: python for version in VERSIONS if (python := interpreter(version)) is not None}
    print("found:", ", ".join(f"{version} ({python})" for version, python in found.items()) or "none", flush=True)
    if missing := [version for version in VERSIONS if version not in found]:
        print("not on this machine, not tested:", ", ".join(missing), flush=True)
    if not found:
        return 1
    runs = [(version, wheel) for version in found] + [(next(iter(found)), sdist)]
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
