"""Random good histories: many clients on a small tree, everything that a client can ask for.

Rule of this file: whatever it makes is legal. All values are different, so that nothing is taken for
something else.
"""

from __future__ import annotations

from random import Random

from coordsvc.statemachine.commands import (
    Check,
    Compare,
    Create,
    Delete,
    Exists,
    Get,
    Guard,
    ListChildren,
    Set,
    Transaction,
    TransactionOp,
)
from tests.checkers.history import LINEARIZABLE, SESSION, STALE, History, Operation, Request, Sync
from tests.checkers.honest_service import HonestService

PATHS = ["/a", "/b", "/a/a", "/a/b", "/b/a", "/b/b", "/a/a/a", "/c"]
ODD_PATHS = ["/", "/a/", "//", "/a//b", "/x\x01"]
CLIENTS = ["ann", "bob", "cid", "dan"]


class RandomHistory:
    """Draws requests, and has them carried out by an honest service."""

    def __init__(
        self, seed: int, paths: list[str] = PATHS, *, transactions: bool = True, lost: float = 0.1
    ) -> None:
        self.dice = Random(seed)
        self.service = HonestService()
        self._paths = paths
        self._transactions = transactions
        self._lost = lost  # how many writes are not answered, of all
        self._values = 0

    def value(self) -> bytes:
        self._values += 1
        return b"value %d" % self._values

    def path(self) -> str:
        return self.dice.choice(ODD_PATHS if self.dice.random() < 0.02 else self._paths)

    def change(self) -> Create | Set | Delete:
        dice, path, chance = self.dice, self.path(), self.dice.random()
        version = dice.choice([-1, -1, 0, 1, 2])
        if chance < 0.4:
            return Set(path, self.value(), version)
        if chance < 0.55:
            return Delete(path, version, recursive=dice.random() < 0.3)
        mode = dice.choice([0, 0, 0, 1, 1, 2, 3, 4, 5, 6])
        ttl_ms = 1_000_000 if mode in (5, 6) or (mode in (1, 3) and self._values % 3 == 0) else 0
        return Create(path, self.value(), mode, ttl_ms, parents=dice.random() < 0.5)

    def look(self) -> Get | Exists | ListChildren:
        path = self.path()
        looks: list[Get | Exists | ListChildren] = [
            Get(path),
            Exists(path),
            ListChildren(path, "", self.dice.randrange(3), with_nodes=True),
        ]
        return self.dice.choice(looks)

    def transaction(self) -> Transaction:
        dice = self.dice
        branches: list[list[TransactionOp]] = [[], []]
        for branch in branches:
            for _ in range(dice.choice([0, 1, 2, 3])):
                check = Check(self.path(), dice.choice([-1, 0]), absent=dice.random() < 0.5)
                branch.append(dice.choice([self.change(), self.change(), self.look(), check]))
        compare = Compare(
            self.path(), dice.randrange(9), dice.randrange(4), dice.randrange(-1, 4), b"value 3"
        )
        return Transaction([compare] if dice.random() < 0.6 else [], *branches)

    def request(self) -> Request:
        chance = self.dice.random()
        if chance < 0.35:
            return self.look()
        if chance < 0.4:
            return Sync()
        return self.transaction() if chance < 0.5 and self._transactions else self.change()

    def step(self) -> None:
        dice, service = self.dice, self.service
        client, chance = dice.choice(CLIENTS), dice.random()
        if service.session_of(client) == 0 and chance < 0.5:
            service.open(client)
        elif service.session_of(client) and chance < 0.015:
            dice.choice([service.close, service.expire])(client)
        elif chance < self._lost:
            service.do(client, self.change(), answered=False, carried_out=dice.random() < 0.5)
        elif chance > 0.98:
            service.reap(*self._paths)
        else:
            consistency = dice.choice([LINEARIZABLE, LINEARIZABLE, SESSION, STALE])
            service.do(client, self.request(), consistency=consistency)
            change = self.change()
            service.do(client, change, Guard(change.path, dice.randrange(service.zxid + 1)))

    def make(self, steps: int) -> History:
        for _ in range(steps):
            self.step()
        self._overlap()
        return self.service.history

    def _overlap(self) -> None:
        """Let operations begin earlier and end later than they had to: also legal, and less orderly.

        None grows past its client's neighbours: the next request is called when this one is answered.
        """
        latest: dict[str, Operation] = {}
        for operation in self.service.history.operations:
            before = latest.get(operation.client)
            earliest_ns = 0
            if before is not None:
                earliest_ns = before.completed_ns or before.invoked_ns
            if operation.completed_ns is not None:
                room_ns = operation.invoked_ns - earliest_ns
                operation.invoked_ns -= self.dice.randrange(room_ns + 1) // 2
            latest[operation.client] = operation
