"""Commands that run under a lock or an election: what they get, how they end, and that they end in time."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from coordclient import Client
from tests.integration.coordctl_processes import (
    Coordctl,
    OnTerminal,
    Record,
    ended,
    eventually,
    is_running,
    serving,
    told,
)
from tests.processes.cluster import MemberProcess, free_ports

pytestmark = pytest.mark.processes

LOST = 123
NOT_GRANTED = 124


@pytest.fixture(scope="module")
def endpoints(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server of its own, for all tests of this file; each test uses paths of its own."""
    with serving(tmp_path_factory.mktemp("commands")) as endpoint:
        yield endpoint


@pytest.fixture
def record(tmp_path: Path) -> Record:
    return Record(tmp_path)


@pytest.fixture
def client(endpoints: str) -> Iterator[Client]:
    with Client(endpoints) as client:
        yield client


def only_contender(client: Client, path: str) -> str:
    """The node of the one that holds or waits."""
    (contender,) = client.lock(path).contenders()
    return str(contender.path)


# ---------------------------------------------------------------------------------------------
# What a command gets, and how it ends


def test_a_command_is_not_told_how_grpc_behaves_here(
    endpoints: str, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in os.environ if name.startswith("GRPC_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("GRPC_TRACE", "")

    _, said, _ = ended(endpoints, "lock", "/run/lock", "--", "env")

    assert [line for line in said.splitlines() if line.startswith("GRPC_")] == ["GRPC_TRACE="]


def test_a_command_has_the_grant_in_its_environment_and_its_exit_code_is_returned(
    endpoints: str, client: Client
) -> None:
    script = 'echo "$COORD_TOKEN $COORD_PATH $COORD_NODE $COORD_ENDPOINTS"; exit 9'

    code, said, complaints = ended(endpoints, "lock", "/run/lock", "--", "sh", "-c", script)

    token, path, node, told_endpoints = said.split()
    assert (code, complaints, path, told_endpoints) == (9, "", "/run/lock", endpoints)
    assert node.startswith("/run/lock/")
    assert 0 < int(token) <= client.sync()


def test_a_write_of_a_command_can_be_guarded_by_its_grant(endpoints: str, client: Client) -> None:
    options = '/guarded/value "$COORD_TOKEN" --create --guard "$COORD_GUARD"'
    script = f'echo "$COORD_GUARD" && {sys.executable} -m coordclient.cli set {options} > /dev/null'

    code, said, _ = ended(endpoints, "lock", "/guarded/lock", "--", "sh", "-c", script)
    guard = said.strip()
    late = [
        told(endpoints, "set", "/guarded/value", "late", "--guard", guard),
        told(endpoints, "create", "/guarded/other", "--guard", guard),
        told(endpoints, "delete", "/guarded/value", "--guard", guard),
    ]

    assert code == 0
    assert [result.exit_code for result in late] == [5, 5, 5]
    assert guard.endswith(":" + client.get("/guarded/value").value.decode())
    assert told(endpoints, "set", "/guarded/value", "x", "--guard", "nonsense").exit_code == 2


def test_the_words_of_a_command_reach_it_as_they_are(endpoints: str) -> None:
    program = "import os, sys; os.write(1, b'|'.join(os.fsencode(word) for word in sys.argv[1:]))"
    words = ["*", "$HOME", "a b", "", "--timeout", "--", "ü", "-x"]

    code, said, _ = ended(endpoints, "lock", "/run/words", "--", sys.executable, "-c", program, *words)

    assert code == 0
    assert said.split("|") == words


def test_a_command_that_a_signal_ends_is_told_as_shells_do(endpoints: str) -> None:
    assert ended(endpoints, "lock", "/run/killed", "--", "sh", "-c", "kill -KILL $$")[0] == 128 + 9


def test_what_cannot_be_run_has_its_exit_codes_and_takes_no_lock(
    endpoints: str, client: Client, tmp_path: Path
) -> None:
    text = tmp_path / "text"
    text.write_text("no program")

    missing = ended(endpoints, "lock", "/run/none", "--", "no-such-command")
    closed = ended(endpoints, "lock", "/run/none", "--", str(text))
    text.chmod(0o755)
    unreadable = ended(endpoints, "lock", "/run/none", "--", str(text))

    assert (missing[0], missing[2]) == (127, "coordctl: no-such-command: command not found\n")
    assert (closed[0], "not executable" in closed[2]) == (126, True)
    assert (unreadable[0], "Exec format error" in unreadable[2]) == (126, True)
    assert client.lock("/run/none").contenders() == []


def test_the_lock_is_released_when_the_command_has_ended_and_not_before(
    endpoints: str, record: Record
) -> None:
    with Coordctl(endpoints, "lock", "/run/release", "--", *record.command(), record=record) as running:
        record.pid()

        refused = told(endpoints, "lock", "/run/release", "--try", "--", "true")
        too_late = told(endpoints, "lock", "/run/release", "--timeout", "200ms", "--", "true")
        record.end_with(0)

        assert running.ended()[0] == 0
    assert (refused.exit_code, too_late.exit_code) == (NOT_GRANTED, NOT_GRANTED)
    assert "held by " in refused.stderr
    assert "not granted within 0.2 s" in too_late.stderr
    assert ended(endpoints, "lock", "/run/release", "--try", "--", "true")[0] == 0


def test_signals_are_passed_on(endpoints: str, record: Record) -> None:
    wanted = ["SIGHUP", "SIGUSR1", "SIGUSR2", "SIGINT", "SIGQUIT", "SIGTERM"]
    command = record.command("stubborn")
    with Coordctl(endpoints, "lock", "/run/signals", "--", *command, record=record) as running:
        record.pid()
        for name in wanted:
            running.signal(signal.Signals[name])
            record.wait_for(name)
        record.end_with(3)

        assert running.ended()[0] == 3
    assert record.signals() == wanted


def test_a_command_that_is_asked_to_end_ends_as_it_likes_and_the_lock_is_free(
    endpoints: str, record: Record, client: Client
) -> None:
    with Coordctl(endpoints, "lock", "/run/term", "--", *record.command(), record=record) as running:
        record.pid()
        running.signal(signal.SIGTERM)

        assert running.ended()[0] == 40 + signal.SIGTERM
    assert client.lock("/run/term").contenders() == []


def test_what_a_command_leaves_in_its_group_gets_the_signals_that_end_a_job(
    endpoints: str, record: Record
) -> None:
    script = ["sh", "-c", '"$@"; exit $?', "sh", *record.command()]
    with Coordctl(endpoints, "lock", "/run/group", "--", *script, record=record) as running:
        pid = record.pid()
        running.signal(signal.SIGTERM)
        running.ended()

        assert record.wait_for("SIGTERM")
        eventually("the command behind the shell ends", lambda: not is_running(pid))


# ---------------------------------------------------------------------------------------------
# The loss


def test_when_the_lock_is_lost_the_command_is_stopped(endpoints: str, record: Record, client: Client) -> None:
    with Coordctl(endpoints, "lock", "/lost/node", "--", *record.command(), record=record) as running:
        record.pid()
        client.delete(only_contender(client, "/lost/node"))

        code, _, complaints = running.ended()

    assert code == LOST
    assert record.signals() == ["SIGTERM"]
    assert "stopping the command: it is lost, its node was deleted" in complaints
    assert "/lost/node is lost; the command ended with 55" in complaints


def test_a_command_that_does_not_stop_is_killed_with_its_children(
    endpoints: str, record: Record, client: Client
) -> None:
    command = record.command("stubborn", "child")
    arguments = ("lock", "/lost/stubborn", "--grace", "200ms", "--", *command)
    with Coordctl(endpoints, *arguments, record=record) as running:
        pid, child = record.pid(), record.child_pid()
        client.delete(only_contender(client, "/lost/stubborn"))

        code, _, complaints = running.ended()

    assert code == LOST
    assert "has not ended in time, and is killed" in complaints
    assert not is_running(pid)
    assert not is_running(child)


def test_when_the_service_is_gone_the_command_ends_before_the_session_can(
    tmp_path: Path, record: Record
) -> None:
    doomed = MemberProcess("a", free_ports(3), tmp_path)
    doomed.start(f"a={doomed.peer_address}")
    try:
        with Client(doomed.endpoint, connect_timeout=30):
            pass
        arguments = ["lock", "/lost/service", "--session-timeout", "5s", "--grace", "300ms", "--"]
        with Coordctl(doomed.endpoint, *arguments, *record.command("stubborn"), record=record) as running:
            pid = record.pid()
            doomed.signal(signal.SIGKILL)

            code, _, complaints = running.ended()
    finally:
        doomed.end()
    assert code == LOST
    assert "could not be renewed in time" in complaints
    assert record.signals() == ["SIGTERM", "SIGCONT"]
    assert not is_running(pid)


def test_a_command_does_not_outlive_coordctl(endpoints: str, record: Record) -> None:
    command = record.command("stubborn", "child")
    with Coordctl(endpoints, "lock", "/lost/parent", "--", *command, record=record) as running:
        pid, child = record.pid(), record.child_pid()

        running.signal(signal.SIGKILL)

        eventually(
            "the command and its child are gone", lambda: not is_running(pid) and not is_running(child)
        )
    assert record.signals() == []


def test_a_command_does_not_outlive_the_lock_while_coordctl_stands_still(
    endpoints: str, record: Record
) -> None:
    arguments = ["lock", "/lost/frozen", "--session-timeout", "5s", "--", *record.command("child")]
    with Coordctl(endpoints, *arguments, record=record) as running:
        pid, child = record.pid(), record.child_pid()

        running.signal(signal.SIGSTOP)
        eventually(
            "the command and its child are gone", lambda: not is_running(pid) and not is_running(child)
        )
        assert running.is_running
        running.signal(signal.SIGCONT)

        assert running.ended()[0] == LOST


def test_no_watchman_stays_behind(endpoints: str) -> None:
    program = "import os; print(os.getpid())"
    said = ended(endpoints, "lock", "/run/watchman", "--", sys.executable, "-c", program)[1]

    def watchmen() -> list[str]:
        found = []
        for directory in Path("/proc").iterdir():
            if directory.name.isdigit():
                try:
                    words = (directory / "cmdline").read_bytes().split(b"\0")
                except OSError:
                    continue
                if program.encode() in words:
                    found.append(directory.name)
        return found

    assert int(said) > 0
    eventually("the watchman has gone", lambda: not watchmen())


# ---------------------------------------------------------------------------------------------
# On a terminal


def test_ctrl_c_reaches_the_command_once(endpoints: str, record: Record) -> None:
    with OnTerminal(endpoints, "lock", "/tty/once", "--", *record.command("stubborn")) as running:
        record.pid()
        running.press(b"\x03")
        record.wait_for("SIGINT")
        os.kill(running.pid, signal.SIGUSR1)  # What comes after it has been dealt with after it.
        record.wait_for("SIGUSR1")
        record.end_with(5)

        assert running.ended()[0] == 5
    assert record.signals() == ["SIGINT", "SIGUSR1"]


def test_on_a_terminal_a_command_is_stopped_with_its_children_too(
    endpoints: str, record: Record, client: Client
) -> None:
    with OnTerminal(endpoints, "lock", "/tty/lost", "--", *record.command("child")) as running:
        pid, child = record.pid(), record.child_pid()
        client.delete(only_contender(client, "/tty/lost"))

        code, shown = running.ended()

    assert code == LOST
    assert "stopping the command: it is lost" in shown
    assert not is_running(pid)
    assert not is_running(child)


def test_on_a_terminal_a_signal_reaches_the_command_behind_a_shell(endpoints: str, record: Record) -> None:
    script = ["sh", "-c", '"$@"; exit $?', "sh", *record.command()]
    with OnTerminal(endpoints, "lock", "/tty/shell", "--", *script) as running:
        pid = record.pid()
        os.kill(running.pid, signal.SIGTERM)
        running.ended()

    assert record.signals() == ["SIGTERM"]
    assert not is_running(pid)


def test_a_command_can_read_from_the_terminal(endpoints: str) -> None:
    with OnTerminal(endpoints, "lock", "/tty/read", "--", "sh", "-c", "read word; echo got $word") as running:
        running.press(b"hello\n")

        code, shown = running.ended()

    assert code == 0
    assert "got hello" in shown


# ---------------------------------------------------------------------------------------------
# Without a command


def test_without_a_command_the_lock_is_held_until_ctrl_c(endpoints: str, client: Client) -> None:
    with Coordctl(endpoints, "lock", "/hold/lock") as running:
        token = running.line()
        (holder,) = client.lock("/hold/lock").contenders()
        assert running.error_line().startswith(f"holding /hold/lock with token {token} in session ")
        running.signal(signal.SIGINT)

        assert running.ended()[0] == 0
    assert (str(holder.token), holder.is_holder) == (token, True)
    assert client.lock("/hold/lock").contenders() == []


def test_the_loss_of_a_held_lock_has_its_exit_code(endpoints: str, client: Client) -> None:
    with Coordctl(endpoints, "lock", "/hold/lost", "-o", "json") as running:
        told = json.loads(running.line())
        client.delete(told["node"])

        code, _, complaints = running.ended()

    assert code == LOST
    assert "was lost: its node was deleted" in complaints


def test_who_waits_says_that_it_has_lost_its_place_and_waits_on(tmp_path: Path) -> None:
    member = MemberProcess("a", free_ports(3), tmp_path)
    members = f"a={member.peer_address}"
    member.start(members)
    try:
        with Client(member.endpoint, session_timeout=60, connect_timeout=30) as holder:
            held = holder.lock("/hold/on").acquire()
            arguments = ("lock", "/hold/on", "--session-timeout", "2s")
            with Coordctl(member.endpoint, *arguments) as running:
                eventually("it waits", lambda: len(holder.lock("/hold/on").contenders()) == 2)
                member.signal(signal.SIGKILL)

                assert "the session was lost; /hold/on is waited for again" in running.error_line()
                member.end()
                member.start(members)
                assert "connected again, and waiting for /hold/on" in running.error_line()
                held.release()
                assert int(running.line()) > held.token
                running.signal(signal.SIGINT)
                assert running.ended()[0] == 0
    finally:
        member.end()


def test_who_holds_and_who_waits_is_shown_in_order(endpoints: str, client: Client) -> None:
    lock = client.lock("/who/lock")
    with Coordctl(endpoints, "lock", "/who/lock") as holder:
        token = holder.line()
        with Coordctl(endpoints, "lock", "/who/lock"):
            eventually("the second one waits", lambda: len(lock.contenders()) == 2)

            found = json.loads(told(endpoints, "lock", "/who/lock", "--who", "-o", "json").stdout)
            table = told(endpoints, "lock", "/who/lock", "--who").stdout.splitlines()

    assert [contender["state"] for contender in found] == ["holds", "waits"]
    assert (str(found[0]["token"]), found[0]["client"], found[0]["process_id"]) == (
        token,
        "coordctl",
        holder.pid,
    )
    assert table[0].split() == ["STATE", "CLIENT", "HOST", "PID", "SINCE", "TOKEN", "SESSION"]
    assert [row.split()[0] for row in table[1:]] == ["holds", "waits"]
    assert told(endpoints, "lock", "/who/nobody", "--who").stdout == "nobody holds it, and nobody waits\n"


def test_a_holder_can_be_asked_to_let_go(endpoints: str, record: Record) -> None:
    arguments = ("lock", "/asked/command", "--revocable", "--", *record.command())
    with Coordctl(endpoints, *arguments, record=record) as running:
        record.pid()
        asked = told(endpoints, "lock", "/asked/command", "--revoke", "--reason", "an upgrade")

        code, _, complaints = running.ended()

    assert (asked.exit_code, asked.stdout) == (0, "the holder of /asked/command is asked to let go\n")
    assert (code, record.signals()) == (40 + signal.SIGTERM, ["SIGTERM"])
    assert "stopping the command: somebody asks for it: an upgrade" in complaints
    assert told(endpoints, "lock", "/asked/command", "--revoke").exit_code == 4


def test_a_holder_that_is_not_revocable_is_only_told(endpoints: str, record: Record) -> None:
    with Coordctl(endpoints, "lock", "/asked/told", "--", *record.command(), record=record) as running:
        record.pid()
        assert told(endpoints, "lock", "/asked/told", "--revoke", "--reason", "now").exit_code == 0
        assert "somebody asks for /asked/told: now" in running.error_line()
        record.end_with(0)

        assert running.ended()[0] == 0
    assert record.signals() == []


# ---------------------------------------------------------------------------------------------
# Elections


def test_a_command_runs_while_it_leads_and_its_value_is_published(
    endpoints: str, record: Record, client: Client
) -> None:
    arguments = ("elect", "/elect/run", "--value", "10.0.0.7:80", "--", *record.command())
    with Coordctl(endpoints, *arguments, record=record) as running:
        token = int(record.wait_for("started").rpartition("=")[2])
        leader = client.election("/elect/run").leader()
        refused = told(endpoints, "elect", "/elect/run", "--try", "--", "true")
        who = json.loads(told(endpoints, "elect", "/elect/run", "--who", "-o", "json").stdout)
        record.end_with(6)

        assert running.ended()[0] == 6
    assert leader is not None
    assert (leader.value, leader.token) == (b"10.0.0.7:80", token)
    assert refused.exit_code == NOT_GRANTED
    assert (who["leader"]["value"], who["leader"]["token"]) == ("10.0.0.7:80", token)
    assert [candidate["state"] for candidate in who["candidates"]] == ["holds"]
    assert client.election("/elect/run").leader() is None


def test_observers_see_who_leads(endpoints: str) -> None:
    with Coordctl(endpoints, "elect", "/elect/seen", "--observe", "-o", "json") as observer:
        before = json.loads(observer.line())
        with Coordctl(endpoints, "elect", "/elect/seen", "--value", "me") as leader:
            token = int(leader.line())
            during = json.loads(observer.line())
            leader.signal(signal.SIGTERM)
            assert leader.ended()[0] == 0
        after = json.loads(observer.line())

    assert before == after == {"leader": None}
    assert (during["leader"]["value"], during["leader"]["token"]) == ("me", token)


# ---------------------------------------------------------------------------------------------
# Wrong usage


@pytest.mark.parametrize(
    ("arguments", "advice"),
    [
        (("lock", "/x", "ls", "here"), "put -- before the command to run: -- ls here"),
        (("lock", "/x", "ls", "-l"), "goes after --"),
        (("lock", "/x", "--"), "name the command to run after --"),
        (("lock", "/x", "--try", "--timeout", "1s", "--", "ls"), "--try does not wait"),
        (("lock", "/x", "--grace", "15s", "--", "ls"), "--session-timeout of 30s or more"),
        (("lock", "/x", "--who", "--", "ls"), "exclude each other"),
        (("lock", "/x", "--reason", "y", "--", "ls"), "--reason goes with --revoke"),
        (("elect", "/x", "--who", "--observe"), "exclude each other"),
        (("watch", "/x", "--", "ls"), "a command is run with --exec"),
        (("watch", "/x", "--exec"), "--exec needs a command"),
        (("watch", "/x", "--latest"), "--latest goes with --exec"),
        (("watch", "/x", "--once", "--count", "2"), "give one of them"),
    ],
)
def test_wrong_usage_is_told_with_what_is_right(arguments: tuple[str, ...], advice: str) -> None:
    result = told("127.0.0.1:1", *arguments)

    assert result.exit_code == 2
    assert advice in result.stderr
