"""The SDK works with nothing installed but what it says that it needs."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

ROOT = Path(__file__).parents[3]

_USE_THE_SDK_WITHOUT = """
import asyncio, sys

class NotInstalled:
    def find_spec(self, name, path, target=None):
        if name.partition(".")[0] in sys.argv[1:]:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, NotInstalled())
import coordclient
from coordclient.portal import shared_portal

shared_portal().run(asyncio.sleep(0))
"""


def dependencies_of(pyproject: Path) -> set[str]:
    listed = tomllib.loads(pyproject.read_text())["project"]["dependencies"]
    return {re.split(r"[^A-Za-z0-9-]", requirement)[0].lower() for requirement in listed}


def test_the_sdk_needs_nothing_that_only_the_server_brings() -> None:
    of_server = dependencies_of(ROOT / "pyproject.toml") - dependencies_of(ROOT / "client/pyproject.toml")
    of_server.discard("coordclient")
    missing = [
        module
        for module, distributions in packages_distributions().items()
        if {name.lower() for name in distributions} <= of_server
    ]
    assert "uvloop" in missing

    subprocess.run([sys.executable, "-c", _USE_THE_SDK_WITHOUT, *missing], check=True)
