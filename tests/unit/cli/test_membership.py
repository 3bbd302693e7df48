"""`coordctl member`: finds the leader, carries changes out to their end, and says what is at stake."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

import grpc
import pytest
from click.testing import CliRunner, Result

from coordclient.cli import leader_calls, main
from coordproto.v1 import coordination_pb2 as api
from coordproto.v1 import data_pb2
from tests.unit.cli.fake_cluster import LAST_INDEX, Code, FakeCluster, FakeMember, refuse

Failure = Callable[[FakeMember, grpc.ServicerContext], None]

AT_STAKE = "only 1 of the 2 voters that are left can be reached, and 2 are needed"


NO_HOSTS = (
    "10.0.0..4",
    ".x",
    "h" * 64,
    "h." * 127 + "h",
    "10.0.0.256",
    "a,b",
    "a=b",
    "[,=]",
    "[10.0.0.4]",
    "::1",
)


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeCluster]:
    monkeypatch.setattr(leader_calls, "_PAUSE_S", 0.01)
    cluster = FakeCluster("a", "b", "c")
    yield cluster
    cluster.stop()


def coordctl(cluster: FakeCluster, *arguments: str, at: str = "b", value: str = "") -> Result:
    return CliRunner().invoke(main, ["--endpoints", cluster[at].address, *arguments], input=value)


def done(result: Result) -> str:
    assert result.exit_code == 0, result.output
    return result.stdout


def names(cluster: FakeCluster) -> list[str]:
    return sorted(cluster.infos)


def refused(message: str, code: data_pb2.ErrorCode.ValueType = Code.CHECK_FAILED) -> Failure:
    return lambda _, context: refuse(context, code, message)


def not_leading(_: FakeMember, context: grpc.ServicerContext) -> None:
    refuse(context, Code.NO_LEADER, "this member does not lead", grpc.StatusCode.UNAVAILABLE)


def connection_lost(_: FakeMember, context: grpc.ServicerContext) -> None:
    context.abort(grpc.StatusCode.UNAVAILABLE, "Socket closed")


# ---------------------------------------------------------------------------------------------
# list


def test_the_list_shows_roles_states_and_what_is_missing(cluster: FakeCluster) -> None:
    cluster.infos["c"].reachable = False
    cluster.infos["c"].match_index = LAST_INDEX - 40
    cluster.add("d", learner=True, match=LAST_INDEX - 7)
    announced = cluster.add("e", learner=True)
    announced.started = announced.reachable = False
    announced.client_address = ""

    lines = done(coordctl(cluster, "member", "list")).splitlines()

    rows = [line.split()[:5] for line in lines[1:6]]
    assert rows[0] == ["*", "a", "voter", "leader", "0"]
    assert rows[1][:4] == ["b", "voter", "up", "0"]
    assert rows[2] == ["!", "c", "voter", "down", "40"]
    assert rows[3][:4] == ["d", "learner", "up", "7"]
    assert lines[5].split()[:8] == ["!", "e", "learner", "not", "seen", "yet", "-", "?"]
    assert lines[6] == "3 voters, 2 up, 2 needed; 2 learners"


def test_a_change_under_way_shows_in_the_list(cluster: FakeCluster) -> None:
    cluster.infos["b"].role = api.LEAVING_VOTER
    cluster.infos["c"].role = api.JOINING_VOTER

    text = done(coordctl(cluster, "member", "list"))

    assert "leaving voter" in text
    assert "joining voter" in text
    assert text.endswith("a change is under way\n")


@pytest.mark.parametrize("output", ["json", "yaml"])
def test_scripts_get_the_list_as_data(cluster: FakeCluster, output: str) -> None:
    text = done(coordctl(cluster, "member", "list", "-o", output))

    if output == "json":
        data = json.loads(text)
        assert data["configuration_index"] == 7
        assert data["members"][0] == {
            "member": "a",
            "role": "voter",
            "is_leader": True,
            "reachable": True,
            "started": True,
            "match_index": LAST_INDEX,
            "client_address": cluster["a"].address,
            "peer_address": "10.0.0.1:7000",
        }
    else:
        assert "- member: a\n  role: voter\n" in text.replace("  - member", "- member").replace("    ", "  ")


# ---------------------------------------------------------------------------------------------
# add


def test_an_announced_member_is_told_how_to_start(cluster: FakeCluster) -> None:
    text = done(coordctl(cluster, "member", "add", "d", "10.0.0.4:7401"))

    assert cluster.infos["d"].role == api.LEARNER
    assert text.splitlines()[1] == (
        f"  coordsvc serve --join {cluster['a'].address} --name d --peer-listen 10.0.0.4:7401"
        " --listen HOST:PORT"
    )


def test_announcing_a_member_again_succeeds_and_says_so(cluster: FakeCluster) -> None:
    """The first answer was lost, and the operator cannot know what became of it."""
    done(coordctl(cluster, "member", "add", "d", "10.0.0.4:7401"))
    cluster.failures = [refused("there is a member named d already", Code.NODE_EXISTS)]

    lines = done(coordctl(cluster, "member", "add", "d", "10.0.0.4:7401")).splitlines()

    assert lines[0] == "d is announced already, as a learner; start it there with:"
    assert "--name d --peer-listen 10.0.0.4:7401" in lines[1]


def test_announcing_a_member_that_has_been_started_says_so(cluster: FakeCluster) -> None:
    cluster.failures = [refused("there is a member named b already", Code.NODE_EXISTS)]

    text = done(coordctl(cluster, "member", "add", "b", cluster.infos["b"].peer_address))

    assert text == "b is a member already, and was started; nothing is left to do\n"


def test_the_name_of_another_member_is_refused(cluster: FakeCluster) -> None:
    cluster.failures = [refused("there is a member named b already", Code.NODE_EXISTS)]

    result = coordctl(cluster, "member", "add", "b", "10.0.0.4:7401")

    assert result.exit_code != 0
    assert "there is a member named b already" in result.stderr


@pytest.mark.parametrize(
    "address",
    ["db1:7401", "db-1.rack_2.example.com.:7401", "[::1]:7401", "[fe80::1%eth0]:7401", "b\u00fc.example:1"],
)
def test_hosts_of_every_kind_can_be_announced(cluster: FakeCluster, address: str) -> None:
    done(coordctl(cluster, "member", "add", "d", address))

    assert cluster.infos["d"].peer_address == address


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("d", "10.0.0.4"), "did you mean '10.0.0.4:7401'?"),
        (("d", "http://10.0.0.4:7401"), "leave http:// out"),
        *((("d", f"{host}:7401"), "is neither an IP address nor the name of a host") for host in NO_HOSTS),
        (("d=x", "10.0.0.4:7401"), "is no member's name"),
        (("10.0.0.4:7401", "d"), "is no member's name"),
    ],
)
def test_slips_are_refused_before_anything_is_asked(
    cluster: FakeCluster, arguments: tuple[str, str], says: str
) -> None:
    result = coordctl(cluster, "member", "add", *arguments)

    assert result.exit_code == 2
    assert says in result.stderr
    assert cluster.asked == []


# ---------------------------------------------------------------------------------------------
# remove


def test_any_member_may_be_asked_and_the_leader_carries_it_out(cluster: FakeCluster) -> None:
    text = done(coordctl(cluster, "member", "remove", "c"))

    assert names(cluster) == ["a", "b"]
    assert cluster.asked == ["a"]
    assert text.splitlines() == [
        "c is removed; its data directory is of no use any more",
        "2 voters, 2 up, 2 needed",
    ]


def test_whoever_removed_the_member_that_was_asked_is_told_where_to_ask_next(cluster: FakeCluster) -> None:
    text = done(coordctl(cluster, "member", "remove", "b", at="b"))

    assert text.splitlines()[2] == (
        f"from now on use --endpoints {cluster['a'].address},{cluster['c'].address}"
    )


def test_a_leader_that_hands_over_first_is_followed(cluster: FakeCluster) -> None:
    """The leader is to be removed: it hands over and answers that it leads no more."""

    def hand_over(member: FakeMember, context: grpc.ServicerContext) -> None:
        cluster.leader = "c"
        cluster.term += 1
        not_leading(member, context)

    cluster.failures = [hand_over]
    done(coordctl(cluster, "member", "remove", "a"))

    assert names(cluster) == ["b", "c"]
    assert cluster.asked == ["a", "c"]


def test_a_change_that_came_about_unconfirmed_is_not_repeated(cluster: FakeCluster) -> None:
    def carry_out_and_die(member: FakeMember, context: grpc.ServicerContext) -> None:
        cluster.carry_out(cluster.requests[-1])
        connection_lost(member, context)

    cluster.failures = [carry_out_and_die]
    done(coordctl(cluster, "member", "remove", "c"))

    assert names(cluster) == ["a", "b"]
    assert len(cluster.requests) == 1


def test_a_change_that_did_not_come_about_is_repeated(cluster: FakeCluster) -> None:
    cluster.failures = [connection_lost]
    done(coordctl(cluster, "member", "remove", "c"))

    assert names(cluster) == ["a", "b"]
    assert len(cluster.requests) == 2


def test_the_end_of_an_unconfirmed_change_is_awaited(cluster: FakeCluster) -> None:
    """Between its two steps the leader dies; its successor completes the change by itself."""
    cluster.add("d", learner=True)

    def die_in_between(member: FakeMember, context: grpc.ServicerContext) -> None:
        cluster.infos["c"].role = api.LEAVING_VOTER
        cluster.infos["d"].role = api.JOINING_VOTER
        cluster.on_look = complete_after_three_looks
        connection_lost(member, context)

    def complete_after_three_looks() -> None:
        if cluster.looks >= 4 and "c" in cluster.infos:
            cluster.carry_out(cluster.requests[0])

    cluster.failures = [die_in_between]
    done(coordctl(cluster, "member", "replace", "c", "d"))

    assert names(cluster) == ["a", "b", "d"]
    assert len(cluster.requests) == 1


def test_a_refusal_is_told_in_the_service_s_words(cluster: FakeCluster) -> None:
    cluster.failures = [refused(AT_STAKE)]
    result = coordctl(cluster, "member", "remove", "c")

    assert result.exit_code == 1
    assert result.stderr == f"coordctl: {AT_STAKE}\n  to go on all the same, add --force\n"
    assert names(cluster) == ["a", "b", "c"]


def test_force_says_what_is_at_stake_and_goes_through(cluster: FakeCluster) -> None:
    cluster.failures = [refused(AT_STAKE)]
    result = coordctl(cluster, "member", "remove", "c", "--force")

    assert done(result)
    assert result.stderr == f"at stake: {AT_STAKE}\n"
    assert [request.force for request in cluster.requests] == [False, True]


@pytest.mark.parametrize("code", [Code.INVALID_ARGUMENT, Code.LIMIT_EXCEEDED, Code.NODE_EXISTS])
def test_force_is_for_the_quorum_only(cluster: FakeCluster, code: data_pb2.ErrorCode.ValueType) -> None:
    cluster.failures = [refused("c is the last voting member", code)]
    result = coordctl(cluster, "member", "remove", "c", "--force")

    assert result.exit_code == 1
    assert result.stderr == "coordctl: c is the last voting member\n"
    assert len(cluster.requests) == 1


def test_force_is_not_used_where_it_is_not_needed(cluster: FakeCluster) -> None:
    result = coordctl(cluster, "member", "remove", "c", "--force")

    assert done(result)
    assert result.stderr == ""
    assert [request.force for request in cluster.requests] == [False]


@pytest.mark.parametrize(
    ("answer", "options", "is_removed"),
    [("y\n", (), True), ("n\n", (), False), ("\n", (), False), ("", ("--yes",), True)],
)
def test_force_asks_at_a_terminal(
    cluster: FakeCluster,
    monkeypatch: pytest.MonkeyPatch,
    answer: str,
    options: tuple[str, ...],
    is_removed: bool,
) -> None:
    monkeypatch.setattr("coordclient.cli.membership.is_at_terminal", lambda: True)
    cluster.failures = [refused(AT_STAKE)]
    result = coordctl(cluster, "member", "remove", "c", "--force", *options, value=answer)

    assert ("c" not in cluster.infos) is is_removed
    assert result.exit_code == (0 if is_removed else 1)
    assert ("go on all the same?" in result.stderr) is (not options)


# ---------------------------------------------------------------------------------------------
# promote, replace


def test_a_learner_is_promoted_once_it_has_caught_up(cluster: FakeCluster) -> None:
    learner = cluster.add("d", learner=True, match=0)

    def catch_up() -> None:
        assert not cluster.requests
        learner.match_index += 1_500

    cluster.on_look = catch_up
    text = done(coordctl(cluster, "member", "promote", "d"))

    assert cluster.looks == 3, "it is at most 1000 entries behind after three looks"
    assert learner.role == api.VOTER
    assert text.startswith("d is a voter now\n4 voters, 4 up, 3 needed")


def test_promoting_a_voter_again_succeeds_and_says_so(cluster: FakeCluster) -> None:
    cluster.failures = [refused("b is a voting member already", Code.INVALID_ARGUMENT)]

    text = done(coordctl(cluster, "member", "promote", "b"))

    assert text.startswith("b is a voter already\n3 voters, 3 up, 2 needed")


def test_a_learner_that_fell_behind_again_is_waited_for(cluster: FakeCluster) -> None:
    cluster.add("d", learner=True)
    cluster.failures = [refused("d has not caught up", Code.CATCHING_UP)]

    done(coordctl(cluster, "member", "promote", "d"))

    assert len(cluster.requests) == 2
    assert cluster.infos["d"].role == api.VOTER


@pytest.mark.parametrize(
    ("started", "reachable", "says"),
    [
        (False, False, "it has not been started yet (coordsvc serve --join ... --name d)"),
        (True, False, "it is not running, or the leader cannot reach it"),
        (True, True, f"it has 2500 of {LAST_INDEX} entries, 50%"),
    ],
)
def test_a_learner_that_does_not_catch_up_is_told_with_the_reason(
    cluster: FakeCluster, started: bool, reachable: bool, says: str
) -> None:
    learner = cluster.add("d", learner=True, match=2_500)
    learner.started, learner.reachable = started, reachable
    result = coordctl(cluster, "member", "promote", "d", "--timeout", "100ms")

    assert result.exit_code == 6
    assert f"d has not caught up within 0.1 s: {says}\n" in result.stderr
    assert "--timeout" in result.stderr
    assert cluster.requests == []


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("promote", "scheduler-7"), "there is no member scheduler-7; the members are a, b, c, worker-1"),
        (("replace", "a", "worker1"), "there is no member worker1; did you mean worker-1?"),
    ],
)
def test_a_name_that_nobody_has_is_told_with_those_that_there_are(
    cluster: FakeCluster, arguments: tuple[str, ...], says: str
) -> None:
    cluster.add("worker-1", learner=True)
    result = coordctl(cluster, "member", *arguments)

    assert result.exit_code == 1
    assert says in result.stderr


def test_a_voter_is_replaced_in_one_step(cluster: FakeCluster) -> None:
    cluster.add("d", learner=True)
    data = json.loads(done(coordctl(cluster, "member", "replace", "a", "d", "-o", "json")))

    assert [found["member"] for found in data["members"]] == ["b", "c", "d"]
    assert len(cluster.requests) == 1


# ---------------------------------------------------------------------------------------------
# The leader


def test_a_leader_that_is_not_there_yet_is_waited_for(cluster: FakeCluster) -> None:
    cluster.failures = [not_leading, not_leading]

    done(coordctl(cluster, "member", "remove", "c"))

    assert cluster.asked == ["a", "a", "a"]


def test_without_a_leader_it_ends_in_time_and_says_what_is_missing(cluster: FakeCluster) -> None:
    cluster.leader = ""
    result = coordctl(cluster, "member", "list", "--timeout", "100ms")

    assert result.exit_code == 3
    assert "no leader was found within 0.1 s" in result.stderr
    assert "a majority of the 3 members must run" in result.stderr


def test_a_leader_whose_address_nobody_knows_is_named(cluster: FakeCluster) -> None:
    cluster.infos["a"].client_address = ""
    result = coordctl(cluster, "member", "list", "--timeout", "100ms")

    assert result.exit_code == 3
    assert "a leads, but nobody knows where clients reach it" in result.stderr


def test_the_successor_is_found_when_the_endpoints_that_were_given_are_gone(cluster: FakeCluster) -> None:
    def die(member: FakeMember, context: grpc.ServicerContext) -> None:
        cluster["b"].stop()
        cluster.leader = "c"
        cluster.term += 1
        connection_lost(member, context)

    cluster.failures = [die]
    done(coordctl(cluster, "member", "remove", "b"))

    assert names(cluster) == ["a", "c"]


def test_an_older_server_is_told_apart(cluster: FakeCluster) -> None:
    def unknown_method(_: FakeMember, context: grpc.ServicerContext) -> None:
        context.abort(grpc.StatusCode.UNIMPLEMENTED, "Method not found!")

    cluster.failures = [unknown_method]
    result = coordctl(cluster, "member", "remove", "c")

    assert result.exit_code == 1
    assert "member a is of a version that does not know this request" in result.stderr


def test_names_of_members_are_completed(cluster: FakeCluster) -> None:
    environment = {
        "_COORDCTL_COMPLETE": "bash_complete",
        "COMP_WORDS": "coordctl member remove ",
        "COMP_CWORD": "3",
        "COORD_ENDPOINTS": cluster["b"].address,
    }
    completed = CliRunner().invoke(main, [], prog_name="coordctl", env=environment).stdout.split()

    assert completed == ["plain,a", "plain,b", "plain,c"]
