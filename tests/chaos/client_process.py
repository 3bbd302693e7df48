"""One process of clients: `client_process.py NAME ENDPOINTS HISTORIES FENCES SEED TIMEOUT_S PACE_S ROLE...`.

Says `ready` when every client is connected. SIGTERM ends it in good order: all requests end, what was
recorded is complete, and it says `done` with the number of operations.

Rule of this file: life and death of the clients; what they do is in `roles.py`.
"""

from __future__ import annotations

import asyncio
import random
import signal
import sys
from pathlib import Path
from typing import TextIO

sys.path.insert(0, str(Path(__file__).parents[2]))

from coordclient.errors import ConnectionLostError
from tests.chaos.fenced_file import FencedFile
from tests.chaos.recorder import Recorder, called_file
from tests.chaos.recording_client import RecordingClient
from tests.chaos.roles import ROLES, Work

REQUEST_S = 8.0
CONNECT_S = 60.0


class ClientProcess:
    def __init__(self, arguments: list[str], history: TextIO, called: TextIO) -> None:
        self.name, self.endpoints, histories, fences, seed, timeout_s, pace_s, *self.roles = arguments
        self.seed = int(seed)
        self.timeout_s = float(timeout_s)
        self.pace_s = float(pace_s)
        self.histories = Path(histories)
        self.fences = Path(fences)
        self.stop = asyncio.Event()
        self.causal = [0]
        self.clients: list[RecordingClient] = []
        self._history = history
        self._called = called

    def fenced(self, name: str) -> FencedFile:
        return FencedFile(self.fences, self.histories, name)

    async def new_client(self) -> RecordingClient:
        """Connect one more client, under a name of its own; the test is over when nobody lets it in."""
        while True:
            recorder = Recorder(f"{self.name}.{len(self.clients) + 1}", self._history, self._called)
            client = RecordingClient(
                recorder, self.endpoints, session_timeout=self.timeout_s, request_timeout=REQUEST_S
            )
            self.clients.append(client)
            try:
                return await client.connect(timeout=CONNECT_S)
            except ConnectionLostError:
                if self.stop.is_set():
                    raise

    async def run(self) -> None:
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, self.stop.set)
        works = [
            Work(
                await self.new_client(),
                random.Random(f"{self.seed} {self.name} {number} {role}"),
                self.stop,
                self.fenced,
                self.pace_s,
                self.new_client,
                self.causal,
            )
            for number, role in enumerate(self.roles)
        ]
        print("ready", flush=True)
        async with asyncio.TaskGroup() as tasks:
            for work, role in zip(works, self.roles, strict=True):
                tasks.create_task(ROLES[role](work), name=role)
        for client in self.clients:
            await client.close()
        for client in self.clients:
            client.recorder.finish()
        count = sum(client.recorder.operation_count for client in self.clients)
        opened = sum(len(client.recorder.sessions) for client in self.clients)
        suspended = sum(
            len(session.suspended_ns) for client in self.clients for session in client.recorder.sessions
        )
        print(f"done {count} {opened} {suspended}", flush=True)


if __name__ == "__main__":
    history_file = Path(sys.argv[3]) / f"{sys.argv[1]}.jsonl"
    with (
        history_file.open("w", buffering=1, encoding="utf-8") as history,
        called_file(history_file).open("w", buffering=1, encoding="utf-8") as called,
    ):
        asyncio.run(ClientProcess(sys.argv[1:], history, called).run())
