"""`python -m examples.demo`: runs the demonstration, prints its timeline, and exits 0 only if all held.

Rule of this file: the story, told once, in order. What must hold is in `checks`.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from pathlib import Path

from coordclient import AsyncClient
from coordclient.errors import CoordError
from examples.demo.checks import check_discovery, check_leaders, check_ledger
from examples.demo.cluster import Cluster
from examples.demo.processes import DemoFailedError, Line, Stage, first

LIMIT_S = 55
PORTS = (8081, 8082)
EXAMPLES = Path(__file__).parents[1]


class Demo:
    """One run."""

    def __init__(self, directory: Path) -> None:
        self._started_s = time.monotonic()
        self._stage = Stage()
        self._cluster = Cluster(self._stage, directory)
        self._ledger = directory / "ledger.txt"

    async def run(self) -> None:
        try:
            await self._start_members()
            async with AsyncClient(self._cluster.endpoints, session_timeout=10.0, name="demo") as client:
                await self._start_programs()
                await self._kill_leading_program()
                await self._kill_lock_holder()
                await self._kill_leading_server(client)
                await self._kill_service_instance()
                await self._stop_programs_and_check(client)
        finally:
            await self._stage.clear()

    async def _start_members(self) -> None:
        await self._cluster.start()
        self._say(f"three members start: {self._cluster.endpoints}")
        name, term = await self._cluster.leader()
        self._say(f"{name} leads them (term {term})")

    async def _start_programs(self) -> None:
        endpoints = self._cluster.endpoints
        for name in ("candidate-a", "candidate-b"):
            await self._stage.start(name, str(EXAMPLES / "leader_candidate.py"), name, endpoints)
        for name in ("writer-a", "writer-b"):
            await self._stage.start(
                name, str(EXAMPLES / "ledger_writer.py"), name, str(self._ledger), endpoints
            )
        for port in PORTS:
            await self._stage.start(
                f"instance-{port}", str(EXAMPLES / "service_instance.py"), str(port), endpoints
            )
        await self._stage.start("watcher", str(EXAMPLES / "service_watcher.py"), endpoints)
        self._say("seven programs start: two candidates, two writers, two service instances and a watcher")
        elected = await self._wait_for("candidate-*", "elected ")
        self._say(f"{elected.program} is elected, {elected.text.partition(' ')[2]}")
        for name in ("candidate-a", "candidate-b"):
            await self._wait_for(name, "waiting")
        for name in ("writer-a", "writer-b"):
            await self._wait_for(name, "wrote ")
        self._say("both writers append to one file, one at a time under a lock")
        await self._wait_for("watcher", self._instances(*PORTS))
        self._say(f"the watcher sees both instances: {', '.join(map(str, PORTS))}")

    async def _kill_leading_program(self) -> None:
        name = self._last("candidate-", "elected ").program
        seen = len(self._stage.lines)
        killed_s = await self._stage.kill(name)
        self._say(f"KILL -9 {name}, which leads")
        elected = await self._wait_for("candidate-*", "elected ", seen)
        self._say_handed_over(
            killed_s, elected, f"{elected.program} is elected, {elected.text.partition(' ')[2]}"
        )
        await self._stage.start(name)
        await self._wait_for(name, "waiting", seen)
        self._say(f"{name} is started again, and waits its turn")

    async def _kill_lock_holder(self) -> None:
        name = (await self._wait_for("writer-*", "holding ", len(self._stage.lines))).program
        killed_s = await self._stage.kill(name)
        self._say(f"KILL -9 {name}, which holds the lock")
        other = "writer-b" if name == "writer-a" else "writer-a"
        seen = len(self._stage.lines)
        wrote = await self._wait_for(other, "wrote ", seen)
        self._say_handed_over(killed_s, wrote, f"{other} goes on, {wrote.text.partition(' ')[2]}")
        await self._stage.start(name)
        await self._wait_for(name, "wrote ", seen)
        self._say(f"{name} is started again, and writes")

    async def _kill_leading_server(self, client: AsyncClient) -> None:
        name, _ = await self._cluster.leader()
        killed_s = await self._stage.kill(name)
        self._say(f"KILL -9 {name}, the leading server")
        await client.ensure_path("/demo/probe", timeout=15)
        wrote_s = time.monotonic()
        leader, term = await self._cluster.leader()
        self._say(
            f"{leader} leads (term {term}); the first write is acknowledged after {wrote_s - killed_s:.1f} s"
        )
        seen = len(self._stage.lines)
        for writer in ("writer-a", "writer-b"):
            await self._wait_for(writer, "wrote ", seen)
        self._say("the programs go on; none of them was told")
        await self._stage.start(name)
        await self._cluster.wait_until_caught_up(name)
        self._say(f"{name} is started again, and has caught up")

    async def _kill_service_instance(self) -> None:
        gone, other = PORTS
        seen = len(self._stage.lines)
        killed_s = await self._stage.kill(f"instance-{gone}")
        self._say(f"KILL -9 instance-{gone}")
        line = await self._wait_for("watcher", self._instances(other), seen)
        self._say_handed_over(killed_s, line, f"the watcher sees {other} alone")
        seen = len(self._stage.lines)
        await self._stage.start(f"instance-{gone}")
        await self._wait_for("watcher", self._instances(*PORTS), seen)
        self._say(f"instance-{gone} is started again, and the watcher sees both")

    async def _stop_programs_and_check(self, client: AsyncClient) -> None:
        led = list(
            self._stage.lines
        )  # as they stop, one resigns and the other is elected: no part of the story
        await self._stage.stop("writer-a", "writer-b", "candidate-a", "candidate-b")
        head = int((await client.get("/demo/ledger/head")).value)
        work = [event async for event in client.history("/demo/work")]
        discovered = await client.services.discover("api")
        lines = self._stage.lines
        found = {instance.port for instance in discovered}
        if found != set(PORTS):
            raise DemoFailedError(f"the registry has {sorted(found)}, not {sorted(PORTS)}")
        self._say("checks:")
        for result in (
            check_leaders(work, led, self._stage.deaths),
            check_ledger(self._ledger, head),
            check_discovery(lines, PORTS),
        ):
            print(f"           ok  {result}", flush=True)
        await self._stage.stop("watcher", *(f"instance-{port}" for port in PORTS))

    async def _wait_for(self, program: str, prefix: str, since: int = 0) -> Line:
        return await self._stage.wait_for(f"{program}: {prefix.strip()}", first(program, prefix), since)

    def _last(self, family: str, prefix: str) -> Line:
        """The newest line of a kind of program; the stage has seen one already."""
        said = [
            line
            for line in self._stage.lines
            if line.program.startswith(family) and line.text.startswith(prefix)
        ]
        return said[-1]

    def _instances(self, *ports: int) -> str:
        return f"instances {','.join(map(str, sorted(ports)))}"

    def _say_handed_over(self, killed_s: float, line: Line, what: str) -> None:
        self._say(f"{what}; handed over in {line.time_s - killed_s:.1f} s")

    def _say(self, what: str) -> None:
        print(f"{time.monotonic() - self._started_s:6.1f} s   {what}", flush=True)


async def main() -> int:
    with tempfile.TemporaryDirectory(prefix="coordsvc-demo-") as directory:
        demo = Demo(Path(directory))
        try:
            async with asyncio.timeout(LIMIT_S):
                await demo.run()
        except (DemoFailedError, CoordError) as error:
            print(f"FAILED: {error}", file=sys.stderr)
            return 1
        except TimeoutError:
            print(f"FAILED: not done within {LIMIT_S} s", file=sys.stderr)
            return 1
    print("all held")
    return 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
