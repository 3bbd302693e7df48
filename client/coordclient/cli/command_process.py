"""The command as a process: started, signalled, and ended with all that it has started.

With a controlling terminal the command shares the process group of `coordctl`, so that Ctrl-C, Ctrl-Z and
reading from the terminal work as if it had been started without `coordctl`. Without one (services, cron,
containers) it gets a group of its own.

Rule of this file: argv goes to the kernel as it was given, no shell in between; and a process is signalled
only while its number cannot belong to another.
"""

from __future__ import annotations

import contextlib
import math
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Final

from coordclient.cli import launcher
from coordclient.cli.launcher import NOT_EXECUTABLE, NOT_FOUND, Process
from coordclient.grpc_settings import environment_of_others

_LAUNCHER: Final = Path(launcher.__file__)
_FOR_ALL: Final = frozenset({signal.SIGINT, signal.SIGTERM, signal.SIGQUIT, signal.SIGTSTP, signal.SIGCONT})


def problem_with(command: str) -> tuple[int, str] | None:
    """Return why a command cannot be started, with the exit code that says so; None if it can."""
    if shutil.which(command) is not None:
        return None
    if os.path.exists(command) and "/" in command:
        reason = "is a directory" if os.path.isdir(command) else "permission denied: it is not executable"
        return NOT_EXECUTABLE, f"{command}: {reason}"
    return NOT_FOUND, f"{command}: command not found"


class CommandProcess:
    """A running command. `end` must be called in any case."""

    def __init__(
        self, arguments: Sequence[str], environment: Mapping[str, str], *, stdin: IO[bytes] | None = None
    ) -> None:
        """Start it; `environment` is added to our own. Nothing is passed on but the three standard files."""
        self.has_own_group = not self.shares_terminal()
        self._seen: set[Process] = set()
        self._told_until = 0.0
        watchman_end, self._lifeline = os.pipe()
        os.set_blocking(self._lifeline, False)
        group = "own" if self.has_own_group else "shared"
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", str(_LAUNCHER), str(watchman_end), group, *arguments],
                env={**environment_of_others(), **environment},
                stdin=stdin,
                pass_fds=(watchman_end,),
                process_group=0 if self.has_own_group else None,
            )
        except BaseException:
            os.close(self._lifeline)
            raise
        finally:
            os.close(watchman_end)

    @staticmethod
    def shares_terminal() -> bool:
        """Return whether there is a controlling terminal: a command shares our process group then."""
        try:
            os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY))
        except OSError:
            return False
        return True

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def has_ended(self) -> bool:
        """Return whether the command itself has ended. It is not reaped: its number stays taken."""
        if self._process.returncode is not None:
            return True
        return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None

    # -----------------------------------------------------------------------------------------
    # Signals

    def pass_on(self, number: signal.Signals) -> None:
        """Pass a signal on that `coordctl` got. What ends, stops or continues a job goes to all of it."""
        if self._process.returncode is not None:
            return
        if number not in _FOR_ALL:
            launcher.send(self.pid, number)
        elif self.has_own_group:
            launcher.send(-self.pid, number)
        else:  # We are in its group ourselves, and so are those with whom we stand in a pipeline.
            for process in launcher.belonging_to(self.pid, has_own_group=False):
                launcher.send(process.number, number)

    def has_terminal_foreground(self) -> bool:
        """Return whether the keyboard's signals reach the command without us."""
        if self.has_own_group:
            return False
        try:
            terminal = os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY)
        except OSError:
            return False
        try:
            return os.tcgetpgrp(terminal) == os.getpgrp()
        except OSError:
            return False
        finally:
            os.close(terminal)

    def terminate(self) -> None:
        """Ask the command, and everything that it has started, to end."""
        self._send_to_all(signal.SIGTERM)
        self._send_to_all(signal.SIGCONT)  # Who is stopped hears nothing.

    def kill(self) -> None:
        """End the command and everything that it has started."""
        self._send_to_all(signal.SIGKILL)

    def survivors(self) -> set[Process]:
        """Return what is still there of what `terminate` asked to end, the command's descendants among it."""
        running = launcher.running_processes()
        self._seen = {process for process in self._seen if _is_running(process, running)}
        self._seen |= launcher.belonging_to(self.pid, has_own_group=self.has_own_group)
        return self._seen

    def _send_to_all(self, number: signal.Signals) -> None:
        if self._process.returncode is not None:
            return
        # Looked for first: when the command ends, those that it leaves behind are nobody's children any more.
        found = self.survivors()
        launcher.send(-self.pid if self.has_own_group else self.pid, number)
        for process in found:
            is_reached = process.group == self.pid if self.has_own_group else process.number == self.pid
            if not is_reached:
                launcher.send(process.number, number)

    # -----------------------------------------------------------------------------------------
    # The watchman

    @property
    def is_overdue(self) -> bool:
        """Return whether the watchman has killed the command, because we stood still ourselves."""
        return 0.0 < self._told_until <= launcher.now()

    def keep_until(self, deadline: float) -> None:
        """Tell the watchman until when the command may live without further word from us."""
        if self._told_until < deadline < math.inf and self._tell(launcher.UNTIL + b" %.3f" % deadline):
            self._told_until = deadline

    def _tell(self, line: bytes) -> bool:
        # A watchman who was killed, or who does not read, is no reason to stop the command.
        with contextlib.suppress(BrokenPipeError, BlockingIOError):
            return os.write(self._lifeline, line + b"\n") > 0
        return False

    def end(self) -> int:
        """Make sure that the command has ended, and return its exit code: 128 + n after signal n."""
        if self._process.returncode is None and not self.has_ended:
            self.kill()
        code = self._process.wait()
        if self._lifeline >= 0:
            self._tell(launcher.DONE)
            os.close(self._lifeline)
            self._lifeline = -1
        return 128 - code if code < 0 else code


def _is_running(process: Process, running: Mapping[int, Process]) -> bool:
    present = running.get(process.number)
    return present is not None and present.started_at == process.started_at
