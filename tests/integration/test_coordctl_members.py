"""`coordctl member` and `coordctl leader` on a real server that is a cluster of its own."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import pytest
from click.testing import CliRunner, Result

from coordclient.cli import main
from coordclient.cli.service_calls import ask_status
from tests.processes.cluster import MemberProcess, free_ports

pytestmark = pytest.mark.processes

START_WITHIN_S = 30.0


@pytest.fixture(scope="module")
def member(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MemberProcess]:
    member = MemberProcess("a", free_ports(3), tmp_path_factory.mktemp("coordctl-members"))
    member.start()
    try:
        wait_until_it_leads(member)
        yield member
    finally:
        member.end()


def wait_until_it_leads(member: MemberProcess) -> None:
    deadline_s = time.monotonic() + START_WITHIN_S
    while time.monotonic() < deadline_s:
        reply = ask_status([member.endpoint], timeout_s=1.0)[0].reply
        if reply is not None and reply.leader:
            return
        time.sleep(0.05)
    raise AssertionError(f"not in time:\n{member.log_text()}")


def coordctl(member: MemberProcess, *arguments: str) -> Result:
    return CliRunner().invoke(main, ["--endpoints", member.endpoint, *arguments])


def done(result: Result) -> str:
    assert result.exit_code == 0, result.output
    return result.stdout


def test_a_lone_member_is_listed_as_what_it_is(member: MemberProcess) -> None:
    lines = done(coordctl(member, "member", "list")).splitlines()
    data = json.loads(done(coordctl(member, "member", "list", "-o", "json")))

    assert lines[1].split() == ["*", "a", "voter", "leader", "0", member.endpoint, member.peer_address]
    assert lines[2] == "1 voter, 1 up, 1 needed"
    assert data["members"][0]["peer_address"] == member.peer_address


def test_the_last_voter_can_neither_go_nor_hand_over(member: MemberProcess) -> None:
    removal = coordctl(member, "member", "remove", "a", "--force")
    transfer = coordctl(member, "leader", "transfer")

    assert (removal.exit_code, transfer.exit_code) == (1, 1)
    assert "a is the last voting member" in removal.stderr
    assert "at stake" not in removal.stderr
    assert "no other voting member is connected" in transfer.stderr
    assert done(coordctl(member, "leader", "show", "-o", "json")).startswith('{\n  "leader": "a"')


def test_an_announced_member_has_not_been_seen_and_may_be_taken_back(member: MemberProcess) -> None:
    peer_address = f"127.0.0.1:{free_ports(1)[0]}"

    announced = done(coordctl(member, "member", "add", "d", peer_address))
    listed = done(coordctl(member, "member", "list")).splitlines()[2].split()
    again = done(coordctl(member, "member", "add", "d", peer_address))
    elsewhere = coordctl(member, "member", "add", "d", "127.0.0.1:1")
    promoted = coordctl(member, "member", "promote", "d", "--timeout", "300ms")
    removed = done(coordctl(member, "member", "remove", "d"))

    assert f"coordsvc serve --join {member.endpoint} --name d --peer-listen {peer_address}" in announced
    assert listed == ["!", "d", "learner", "not", "seen", "yet", "-", "?", peer_address]
    assert again.startswith("d is announced already")
    assert (elsewhere.exit_code, promoted.exit_code) == (1, 6)
    assert "there is a member named d already" in elsewhere.stderr
    assert "it has not been started yet" in promoted.stderr
    assert removed.startswith("d is removed")


def test_an_address_that_is_taken_is_refused(member: MemberProcess) -> None:
    result = coordctl(member, "member", "add", "e", member.peer_address)

    assert result.exit_code == 1
    assert f"{member.peer_address} is the address of member a" in result.stderr
