"""Processes of the demonstration: start, kill, and note what each says and when.

Rule of this file: waiting is for something that happened, never for time to pass.
"""

from __future__ import annotations

import asyncio
import sys
import time
from asyncio.subprocess import DEVNULL, PIPE, STDOUT, Process
from collections.abc import Callable
from dataclasses import dataclass


class DemoFailedError(Exception):
    """Something that must happen did not, or something that must not did."""


@dataclass(frozen=True, slots=True)
class Line:
    """One line that a program said. `life` counts its starts."""

    time_s: float
    program: str
    life: int
    text: str


class Stage:
    """All processes of the demonstration, and everything that they have said."""

    def __init__(self) -> None:
        self.lines: list[Line] = []
        self.deaths: dict[tuple[str, int], float] = {}
        self._processes: dict[str, Process] = {}
        self._commands: dict[str, tuple[str, ...]] = {}
        self._lives: dict[str, int] = {}
        self._readers: dict[str, asyncio.Task[None]] = {}
        self._news = asyncio.Event()

    async def start(self, name: str, *arguments: str) -> None:
        """Start a program with this interpreter; without arguments, start it again as before."""
        self._commands[name] = command = arguments or self._commands[name]
        self._lives[name] = life = self._lives.get(name, 0) + 1
        process = await asyncio.create_subprocess_exec(
            sys.executable, *command, stdin=DEVNULL, stdout=PIPE, stderr=STDOUT, start_new_session=True
        )
        self._processes[name] = process
        self._readers[name] = asyncio.create_task(self._read(name, life, process), name=f"read-{name}")

    async def kill(self, name: str) -> float:
        """Kill with SIGKILL; return when."""
        process = self._processes[name]
        if process.returncode is not None:
            raise DemoFailedError(
                f"{name} was to be killed, but had ended by itself: {self.last_words(name)}"
            )
        moment = self.deaths[name, self._lives[name]] = time.monotonic()
        process.kill()
        await process.wait()
        await self._readers[name]
        return moment

    async def stop(self, *names: str) -> None:
        """Ask politely, and wait until they have ended and all that they said is noted."""
        for name in names:
            self._processes[name].terminate()
        for name in names:
            code = await self._processes[name].wait()
            await self._readers[name]
            if code != 0:
                raise DemoFailedError(f"{name} did not end well: {self.last_words(name)}")

    async def clear(self) -> None:
        """Leave nothing behind."""
        for process in self._processes.values():
            if process.returncode is None:
                process.kill()
        await asyncio.gather(*(process.wait() for process in self._processes.values()))
        await asyncio.gather(*self._readers.values())

    async def wait_for(self, what: str, find: Callable[[list[Line]], Line | None], since: int = 0) -> Line:
        """Wait until `find` finds a line among those said after the first `since`."""
        try:
            async with asyncio.timeout(15):
                while True:
                    found = find(self.lines[since:])
                    if found is not None:
                        return found
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            raise DemoFailedError(f"waited in vain for this: {what}") from None

    def said(self, program: str) -> list[Line]:
        return [line for line in self.lines if line.program == program]

    def last_words(self, program: str) -> str:
        return " | ".join(line.text for line in self.said(program)[-5:]) or "(it said nothing)"

    async def _read(self, name: str, life: int, process: Process) -> None:
        assert process.stdout is not None
        async for raw in process.stdout:
            self.lines.append(Line(time.monotonic(), name, life, raw.decode(errors="replace").rstrip()))
            self._news.set()


def first(program: str, prefix: str) -> Callable[[list[Line]], Line | None]:
    """Return a finder of the first line that begins with `prefix`; a `*` ends a family of programs."""
    family = program.removesuffix("*")

    def find(lines: list[Line]) -> Line | None:
        for line in lines:
            matches = line.program.startswith(family) if program.endswith("*") else line.program == program
            if matches and line.text.startswith(prefix):
                return line
        return None

    return find
