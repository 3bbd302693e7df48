"""Drives ZooKeeper through kazoo's asynchronous calls. See `bench.drivers` for the usage.

`read` is sync and get, sent together, as in the C driver; `session-read` is a get alone.

Rule of this file: the next operation is sent by the callback of the one before, which kazoo runs on a thread
of its own; nothing waits.
"""

from __future__ import annotations

import random
import threading
import time
from typing import Any

from kazoo.client import KazooClient
from kazoo.exceptions import NodeExistsError

from bench.drivers.load import TRANSACTION_SETS, Load, Window, load_of
from bench.measuring import BenchError

SESSION_TIMEOUT_S = 30.0
FINISH_WITHIN_S = 30.0


class Worker:
    """Keeps one operation under way, until the window is over or an operation has failed."""

    def __init__(self, number: int, load: Load, client: KazooClient, window: Window) -> None:
        self.ended = threading.Event()
        self.error: BaseException | None = None
        self._load = load
        self._client = client
        self._window = window
        self._dice = random.Random(number)
        self._key = load.first_key(number)
        self._value = load.value
        self._sent_s = 0.0

    def send(self) -> None:
        kind = self._load.drawn(self._dice)
        path = self._load.path(self._key)
        self._sent_s = time.perf_counter()
        if kind == "write":
            answer = self._client.set_async(path, self._value)
        elif kind == "transaction":
            transaction = self._client.transaction()
            for number in range(self._key, self._key + TRANSACTION_SETS):
                transaction.set_data(self._load.path(number), self._value)
            answer = transaction.commit_async()
        else:
            if kind == "read":
                self._client.sync_async(path)
            answer = self._client.get_async(path)
        self._key += TRANSACTION_SETS if kind == "transaction" else 1
        answer.rawlink(self._take)

    def _take(self, answer: Any) -> None:
        self._window.note(self._sent_s)
        self.error = answer.exception or _error_of_a_transaction(answer.value)
        if self.error is not None or self._window.is_over():
            self.ended.set()
        else:
            self.send()


def _error_of_a_transaction(results: Any) -> Exception | None:
    """kazoo returns the errors of a refused transaction as its results."""
    if not isinstance(results, list):
        return None
    return next((result for result in results if isinstance(result, Exception)), None)


def run(load: Load) -> str:
    clients = [
        KazooClient(load.endpoint(connection), timeout=SESSION_TIMEOUT_S)
        for connection in range(load.connections)
    ]
    for client in clients:
        client.start(timeout=30)
    clients[0].ensure_path("/bench")
    for key in range(load.keys):
        try:
            clients[0].create(load.path(key), load.value)
        except NodeExistsError:
            clients[0].set(load.path(key), load.value)
    for client in clients:  # a member that lags must know the keys before it is asked
        client.sync("/bench")

    window = Window(load.seconds)
    workers = [
        Worker(number, load, clients[number % load.connections], window)
        for number in range(load.connections * load.in_flight)
    ]
    for worker in workers:
        worker.send()
    errors = 0
    for worker in workers:
        if not worker.ended.wait(load.seconds + FINISH_WITHIN_S):
            raise BenchError("operations without an answer at the end")
        if worker.error is not None:
            errors += 1
    line = window.line(errors)
    for client in clients:
        client.stop()
        client.close()
    return line


if __name__ == "__main__":
    print(run(load_of()))
