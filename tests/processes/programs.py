"""Programs of applications as child processes: what they print, and the signals that end or pause them.

Rule of this file: a program tells the test where it is by printing a line; nothing is guessed from time.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path
from types import TracebackType
from typing import Self

ROOT = Path(__file__).parents[2]
LAUNCHER = Path(__file__).with_name("launch.py")


class Program:
    """`async with Program(script, arguments...) as program`: it runs until the end of the block."""

    def __init__(self, script: Path, *arguments: str) -> None:
        self.name = " ".join((script.stem, *arguments))
        self._command = (sys.executable, str(LAUNCHER), str(script), *arguments)
        self._process: asyncio.subprocess.Process | None = None
        self._lines: list[str] = []
        self._printed = asyncio.Condition()
        self._reading: asyncio.Task[None] | None = None
        self._ended = False

    @property
    def pid(self) -> int:
        assert self._process is not None, f"{self.name} was started"
        return self._process.pid

    @property
    def lines(self) -> list[str]:
        """Everything that it has printed so far."""
        return list(self._lines)

    async def __aenter__(self) -> Self:
        self._process = await asyncio.create_subprocess_exec(
            *self._command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            process_group=0,
            cwd=ROOT,
        )
        self._reading = asyncio.get_running_loop().create_task(self._read(), name=f"output of {self.name}")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process is not None
        assert self._reading is not None
        if self._process.returncode is None:
            self._process.kill()
        await self._reading
        await self._process.wait()
        if error is not None:
            print(f"\n--- output of {self.name}", *self._lines[-40:], sep="\n")

    async def _read(self) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            async with self._printed:
                self._lines.append(line.decode(errors="replace").rstrip())
                self._printed.notify_all()
        async with self._printed:
            self._ended = True
            self._printed.notify_all()

    async def line(self, start: str, *, after: int = 0, within_s: float = 20.0) -> str:
        """Wait for a line that begins with `start`, skipping the first `after` lines; return it."""

        def find() -> str | None:
            return next((line for line in self._lines[after:] if line.startswith(start)), None)

        try:
            async with asyncio.timeout(within_s), self._printed:
                await self._printed.wait_for(lambda: find() is not None or self._ended)
        except TimeoutError:
            raise AssertionError(self._never_said(start)) from None
        found = find()
        assert found is not None, self._never_said(start)
        return found

    def _never_said(self, start: str) -> str:
        return f"{self.name} said nothing that begins with {start!r}; its last lines: {self._lines[-20:]}"

    async def kill(self) -> None:
        """End it like a crash."""
        self.signal(signal.SIGKILL)
        assert self._process is not None
        await self._process.wait()

    def terminate(self) -> None:
        """Ask it to end in good order."""
        self.signal(signal.SIGTERM)

    def pause(self) -> None:
        self.signal(signal.SIGSTOP)

    def resume(self) -> None:
        self.signal(signal.SIGCONT)

    def signal(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)
