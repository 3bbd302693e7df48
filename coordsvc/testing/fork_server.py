"""A process that has everything imported, and forks for each member that a test starts.

A member that starts by itself spends half a second of computing on its imports, before it opens its data.
The tests of a cluster start hundreds.

`main`, with the arguments `SOCKET [MODULE...]`, imports the modules and then waits at the socket. A request
is one message with four descriptors: a file with the description as JSON (an environment may be longer than a
message), the new process's standard input, its output, and a socket on which it is told what becomes of the
process: first its pid, with a descriptor for it, later its exit code.

Rule of this file: no thread, no event loop, no gRPC call is made before a fork; a child carries nothing over
but the imports. When the other end of the socket is closed, the process ends.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import runpy
import selectors
import socket
import sys
from dataclasses import dataclass
from typing import Final

REQUEST: Final = b"start"


@dataclass(frozen=True, slots=True)
class Launch:
    """What to run, and in which surroundings."""

    module: str
    arguments: list[str]
    environment: dict[str, str]
    directory: str


def main() -> None:
    """Serve until the other end of the socket is closed; in a child, run what was asked for."""
    control = socket.socket(fileno=int(sys.argv[1]))
    for module in sys.argv[2:]:
        importlib.import_module(module)
    gc.collect()
    gc.freeze()  # The collector of a child need not look at what all share.
    launch = _Nursery(control).serve()
    if launch is not None:
        _run(launch)


def _run(launch: Launch) -> None:
    os.environ.clear()
    os.environ.update(launch.environment)
    os.chdir(launch.directory)
    sys.argv = [launch.module, *launch.arguments]
    runpy.run_module(launch.module, run_name="__main__", alter_sys=True)


class _Nursery:
    """The children, each with the socket of the one who asked for it."""

    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._selector = selectors.DefaultSelector()
        self._selector.register(control, selectors.EVENT_READ)
        self._children: dict[int, tuple[int, socket.socket]] = {}  # by pid's descriptor

    def serve(self) -> Launch | None:
        """Fork for every request: return it in the child, and None in the parent in the end."""
        while True:
            for key, _ in self._selector.select():
                if key.fd in self._children:
                    self._tell_the_end(key.fd)
                    continue
                message, descriptors, _, _ = socket.recv_fds(self._control, len(REQUEST), 4)
                if not message:
                    return None
                description, *others = descriptors
                with open(description, "rb") as file:
                    launch = Launch(**json.load(file))
                if self._fork(*others):
                    return launch

    def _fork(self, standard_input: int, output: int, reply: int) -> bool:
        """Return True in the child, which has let go of everything that belongs to the parent."""
        pid = os.fork()
        if pid == 0:
            os.setpgid(0, 0)
            os.dup2(standard_input, 0)
            os.dup2(output, 1)
            os.dup2(output, 2)
            for descriptor in (standard_input, output, reply):
                os.close(descriptor)
            self._let_go()
            return True
        os.setpgid(pid, pid)  # Both do it, so that it is done before either goes on.
        os.close(standard_input)
        os.close(output)
        teller = socket.socket(fileno=reply)
        descriptor = os.pidfd_open(pid)
        self._children[descriptor] = (pid, teller)
        self._selector.register(descriptor, selectors.EVENT_READ)
        _tell(teller, pid, descriptor)
        return False

    def _let_go(self) -> None:
        self._selector.close()
        self._control.close()
        for descriptor, (_, teller) in self._children.items():
            os.close(descriptor)
            teller.close()
        self._children.clear()

    def _tell_the_end(self, descriptor: int) -> None:
        pid, teller = self._children.pop(descriptor)
        self._selector.unregister(descriptor)
        os.close(descriptor)
        _, status = os.waitpid(pid, 0)
        _tell(teller, os.waitstatus_to_exitcode(status))
        teller.close()


def _tell(teller: socket.socket, number: int, *descriptors: int) -> None:
    try:
        socket.send_fds(teller, [str(number).encode("ascii")], descriptors)
    except OSError:  # Nobody wants to know any more: the one who asked has gone.
        return
