"""A cluster of real server processes, for tests with threads.

Rule of this file: it only waits; `AsyncCluster` does the work, on an event loop of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterator, Mapping
from types import TracebackType
from typing import Any, Self, TypeVar

from coordsvc.testing.cluster import AsyncCluster, AsyncMember
from coordsvc.testing.errors import TestServerError
from coordsvc.testing.link import Drop
from coordsvc.testing.link_controls import Link, LostMessage
from coordsvc.testing.threads import LoopThread

T = TypeVar("T")


class Member:
    """One member of a cluster: its process, and the link that clients reach it by."""

    def __init__(self, thread: LoopThread, member: AsyncMember) -> None:
        self._thread = thread
        self._member = member
        self.link = Link(thread, member.link)

    def __repr__(self) -> str:
        return repr(self._member)

    @property
    def name(self) -> str:
        return self._member.name

    @property
    def endpoint(self) -> str:
        """Return where clients reach it: its link."""
        return self._member.endpoint

    @property
    def pid(self) -> int:
        return self._member.pid

    @property
    def is_running(self) -> bool:
        """Whether there is a process; one that is paused is there."""
        return self._member.is_running

    def log_text(self) -> str:
        """Return everything that its process has printed, over all its runs."""
        return self._member.log_text()

    def pause(self) -> None:
        """Stop the process with SIGSTOP: it is there, keeps its connections, and does nothing."""
        self._member.pause()

    def resume(self) -> None:
        """Let a paused process go on."""
        self._member.resume()

    def kill(self) -> None:
        """End the process like a crash, with SIGKILL. Its data stays."""
        self._thread.run(self._member.kill())

    def stop(self) -> None:
        """End the process in good order, as for an upgrade."""
        self._thread.run(self._member.stop())

    def start(self) -> None:
        """Start it again with its data, and return when it follows a leader, or leads."""
        self._thread.run(self._member.start())

    def restart(self) -> None:
        """Stop and start again."""
        self._thread.run(self._member.restart())


class Cluster:
    """`with Cluster() as cluster`: three member processes run, one leads, and all follow it.

    See `AsyncCluster`. Its methods wait and may be called from any thread.
    """

    def __init__(self, members: int = 3, **settings: Any) -> None:
        """Prepare the cluster; `settings` are those of `coordsvc serve`, for all members."""
        self._cluster = AsyncCluster(members, **settings)
        self._thread: LoopThread | None = None
        self._members: dict[str, Member] = {}

    def __iter__(self) -> Iterator[Member]:
        return iter(self._members.values())

    def __getitem__(self, name: str) -> Member:
        return self._members[name]

    @property
    def members(self) -> Mapping[str, Member]:
        return self._members

    @property
    def endpoints(self) -> str:
        """What clients connect to: the links of all members."""
        return self._cluster.endpoints

    def __enter__(self) -> Self:
        thread = self._thread = LoopThread("coordsvc test cluster")
        try:
            thread.run(self._cluster.__aenter__())
        except BaseException:
            self._end_thread()
            raise
        self._members = {member.name: Member(thread, member) for member in self._cluster}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._run(self._cluster.__aexit__(kind, error, trace))
        finally:
            self._end_thread()

    def _end_thread(self) -> None:
        if self._thread is not None:
            self._thread.close()
            self._thread = None

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        if self._thread is None:
            work.close()
            raise TestServerError("the cluster does not run: use it in a `with` statement")
        return self._thread.run(work)

    def leader(self) -> Member:
        """Wait until a majority follows one leader, and return it."""
        return self._members[self._run(self._cluster.leader()).name]

    def followers(self) -> list[Member]:
        """Return the members that do not lead."""
        return [self._members[member.name] for member in self._run(self._cluster.followers())]

    def expire_session(self, session_id: int) -> None:
        """End a session as if it had expired, and return when its ephemeral nodes are gone.

        Raises:
            TestServerError: There is no such session.
        """
        self._run(self._cluster.expire_session(session_id))

    def drop_next_reply(self, *kinds: str) -> LostMessage:
        """Lose the answer to the next request, whichever member it goes to. See `Link`."""
        return self._lost(self._cluster.drop_next_reply, kinds)

    def drop_next_request(self, *kinds: str) -> LostMessage:
        """Lose the next request, whichever member it goes to. See `Link`."""
        return self._lost(self._cluster.drop_next_request, kinds)

    def _lost(self, drop_next: Callable[..., Drop], kinds: tuple[str, ...]) -> LostMessage:
        async def on_the_loop() -> Drop:
            return drop_next(*kinds)

        drop = self._run(on_the_loop())
        assert self._thread is not None
        return LostMessage(self._thread, drop)

    def cut(self) -> None:
        """Break the connections of all clients. They may connect again at once."""
        for member in self:
            member.link.cut()
