"""Places: a contender of ours, while it waits, and then as what is held.

Rule of this file: what its node says is changed only by version, for others write into it too, when they
ask its holder to let go.
"""

from __future__ import annotations

from dataclasses import replace

from coordclient.errors import (
    BadVersionError,
    ClientClosedError,
    CompareFailedError,
    NoNodeError,
    SessionExpiredError,
    TransactionError,
)
from coordclient.operations import Operations
from coordclient.recipes.contenders import (
    Details,
    last_part,
    name_as,
    position_of,
    read_details,
    token_of,
)
from coordclient.recipes.deadlines import FOREVER
from coordclient.recipes.grants import Grant
from coordclient.recipes.signals import Signal
from coordclient.types import Created, Node, Stat

_DELETED = "its node was deleted"


class Place(Grant):
    """A contender of ours: while it waits, and then as what is held.

    Attributes:
        details: What its node says.
        version: Of the node, as far as we have read it.
        revoke_requested: Whether somebody has asked it to let go.
    """

    def __init__(self, client: Operations, created: Created, details: Details) -> None:
        stat = created.stat
        position = position_of(last_part(created.path))
        assert position is not None, "we made this name"
        token = details.token or token_of(position.kind, stat.czxid)
        super().__init__(client, created.path, stat.czxid, stat.ephemeral_owner, token=token)
        self.position = replace(position, weight=details.weight)
        self.details = details
        self.version = stat.version
        self.revoke_requested = Signal()

    async def _seen(self, stat: Stat) -> None:
        if stat.version != self.version:
            await self.read_again()

    async def read_again(self) -> None:
        """Somebody has set our node: see whether we are asked to let go."""
        try:
            node = await self._client.get(self.path, timeout=FOREVER)
        except NoNodeError:
            return  # The watch over it has said so.
        if node.stat.czxid != self._czxid:
            return
        read = read_details(node.value)
        self.version = node.stat.version
        self.details = replace(self.details, revocation=read.revocation)
        if read.revocation is not None:
            self.revoke_requested.set(read.revocation)

    async def mark(self, root: Node | None = None) -> int | None:
        """Write down that we are granted, if `root` is still what it was; return the transaction that did.

        None: the root has changed, or our node has gone.
        """
        marked = replace(self.details, is_marked=True)
        while True:
            transaction = self._client.transaction(timeout=FOREVER)
            if root is not None:
                transaction.check(root.path, version=root.stat.version, czxid=root.stat.czxid)
            transaction.set(self.path, marked.encoded(), version=self.version)
            last = len(transaction) - 1
            try:
                stat = (await transaction.commit())[-1]
            except TransactionError as error:
                if not isinstance(error.cause, BadVersionError) or error.failed_index != last:
                    return None
                await self.read_again()
                marked = replace(self.details, is_marked=True)
                continue
            assert isinstance(stat, Stat)
            self.details, self.version = marked, stat.version
            return stat.mzxid

    async def become(
        self, kind: str, *, linger: float, token: int | None, if_unchanged: Node | None = None
    ) -> Place | None:
        """Make a contender of another kind of this one, at its position, in one transaction.

        Args:
            token: Of the successor. It must lie between those who held before and those who wait. None: the
                transaction itself, if nobody waits.
            if_unchanged: The root: nobody must have come or gone since. If somebody has, None is returned,
                and this place is held as before.

        Raises:
            LockLostError: This place was lost before.
        """
        if self.lost:
            raise self.error()
        root = self.path.rpartition("/")[0]
        path = f"{root}/{name_as(kind, self.position.name)}"
        details = replace(self.details, is_marked=linger > 0, revocation=None, token=token)
        transaction = self._client.transaction(timeout=FOREVER)
        if if_unchanged is not None:
            transaction.compare(root, "pzxid", "==", if_unchanged.stat.pzxid)
        transaction.check(self.path, czxid=self._czxid)
        transaction.delete(self.path)
        transaction.create(path, details.encoded(), ephemeral=True, linger=linger)
        self._stop_watching()  # It is we who delete the node now.
        try:
            created = (await transaction.commit())[-1]
            assert isinstance(created, Created)
            successor = Place(self._client, created, details)
            if await successor.watch_over():
                self._is_released = True
                return successor
        except CompareFailedError:
            await self._stay()
            return None
        except SessionExpiredError:
            self.lose("its session is gone")
        except (TransactionError, ClientClosedError) as error:
            self.lose("the client was closed" if isinstance(error, ClientClosedError) else _DELETED)
        self.lose(_DELETED)  # Only the first reason counts.
        raise self.error()

    async def _stay(self) -> None:
        """Watch over the node again, which is still the one that we hold."""
        try:
            await self.watch_over()
        except (SessionExpiredError, ClientClosedError):
            self.lose("its session is gone")
