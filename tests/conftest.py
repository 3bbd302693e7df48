"""What all tests rely on: signals mean what they mean in a terminal.

Rule of this file: nothing that a single package could have for itself.
"""

from __future__ import annotations

import signal


def pytest_configure() -> None:
    """Undo what `nohup` and shells without job control hand down: ignored signals, which children inherit.

    A program that finds a signal ignored keeps it so, as it should; the tests of signals want to see them.
    """
    for number, usual in (
        (signal.SIGHUP, signal.SIG_DFL),
        (signal.SIGINT, signal.default_int_handler),
        (signal.SIGQUIT, signal.SIG_DFL),
    ):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, usual)
