"""Signals to `coordctl` as items that its main thread takes one by one.

Rule of this file: nothing happens inside a signal handler; what was ignored from the start (nohup) stays so.
"""

from __future__ import annotations

import contextlib
import select
import signal
import socket
from types import FrameType, TracebackType
from typing import Final, Self

from coordclient.cli.supervision import ENDING

_TAKEN: Final = (
    *sorted(ENDING),
    signal.SIGUSR1,
    signal.SIGUSR2,
    signal.SIGCONT,
    signal.SIGCHLD,
)
_WAKE: Final = b"\0"


class SignalInbox:
    """`with SignalInbox() as inbox: inbox.wait(1.0)`. For the main thread only."""

    def __init__(self, *, takes_stops: bool) -> None:
        """Prepare an inbox.

        Args:
            takes_stops: SIGTSTP is an item too; otherwise it stops this process, as on any terminal.
        """
        self._numbers = (*_TAKEN, signal.SIGTSTP) if takes_stops else _TAKEN
        self._former: dict[signal.Signals, object] = {}
        self._former_wakeup = -1

    def __enter__(self) -> Self:
        self._reader, self._writer = socket.socketpair()
        self._reader.setblocking(False)
        self._writer.setblocking(False)
        self._former_wakeup = signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
        for number in self._numbers:
            # Where SIGCHLD is ignored nobody can learn how a command has ended.
            if number is signal.SIGCHLD or signal.getsignal(number) is not signal.SIG_IGN:
                self._former[number] = signal.signal(number, _noted)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._former.items():
            signal.signal(number, handler)  # type: ignore[arg-type]  # what signal.signal() returned
        signal.set_wakeup_fd(self._former_wakeup)
        self._reader.close()
        self._writer.close()

    def wake(self) -> None:
        """End a `wait`. May be called from any thread, and when the inbox is closed."""
        with contextlib.suppress(OSError):
            self._writer.send(_WAKE)

    def wait(self, timeout_s: float) -> list[signal.Signals]:
        """Return the signals that have come; after a `wake`, or when the time is over, none."""
        select.select([self._reader], [], [], max(0.0, timeout_s))
        try:
            numbers = self._reader.recv(4096)
        except BlockingIOError:
            return []
        return [signal.Signals(number) for number in numbers if number]


def _noted(_number: int, _frame: FrameType | None) -> None:
    """The number has been written to the socket already, by the interpreter itself."""
