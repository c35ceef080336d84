"""Are the installed libraries the ones that the guard was written against?"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version

from fulcrum.errors import Misconfigured

#: The guard overrides private parts of exactly these, and ``setup.cfg`` pins the same.
WRITTEN_FOR: Mapping[str, str] = {
    "faust-streaming": "0.15.3",
    "aiokafka": "0.14.0",
    "mode-streaming": "0.7.1",
}


def refuse_other_versions() -> None:
    """Misconfigured, with the command that mends it, unless each library has the version in WRITTEN_FOR."""
    found = {package: _installed(package) for package in WRITTEN_FOR}
    if wrong := [f"{package} is {has}" for package, has in found.items() if has != WRITTEN_FOR[package]]:
        wanted = " ".join(f"{package}=={pin}" for package, pin in WRITTEN_FOR.items())
        raise Misconfigured(
            f"{', '.join(wrong)}, but the guard against lost events overrides private parts of other "
            "versions, and an override that no longer fits loses events in silence. "
            f"Run: pip install {wanted}"
        )


def _installed(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "missing"
