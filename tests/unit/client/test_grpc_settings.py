"""What gRPC is told when the SDK is the first to import it."""

from __future__ import annotations

import json
import os
import subprocess
import sys

ONE_POLLER = "-event_engine_client,-event_engine_listener"

_SAY_WHAT_GRPC_FINDS = """
import json, os, sys

class Witness:
    def find_spec(self, name, path, target=None):
        if name == "grpc":
            print(json.dumps({name: value for name, value in os.environ.items() if name.startswith("GRPC_")}))

sys.meta_path.insert(0, Witness())
import coordclient
"""

_SAY_WHAT_OTHERS_GET = """
import json, coordclient
from coordclient.grpc_settings import environment_of_others
environment = environment_of_others()
print(json.dumps({name: value for name, value in environment.items() if name.startswith("GRPC_")}))
"""


def said_by(program: str, **given: str) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("GRPC_")}
    output = subprocess.check_output([sys.executable, "-c", program], env=inherited | given, text=True)
    found: dict[str, str] = json.loads(output)
    return found


def test_grpc_is_told_before_it_is_imported() -> None:
    assert said_by(_SAY_WHAT_GRPC_FINDS) == {
        "GRPC_VERBOSITY": "ERROR",
        "GRPC_ENABLE_FORK_SUPPORT": "0",
        "GRPC_EXPERIMENTS": ONE_POLLER,
    }


def test_whoever_has_set_a_variable_keeps_the_say() -> None:
    found = said_by(_SAY_WHAT_GRPC_FINDS, GRPC_VERBOSITY="debug", GRPC_EXPERIMENTS="")

    assert found == {"GRPC_VERBOSITY": "debug", "GRPC_ENABLE_FORK_SUPPORT": "0", "GRPC_EXPERIMENTS": ""}


def test_programs_that_are_started_are_not_told_but_what_the_user_has_set() -> None:
    assert said_by(_SAY_WHAT_OTHERS_GET, GRPC_VERBOSITY="info") == {"GRPC_VERBOSITY": "info"}
