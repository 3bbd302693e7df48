"""`coordctl semaphore` and `coordctl service`: permits and registrations for as long as a command runs."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from coordclient import Client
from coordclient.types import Status
from tests.integration.coordctl_processes import Coordctl, Record, ended, eventually, serving, told
from tests.processes.cluster import free_ports

pytestmark = pytest.mark.processes

NOT_GRANTED = 124


@pytest.fixture(scope="module")
def endpoints(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with serving(tmp_path_factory.mktemp("services")) as endpoint:
        yield endpoint


@pytest.fixture
def client(endpoints: str) -> Iterator[Client]:
    with Client(endpoints) as client:
        yield client


@pytest.fixture
def record(tmp_path: Path) -> Record:
    return Record(tmp_path)


# ---------------------------------------------------------------------------------------------
# Semaphores


def test_as_many_commands_run_as_there_are_permits(endpoints: str, record: Record) -> None:
    heavy = ("semaphore", "/limits/a", "-n", "3", "--weight", "2", "--", *record.command())
    with Coordctl(endpoints, *heavy, record=record) as running:
        record.pid()

        light = ended(endpoints, "semaphore", "/limits/a", "-n", "3", "--try", "--", "true")
        refused = told(endpoints, "semaphore", "/limits/a", "-n", "3", "--weight", "2", "--try", "--", "true")
        who = json.loads(told(endpoints, "semaphore", "/limits/a", "--who", "-o", "json").stdout)
        record.end_with(7)

        assert running.ended()[0] == 7
    assert light[0] == 0
    assert refused.exit_code == NOT_GRANTED
    assert [(holder["state"], holder["weight"]) for holder in who] == [("holds", 2)]


def test_another_number_of_permits_is_refused_with_what_to_do(endpoints: str) -> None:
    with Coordctl(endpoints, "semaphore", "/limits/b", "-n", "2") as holder:
        holder.line()

        other = told(endpoints, "semaphore", "/limits/b", "-n", "3", "--", "true")
        resized = told(endpoints, "semaphore", "/limits/b", "--resize", "3")
        same = ended(endpoints, "semaphore", "/limits/b", "-n", "3", "--", "true")

    assert other.exit_code == 5
    assert other.stderr == (
        "coordctl: /limits/b has 2 permits, not 3\n"
        "  say with -n the same number as the others; or, to change it for everybody:\n"
        "  coordctl semaphore /limits/b --resize 3\n"
    )
    assert resized.stdout == "/limits/b has 3 permits\n"
    assert same[0] == 0


@pytest.mark.parametrize(
    ("arguments", "advice"),
    [
        (("--", "ls"), "say with -n how many permits there are"),
        (("-n", "2", "--weight", "3", "--", "ls"), "more than the 2 permits"),
        (("--who", "--", "ls"), "exclude each other"),
    ],
)
def test_wrong_usage_is_told_with_what_is_right(arguments: tuple[str, ...], advice: str) -> None:
    result = told("127.0.0.1:1", "semaphore", "/limits/c", *arguments)

    assert result.exit_code == 2
    assert advice in result.stderr


# ---------------------------------------------------------------------------------------------
# Services


def test_an_instance_is_registered_while_its_command_runs(
    endpoints: str, record: Record, client: Client
) -> None:
    options = ("--id", "one", "--tag", "v2", "--weight", "3", "--payload", '{"zone": "b"}')
    arguments = ("service", "register", "api", "10.0.0.7:8080", *options, "--", *record.command())
    with Coordctl(endpoints, *arguments, record=record) as running:
        record.pid()
        (instance,) = client.services.discover("api")
        listed = json.loads(told(endpoints, "service", "list", "api", "-o", "json").stdout)
        services = told(endpoints, "service", "list").stdout.splitlines()
        taken = told(endpoints, "service", "register", "api", "10.0.0.8:80", "--id", "one", "--", "true")
        record.end_with(4)

        assert running.ended()[0] == 4
    assert (instance.address, instance.port, instance.status) == ("10.0.0.7", 8080, Status.PASSING)
    assert (instance.tags, instance.weight, dict(instance.payload)) == (("v2",), 3, {"zone": "b"})
    assert [(one["id"], one["status"], one["tags"]) for one in listed] == [("one", "passing", ["v2"])]
    assert [row.split()[:2] for row in services] == [["SERVICE", "INSTANCES"], ["api", "1"]]
    assert taken.exit_code == 5
    assert client.services.discover("api") == []


def test_a_check_decides_how_an_instance_is(endpoints: str, record: Record, client: Client) -> None:
    closed = f"127.0.0.1:{free_ports(1)[0]}"
    arguments = ["service", "register", "checked", closed, "--critical-after", "1", "--interval", "100ms"]
    arguments += ["--tcp", endpoints, "--tcp", closed, "--", *record.command()]
    with Coordctl(endpoints, *arguments, record=record):
        record.pid()
        eventually(
            "the closed port is found",
            lambda: "refused" in client.services.discover("checked")[0].note.lower(),
        )

        assert client.services.discover("checked")[0].status is Status.CRITICAL
        assert told(endpoints, "service", "list", "checked", "--passing").stdout == (
            "checked has no such instance\n"
        )


def test_before_the_command_is_asked_to_end_the_instance_drains(
    endpoints: str, record: Record, client: Client
) -> None:
    arguments = ("service", "register", "drained", "10.0.0.7:80", "--drain", "10m", "--", *record.command())
    with Coordctl(endpoints, *arguments, record=record) as running:
        record.pid()
        running.signal(signal.SIGTERM)
        eventually(
            "it says that it drains",
            lambda: client.services.discover("drained")[0].status is Status.DRAINING,
        )
        assert record.signals() == []
        running.signal(signal.SIGTERM)

        assert running.ended()[0] == 40 + signal.SIGTERM
    assert record.signals() == ["SIGTERM"]
    assert client.services.discover("drained") == []


def test_changes_of_a_service_are_told(endpoints: str, client: Client) -> None:
    with Coordctl(endpoints, "service", "watch", "seen", "-o", "json") as watching:
        assert json.loads(watching.line())["instances"] == []
        with client.services.register("seen", "10.0.0.7", 80, id="one"):
            (found,) = json.loads(watching.line())["instances"]
        assert (found["id"], found["address"], found["status"]) == ("one", "10.0.0.7", "passing")
        assert json.loads(watching.line())["instances"] == []


def test_whoever_watches_a_service_is_told_that_it_has_no_instance(endpoints: str, client: Client) -> None:
    with Coordctl(endpoints, "service", "watch", "quiet") as watching:
        assert watching.error_line() == "quiet has no such instance now; waiting for one, until Ctrl-C"
        with client.services.register("quiet", "10.0.0.7", 80, id="one"):
            assert watching.line().startswith("+ one")
        assert watching.line().startswith("- one")
        assert watching.error_line().startswith("quiet has no such instance now")


def test_a_command_says_itself_how_it_is(endpoints: str, record: Record, client: Client) -> None:
    arguments = ["service", "register", "told", "10.0.0.7:80", "--ttl", "10m", "--"]
    script = 'echo "warning the disk is nearly full" > "$COORD_HEALTH"; exec "$@"'
    with Coordctl(
        endpoints, *arguments, "sh", "-c", script, "sh", *record.command(), record=record
    ) as running:
        record.pid()

        def is_told() -> bool:
            (instance,) = client.services.discover("told")
            return instance.status is Status.WARNING and "the disk is nearly full" in instance.note

        eventually("it says how it is", is_told)
        record.end_with(0)
        assert running.ended()[0] == 0


def test_without_a_command_nobody_could_say_how_it_is() -> None:
    refused = told("127.0.0.1:1", "service", "register", "api", "10.0.0.7:80", "--ttl", "5s")

    assert refused.exit_code == 2
    assert "--ttl is for a command" in refused.stderr


def test_without_a_command_an_instance_is_registered_until_ctrl_c(endpoints: str, client: Client) -> None:
    with Coordctl(endpoints, "service", "register", "held", "10.0.0.7:80", "--id", "one") as running:
        assert running.line() == "one"
        assert [instance.id for instance in client.services.discover("held")] == ["one"]
        running.signal(signal.SIGINT)

        assert running.ended()[0] == 0
    assert client.services.discover("held") == []


def test_what_is_no_payload_or_address_is_refused() -> None:
    payload = told("127.0.0.1:1", "service", "register", "api", "10.0.0.7:80", "--payload", "[1]")
    address = told("127.0.0.1:1", "service", "register", "api", "10.0.0.7")

    assert payload.exit_code == address.exit_code == 2
    assert "is no JSON object" in payload.stderr
    assert "did you mean '10.0.0.7:8080'" in address.stderr
