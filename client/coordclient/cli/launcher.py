"""Becomes the command that runs under coordination, and leaves a watchman behind who outlives `coordctl`.

Started as a program of its own: `python -I -S launcher.py LIFELINE GROUP COMMAND...`. The watchman reads the
lifeline, a pipe whose other end only `coordctl` has. When that end is closed without a last word, `coordctl`
was killed; when the time that it was last told has passed, `coordctl` stands still (stopped, swapped out) and
cannot renew what it holds. In both cases the watchman kills the command and all that it has started.

What a command has started is found by its process group, if it has one of its own, and through /proc. Where
there is none (macOS, BSD) a command on a terminal is ended without its descendants. Who leaves the group and
loses its parent, a daemon, is found nowhere.

Rule of this file: the standard library alone, so that it starts in milliseconds; it is also imported, for
its knowledge of processes.
"""

from __future__ import annotations

import math
import os
import select
import signal
import sys
import time
from dataclasses import dataclass
from typing import Final, NoReturn

NOT_FOUND: Final = 127
NOT_EXECUTABLE: Final = 126
UNTIL: Final = b"until"
DONE: Final = b"done"
_LOOK_INTERVAL_S: Final = 1.0  # poll()'s own clock stands still while the machine sleeps
_KILL_ROUNDS_MAX: Final = 20
_KILL_ROUND_S: Final = 0.01
_IGNORED: Final = (
    signal.SIGINT,
    signal.SIGTERM,
    signal.SIGHUP,
    signal.SIGQUIT,
    signal.SIGUSR1,
    signal.SIGUSR2,
)

if sys.platform == "linux":

    def now() -> float:
        """Return the time of `coordclient.clock`, which is not imported: that would take long."""
        return time.clock_gettime(time.CLOCK_BOOTTIME)

else:

    def now() -> float:
        """Return the time of `coordclient.clock`, which is not imported: that would take long."""
        return time.monotonic()


# ---------------------------------------------------------------------------------------------
# Which processes belong to a command


@dataclass(frozen=True, slots=True)
class Process:
    """What the kernel says of a process. `started_at` tells it from a later one with the same number."""

    number: int
    parent: int
    group: int
    started_at: int


def running_processes() -> dict[int, Process]:
    """Return every process that has not ended; nothing on a system without /proc."""
    try:
        names = os.listdir("/proc")
    except OSError:
        return {}
    found = (_read_process(int(name)) for name in names if name.isdigit())
    return {process.number: process for process in found if process is not None}


def _read_process(number: int) -> Process | None:
    try:
        with open(f"/proc/{number}/stat", "rb") as file:
            text = file.read()
    except OSError:
        return None
    # The name is in parentheses and may hold anything; see proc_pid_stat(5).
    fields = text[text.rindex(b")") + 2 :].split()
    state, parent, group, started_at = fields[0], int(fields[1]), int(fields[2]), int(fields[19])
    return None if state in (b"Z", b"X") else Process(number, parent, group, started_at)


def belonging_to(leader: int, *, has_own_group: bool) -> set[Process]:
    """Return a command's processes: itself, all that descend from it, and its process group if it has one."""
    running = running_processes()
    children: dict[int, list[Process]] = {}
    for process in running.values():
        children.setdefault(process.parent, []).append(process)
    found = {process for process in running.values() if has_own_group and process.group == leader}
    if leader in running:
        found.add(running[leader])
    waiting = [*found]
    # The leader may be a zombie, whose children have gone to somebody else; it is looked at all the same.
    waiting.append(Process(leader, 0, 0, 0))
    while waiting:
        for child in children.get(waiting.pop().number, ()):
            if child not in found:
                found.add(child)
                waiting.append(child)
    return found


def kill_all(leader: int, *, has_own_group: bool) -> None:
    """Kill a command with everything that belongs to it. It may go on starting processes meanwhile."""
    for _ in range(_KILL_ROUNDS_MAX):
        found = belonging_to(leader, has_own_group=has_own_group)
        for process in found:
            send(process.number, signal.SIGKILL)
        if not found:
            break
        time.sleep(_KILL_ROUND_S)
    if not os.path.isdir("/proc/self"):
        send(-leader if has_own_group else leader, signal.SIGKILL)


def send(process_or_group: int, number: int) -> None:
    """Send a signal; a negative number means a process group. Who has gone, or is not ours, is left alone."""
    try:
        os.kill(process_or_group, number)
    except (ProcessLookupError, PermissionError):
        return


# ---------------------------------------------------------------------------------------------
# The program


def main(arguments: list[str]) -> NoReturn:
    lifeline, has_own_group, command = int(arguments[0]), arguments[1] == "own", arguments[2:]
    # What the interpreter has changed for itself is none of the command's business.
    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    _leave_watchman(lifeline, has_own_group=has_own_group)
    os.close(lifeline)
    try:
        os.execvp(command[0], command)
    except OSError as error:
        is_missing = isinstance(error, FileNotFoundError)
        _say(f"coordctl: {command[0]}: {'command not found' if is_missing else error.strerror}\n")
        sys.exit(NOT_FOUND if is_missing else NOT_EXECUTABLE)


def _say(text: str) -> None:
    os.write(2, text.encode("utf-8", "surrogateescape"))


def _leave_watchman(lifeline: int, *, has_own_group: bool) -> None:
    """Fork twice, so that the command has no child that it did not start."""
    leader = os.getpid()
    own = _read_process(leader)
    between = os.fork()
    if between:
        os.waitpid(between, 0)
        return
    os.setsid()  # Out of reach of the terminal's signals, before the command begins.
    if os.fork():
        os._exit(0)
    for number in _IGNORED:
        signal.signal(number, signal.SIG_IGN)
    _let_go_of_files()
    if _must_kill(lifeline) and _is_the_same(leader, own):
        kill_all(leader, has_own_group=has_own_group)
    os._exit(0)


def _let_go_of_files() -> None:
    """Whoever reads what the command writes must see the end of it when the command ends."""
    nothing = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(nothing, standard)
    os.chdir("/")


def _must_kill(lifeline: int) -> bool:
    """Return whether `coordctl` was killed or stands still; False: it is done with the command."""
    deadline = math.inf
    unread = b""
    poller = select.poll()
    poller.register(lifeline, select.POLLIN)
    while now() < deadline:
        wait_s = min(_LOOK_INTERVAL_S, deadline - now())
        if not poller.poll(None if deadline == math.inf else max(0, math.ceil(wait_s * 1000))):
            continue
        data = os.read(lifeline, 4096)
        if not data:
            return True
        *lines, unread = (unread + data).split(b"\n")
        for line in lines:
            word, _, value = line.partition(b" ")
            if word == DONE:
                return False
            deadline = float(value)
    return True


def _is_the_same(leader: int, known: Process | None) -> bool:
    """Whether the number is still the command's. It stays taken while its group has members."""
    present = _read_process(leader)
    return present is None or known is None or present.started_at == known.started_at


if __name__ == "__main__":
    main(sys.argv[1:])
