"""`coordctl` as people and scripts use it, on a real server: what it prints, and how it ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from coordclient.cli import main
from coordclient.cli.service_calls import ask_status
from coordproto.v1.coordination_pb2 import StatusResponse
from tests.processes.cluster import MemberProcess, free_ports

pytestmark = pytest.mark.processes

START_WITHIN_S = 30.0


@pytest.fixture(scope="module")
def member(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MemberProcess]:
    """A server of its own, for all tests of this file; each test uses paths of its own."""
    member = MemberProcess("a", free_ports(3), tmp_path_factory.mktemp("coordctl"))
    member.start(f"a={member.peer_address}")
    try:
        wait_until(member, lambda reply: bool(reply.leader))
        yield member
    finally:
        member.end()


def wait_until(member: MemberProcess, holds: Callable[[StatusResponse], bool]) -> None:
    deadline_s = time.monotonic() + START_WITHIN_S
    while time.monotonic() < deadline_s:
        reply = ask_status([member.endpoint], timeout_s=1.0)[0].reply
        if reply is not None and holds(reply):
            return
        time.sleep(0.05)
    raise AssertionError(f"not in time:\n{member.log_text()}")


def coordctl(member: MemberProcess, *arguments: str, value: bytes | None = None) -> Result:
    return CliRunner().invoke(main, ["--endpoints", member.endpoint, *arguments], input=value)


def done(result: Result) -> str:
    """What a command printed that must have succeeded."""
    assert result.exit_code == 0, result.output
    return result.stdout


def test_the_life_of_a_node(member: MemberProcess) -> None:
    assert done(coordctl(member, "create", "/life/node", "v1", "--parents")) == "/life/node\n"
    assert done(coordctl(member, "get", "/life/node")) == "v1"
    assert done(coordctl(member, "set", "/life/node", "v2")) == "/life/node set to version 1, 2 bytes\n"
    assert "version           1\n" in done(coordctl(member, "stat", "/life/node"))
    assert done(coordctl(member, "delete", "/life/node")) == "/life/node deleted\n"
    assert coordctl(member, "get", "/life/node").exit_code == 4


def test_a_value_goes_in_and_comes_out_byte_for_byte(member: MemberProcess, tmp_path: Path) -> None:
    value = bytes(range(256))
    tmp_path.joinpath("value").write_bytes(value)

    done(coordctl(member, "create", "/bytes/file", "--parents", "--file", str(tmp_path / "value")))
    done(coordctl(member, "create", "/bytes/stdin", "-", value=value))

    assert coordctl(member, "get", "/bytes/file").stdout_bytes == value
    assert coordctl(member, "get", "/bytes/stdin").stdout_bytes == value


def test_get_can_add_the_stat_and_json_has_it_all(member: MemberProcess) -> None:
    done(coordctl(member, "create", "/both", "text"))

    with_stat = done(coordctl(member, "get", "/both", "--stat"))
    data = json.loads(done(coordctl(member, "get", "/both", "-o", "json")))

    assert with_stat.startswith("text\nversion           0\n")
    assert (data["path"], data["value"], data["encoding"], data["stat"]["version"]) == (
        "/both",
        "text",
        "utf-8",
        0,
    )


def test_shared_options_stand_before_or_after_the_command(member: MemberProcess) -> None:
    done(coordctl(member, "create", "/options"))

    before = done(coordctl(member, "-o", "json", "stat", "/options"))
    after = done(CliRunner().invoke(main, ["stat", "/options", "-o", "json", "--endpoints", member.endpoint]))
    environment = {"COORD_ENDPOINTS": member.endpoint, "COORD_OUTPUT": "json"}
    from_environment = done(CliRunner().invoke(main, ["stat", "/options"], env=environment))

    assert json.loads(before) == json.loads(after) == json.loads(from_environment)


def test_set_can_create_what_is_missing(member: MemberProcess) -> None:
    assert coordctl(member, "set", "/upsert/node", "x").exit_code == 4
    done(coordctl(member, "set", "/upsert/node", "x", "--create"))
    assert done(coordctl(member, "get", "/upsert/node")) == "x"


def test_ls_names_children_and_long_and_recursive_tell_more(member: MemberProcess) -> None:
    for path in ("/ls/b/deep", "/ls/a"):
        done(coordctl(member, "create", path, "12345", "--parents"))

    assert done(coordctl(member, "ls", "/ls")) == "a\nb\n"
    assert done(coordctl(member, "ls", "-r", "/ls")) == "/ls/a\n/ls/b\n/ls/b/deep\n"
    long = done(coordctl(member, "ls", "-l", "/ls")).splitlines()
    assert long[0].split() == ["VERSION", "BYTES", "CHILDREN", "EPHEMERAL", "OF", "MODIFIED", "NAME"]
    assert long[1].split()[:3] == ["0", "5", "0"]
    assert long[2].split()[:3] == ["0", "0", "1"]
    data = json.loads(done(coordctl(member, "ls", "/ls", "-o", "json")))
    assert [node["path"] for node in data] == ["/ls/a", "/ls/b"]


def test_tree_draws_what_is_below(member: MemberProcess) -> None:
    for path in ("/tree/a/x", "/tree/b"):
        done(coordctl(member, "create", path, "v", "--parents"))

    drawn = done(coordctl(member, "tree", "/tree", "--values"))
    shallow = done(coordctl(member, "tree", "/tree", "--depth", "1"))
    data = json.loads(done(coordctl(member, "tree", "/tree", "-o", "json")))

    assert drawn.splitlines() == ["/tree", "├── a", "│   └── x = v", "└── b = v"]
    assert shallow.splitlines() == ["/tree", "├── a", "│   … 1 below", "└── b"]
    assert data["children"][0]["children"][0]["path"] == "/tree/a/x"


def test_sequential_names_count_up(member: MemberProcess) -> None:
    done(coordctl(member, "create", "/jobs"))

    made = [done(coordctl(member, "create", "/jobs/", "--sequential")).strip() for _ in range(2)]

    assert made == ["/jobs/0000000000", "/jobs/0000000001"]


def test_containers_and_ttl_nodes_are_made(member: MemberProcess) -> None:
    done(coordctl(member, "create", "/container", "--container"))
    done(coordctl(member, "create", "/leased", "--ttl", "10m"))

    assert coordctl(member, "create", "/both-kinds", "--ttl", "10m", "--container").exit_code == 2


def test_an_ephemeral_node_is_held_until_ctrl_c(member: MemberProcess) -> None:
    command = [
        sys.executable,
        "-m",
        "coordclient.cli",
        "--endpoints",
        member.endpoint,
        "create",
        "/held",
        "--ephemeral",
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as holder:
        try:
            assert holder.stdout is not None
            assert holder.stderr is not None
            assert holder.stdout.readline() == "/held\n"
            said = holder.stderr.readline()
            sessions = done(coordctl(member, "session", "list"))
            stat = json.loads(done(coordctl(member, "stat", "/held", "-o", "json")))["stat"]
            owner = stat["ephemeral_owner"]

            holder.send_signal(signal.SIGINT)

            assert holder.wait(timeout=30) == 0
        finally:
            holder.kill()  # A test that fails must not wait for a holder that holds for ever.
    assert f"holding /held in session {owner}" in said
    assert owner in sessions
    assert coordctl(member, "get", "/held").exit_code == 4


def test_the_loss_of_the_session_ends_the_hold_and_says_so(tmp_path: Path) -> None:
    doomed = MemberProcess("a", free_ports(3), tmp_path)
    doomed.start(f"a={doomed.peer_address}")
    try:
        wait_until(doomed, lambda reply: bool(reply.leader))
        command = [sys.executable, "-m", "coordclient.cli", "--endpoints", doomed.endpoint]
        command += ["create", "/held", "--ephemeral", "--session-timeout", "1s"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as holder:
            assert holder.stdout is not None
            assert holder.stderr is not None
            assert holder.stdout.readline() == "/held\n"
            assert holder.stderr.readline().startswith("holding /held")

            doomed.signal(signal.SIGKILL)

            assert holder.wait(timeout=30) == 7
            assert "was lost, and /held with it" in holder.stderr.read()
    finally:
        doomed.end()


def test_a_missing_node_is_told_with_what_is_there(member: MemberProcess) -> None:
    done(coordctl(member, "create", "/hint/config", "--parents"))

    slip = coordctl(member, "get", "/hint/confg")
    deeper = coordctl(member, "get", "/hint/config/a/b")
    elsewhere = coordctl(member, "ls", "/hint/zzz")

    assert slip.exit_code == deeper.exit_code == elsewhere.exit_code == 4
    assert slip.stderr == "coordctl: there is no node /hint/confg; did you mean /hint/config?\n"
    assert "/hint/config has no children" in deeper.stderr
    assert "/hint has config" in elsewhere.stderr


def test_a_missing_parent_is_told_with_the_option_that_makes_it(member: MemberProcess) -> None:
    result = coordctl(member, "create", "/no/parents/yet")

    assert result.exit_code == 4
    assert "there is no node /no" in result.stderr
    assert "--parents creates what is missing" in result.stderr


def test_a_command_with_a_slip_is_told_with_the_right_one() -> None:
    result = CliRunner().invoke(main, ["staus"])

    assert result.exit_code == 2
    assert "'status'" in result.stderr


def test_conflicts_have_their_exit_code_and_say_what_is(member: MemberProcess) -> None:
    done(coordctl(member, "create", "/conflict/child", "--parents"))

    again = coordctl(member, "create", "/conflict/child")
    version = coordctl(member, "set", "/conflict/child", "x", "--version", "7")
    full = coordctl(member, "delete", "/conflict")

    assert [again.exit_code, version.exit_code, full.exit_code] == [5, 5, 5]
    assert "/conflict/child" in again.stderr
    assert "7" in version.stderr
    assert done(coordctl(member, "delete", "/conflict", "-r")) == "/conflict deleted, 2 nodes in all\n"


def test_a_path_without_its_slash_is_refused_before_anything_is_sent(member: MemberProcess) -> None:
    result = coordctl(member, "get", "app/config")

    assert result.exit_code == 2
    assert "did you mean '/app/config'?" in result.stderr


def test_watch_replays_from_a_transaction_and_ends_after_a_count(member: MemberProcess) -> None:
    done(coordctl(member, "create", "/watched", "v1"))
    since = json.loads(done(coordctl(member, "stat", "/watched", "-o", "json")))["stat"]["czxid"]
    done(coordctl(member, "set", "/watched", "v2"))
    done(coordctl(member, "create", "/watched/child"))

    arguments = ("watch", "-r", "/watched", "--since", str(since - 1), "--count", "3")
    lines = [json.loads(line) for line in done(coordctl(member, *arguments, "-o", "json")).splitlines()]
    for_people = done(coordctl(member, *arguments)).splitlines()

    assert [(line["type"], line["path"], line["value"]) for line in lines] == [
        ("CREATED", "/watched", "v1"),
        ("CHANGED", "/watched", "v2"),
        ("CREATED", "/watched/child", ""),
    ]
    assert for_people[1].split() == [str(since + 1), "CHANGED", "/watched", "v2"]


def test_history_tells_what_has_changed(member: MemberProcess) -> None:
    done(coordctl(member, "create", "/past", "v1"))
    done(coordctl(member, "delete", "/past"))

    lines = [
        json.loads(line) for line in done(coordctl(member, "history", "/past", "-o", "json")).splitlines()
    ]

    assert [(line["type"], line["path"]) for line in lines] == [("CREATED", "/past"), ("DELETED", "/past")]


def test_status_of_a_healthy_cluster(member: MemberProcess) -> None:
    text = done(coordctl(member, "status"))
    data = json.loads(done(coordctl(member, "status", "-o", "json")))

    assert "healthy: a leads, 1 of 1 answer; none may fail" in text
    assert data["leader"] == "a"
    assert data["members"][0]["is_leader"] is True


def test_a_closed_port_is_told_with_what_to_do() -> None:
    endpoint = f"127.0.0.1:{free_ports(1)[0]}"

    for command in (["get", "/a"], ["session", "list"]):
        result = CliRunner().invoke(main, ["--endpoints", endpoint, "--timeout", "1s", *command])
        assert result.exit_code == 3
        assert f"{endpoint}: connection refused" in result.stderr
        assert "coordsvc serve" in result.stderr
        assert "Traceback" not in result.output


def test_a_port_that_is_no_client_port_is_told_apart(member: MemberProcess) -> None:
    for address in (member.peer_address, member.admin_address):
        result = CliRunner().invoke(main, ["--endpoints", address, "--timeout", "1s", "get", "/a"])
        assert result.exit_code == 3
        assert "peer and admin ports are no endpoints" in result.stderr


def test_a_host_that_does_not_exist_is_named() -> None:
    result = CliRunner().invoke(
        main, ["--endpoints", "no-such-host.invalid:7400", "--timeout", "1s", "get", "/a"]
    )

    assert result.exit_code == 3
    assert "there is no host 'no-such-host.invalid'" in result.stderr


def test_a_stale_read_answers_like_any_other(member: MemberProcess) -> None:
    done(coordctl(member, "create", "/stale/a/b", "v", "--parents"))

    assert done(coordctl(member, "get", "/stale/a/b", "--stale")) == "v"
    assert done(coordctl(member, "ls", "-r", "/stale", "--stale")) == "/stale/a\n/stale/a/b\n"
    assert done(coordctl(member, "tree", "/stale", "--stale")).splitlines() == [
        "/stale",
        "└── a",
        "    └── b",
    ]
    missing = coordctl(member, "stat", "/stale/x", "--stale")
    assert missing.exit_code == 4
    assert "/stale has a" in missing.stderr


def test_without_a_leader_it_says_so_and_stale_reads_go_on(tmp_path: Path) -> None:
    lone = MemberProcess("a", free_ports(3), tmp_path)
    absent = free_ports(2)
    lone.start(f"a={lone.peer_address},b=127.0.0.1:{absent[0]},c=127.0.0.1:{absent[1]}")
    try:
        wait_until(lone, lambda reply: bool(reply.member))

        write = coordctl(lone, "create", "/a", "--timeout", "1s")
        stale = coordctl(lone, "get", "/", "--stale")
        status = coordctl(lone, "status")
    finally:
        lone.end()

    assert write.exit_code == 3
    assert "a answers but knows no leader: a majority of the 3 members must run" in write.stderr
    assert stale.exit_code == 0
    assert status.exit_code == 3
    assert "no leader" in status.stdout


def test_output_that_cannot_be_written_is_told_in_one_line(member: MemberProcess) -> None:
    done(coordctl(member, "create", "/full/child", "--parents"))
    command = [sys.executable, "-m", "coordclient.cli", "--endpoints", member.endpoint, "ls", "/full"]

    with open("/dev/full", "w") as full:
        listing = subprocess.run(
            command, stdout=full, stderr=subprocess.PIPE, text=True, timeout=30, check=False
        )

    assert listing.stderr == "coordctl: the output could not be written: No space left on device\n"
    assert listing.returncode == 1


def test_colour_is_for_terminals(member: MemberProcess) -> None:
    assert "\x1b[" not in done(coordctl(member, "status"))
    assert "\x1b[" in done(CliRunner().invoke(main, ["--endpoints", member.endpoint, "status", "--color"]))


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shell_completion_is_printed(shell: str) -> None:
    assert "_COORDCTL_COMPLETE" in done(CliRunner().invoke(main, ["completion", shell]))


def test_paths_are_completed_from_the_live_tree(member: MemberProcess) -> None:
    done(coordctl(member, "create", "/complete/config", "--parents"))
    done(coordctl(member, "create", "/complete/other"))

    def complete(words: str, endpoint: str) -> list[str]:
        environment = {"_COORDCTL_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": "2"}
        environment["COORD_ENDPOINTS"] = endpoint
        return CliRunner().invoke(main, [], prog_name="coordctl", env=environment).stdout.split()

    assert complete("coordctl get /complete/co", member.endpoint) == ["plain,/complete/config"]
    assert complete("coordctl get /complete/co", f"127.0.0.1:{free_ports(1)[0]}") == []


def test_the_installed_program_explains_its_exit_codes() -> None:
    program = Path(sys.executable).parent / "coordctl"
    result = subprocess.run(
        [program, "--help"], capture_output=True, text=True, timeout=60, check=True, env=os.environ
    )

    assert "4  there is no such node" in result.stdout
