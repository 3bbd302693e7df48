"""The links between members: connections that deliver in order until they break, and what can befall them.

Each directed pair of members has a link of its own, dialled by the sender, as in `coordsvc.transport`. While
a path is cut, what was sent waits in the network (it is a stream: nothing overtakes, nothing vanishes) until
the path works again or the sender loses patience and closes the link. As an option of the plan, frames of
consensus are also lost, repeated and reordered one by one, which no stream does and Raft survives.

Rule of this file: it carries frames, and tells each end what a host's network stack would tell it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Protocol

from coordproto.v1 import peer_pb2
from tests.simulation.plan import NetworkPlan
from tests.simulation.world import MILLISECOND, World

Frames = list[peer_pb2.PeerFrame]

_NOBODY = -1  # no process has this number
_LOSS_IN_CALM = 0.03
_BACKOFF_NS_MIN = 50 * MILLISECOND
_BACKOFF_NS_MAX = 2_000 * MILLISECOND


class PeerHost(Protocol):
    """A member as its network sees it."""

    name: str

    def is_running(self) -> bool: ...

    @property
    def is_paused(self) -> bool: ...

    def has_peer(self, name: str) -> bool:
        """Whether this member keeps a link to that one."""

    def process(self) -> int: ...

    def feed(self, process: int, handler: Callable[[], None]) -> None: ...

    def link_up(self, peer: str, client_address: str) -> None: ...

    def link_down(self, peer: str) -> None: ...

    def peer_gone(self, peer: str) -> None: ...

    def frames(self, peer: str, frames: Frames) -> None: ...

    def refused(self, peer: str, cause: int, configuration_index: int) -> None:
        """The peer does not admit this member (`peer_pb2.RefusalCause`)."""

    def greeted(self, peer: str, greeting: Greeting) -> tuple[int, int] | None:
        """A peer greets this member. Returns the cause and the index of a refusal, or None."""

    def greeting(self) -> Greeting:
        """What this member says of itself when it dials."""


class Greeting:
    """The Hello of one member."""

    __slots__ = ("client_address", "configuration_index", "member_id", "peer_address")

    def __init__(
        self, member_id: int, peer_address: str, client_address: str, configuration_index: int
    ) -> None:
        self.configuration_index = configuration_index
        self.member_id = member_id
        self.peer_address = peer_address
        self.client_address = client_address


class PeerLink:
    """Frames from one member's process to another member."""

    def __init__(self, network: PeerNetwork, source: PeerHost, target: PeerHost) -> None:
        self.is_up = False
        self._network = network
        self._world = network.world
        self._source = source
        self._target = target
        self._source_process = -1
        self._target_process = -1
        self._pipe: deque[Frames] = deque()
        self._held = False  # the head of the pipe has arrived at a cut
        self._due_ns = 0
        self._life = 0  # counts connections: what belongs to an older one is void
        self._sent = 0
        self._failures = 0
        self._is_dialling = False
        self._is_watched = False
        self.name = f"{source.name}>{target.name}"

    # --- the life of a connection ---

    def dial(self) -> None:
        """Begin to connect, unless that is under way or done."""
        source = self._source
        if self._is_dialling or self.is_up or not source.is_running():
            return
        if not source.has_peer(self._target.name):
            return
        self._is_dialling = True
        self._source_process = self._source.process()
        self._life += 1
        life = self._life
        self._world.at(2 * self._network.latency_ns(self), lambda: self._dialled(life))

    def dial_now(self) -> None:
        """The peer has just been heard from."""
        self._failures = 0
        self.dial()

    def _dialled(self, life: int) -> None:
        if life != self._life or not self._source.is_running():
            return
        network, source, target = self._network, self._source, self._target
        if network.is_cut(self) or not target.is_running() or target.is_paused or source.is_paused:
            self._retry()
            return
        greeting, theirs = source.greeting(), target.greeting()
        refusal = target.greeted(source.name, greeting)
        if refusal is not None:
            cause, configuration_index = refusal
            source.feed(self._source_process, lambda: source.refused(target.name, cause, configuration_index))
            self._retry()
            return
        if not target.is_running() or source.greeted(target.name, theirs) is not None:
            self._retry()
            return
        if life != self._life or not source.is_running():
            return
        self._is_dialling = False
        self.is_up = True
        self._target_process = target.process()
        self._world.trace(source.name, "link-up", target.name)
        source.feed(self._source_process, lambda: source.link_up(target.name, theirs.client_address))
        if target.has_peer(source.name):
            network.link(target.name, source.name).dial_now()

    def _retry(self) -> None:
        self._failures += 1
        delay_ns = min(_BACKOFF_NS_MIN << min(self._failures, 8), _BACKOFF_NS_MAX)
        jitter = self._world.draw_below(delay_ns // 2, "redial", self.name, self._life)
        life = self._life
        self._world.at(delay_ns - jitter, lambda: self._again(life))

    def _again(self, life: int) -> None:
        if life == self._life and self._is_dialling:
            self._is_dialling = False
            self.dial()

    def close(self) -> None:
        """The sender's process is gone, or has no use for the link any more."""
        self.is_up = False
        self._is_dialling = False
        self._life += 1
        self._pipe.clear()
        self._held = False

    def _break(self, *, closed_by_host: bool) -> None:
        """The sender notices that the connection is gone; what was on its way is lost."""
        if not self.is_up:
            return
        source, target, process = self._source, self._target, self._source_process
        self.close()
        self._world.trace(source.name, "link-down", target.name, closed_by_host)
        source.feed(process, lambda: source.link_down(target.name))
        if closed_by_host:
            self._network.closed_by_host(source, process, target.name)
        self._failures = 0
        self._is_dialling = True
        self._retry()

    def target_ended(self, *, is_told: bool) -> None:
        """The peer's process is gone. Its host says so, unless it is gone too."""
        if not self.is_up:
            return
        self._pipe.clear()
        self._held = False
        self._target_process = _NOBODY  # whatever arrives there from now on is answered by a reset
        life = self._life
        if is_told and not self._network.is_cut(self):
            delay_ns = self._network.latency_ns(self)
            self._world.at(delay_ns, lambda: self._told(life))
        else:
            self._watch()

    def _told(self, life: int) -> None:
        if life == self._life:
            self._break(closed_by_host=True)

    def source_ended(self, *, is_told: bool) -> None:
        """The sender's process is gone. Its host says so, unless it is gone too."""
        was_up, process = self.is_up, self._target_process
        self.close()
        if not (was_up and is_told) or self._network.is_cut(self):
            return
        network, source, target = self._network, self._source, self._target
        delay_ns = network.latency_ns(self)
        self._world.at(delay_ns, lambda: network.closed_by_host(target, process, source.name))

    def reset(self) -> None:
        """The network breaks the connection."""
        self._break(closed_by_host=False)

    def hang_up(self) -> None:
        """Something between the hosts closes the connection, as the peer's host would. Both ends are told."""
        network, source, target, process = self._network, self._source, self._target, self._target_process
        self._break(closed_by_host=True)
        self._world.at(0, lambda: network.closed_by_host(target, process, source.name))

    # --- frames ---

    def send(self, frames: Frames) -> bool:
        """Queue frames, all or none. False if they are dropped."""
        plan = self._network.plan
        if not self.is_up or len(self._pipe) >= plan.queue_batches_max:
            return False
        if plan.is_raw:
            frames = self._send_raw(frames)
            if not frames:
                return True
        self._sent += 1
        due_ns = self._world.now_ns + self._network.latency_ns(self)
        self._due_ns = max(self._due_ns, due_ns)
        self._pipe.append(frames)
        life = self._life
        self._world.at(self._due_ns - self._world.now_ns, lambda: self._arrive(life))
        if not self._is_watched and self._network.is_cut(self):
            self._watch()
        return True

    def _send_raw(self, frames: Frames) -> Frames:
        """Send frames of consensus each on its own; return the others."""
        world, plan = self._world, self._network.plan
        others: Frames = []
        for frame in frames:
            if not frame.HasField("raft"):
                others.append(frame)
                continue
            self._sent += 1
            if world.chance(self._network.loss, "loss", self.name, self._sent):
                self._network.count("frame lost")
                continue
            copies = 1
            if world.chance(plan.repeat, "repeat", self.name, self._sent):
                self._network.count("frame repeated")
                copies = 2
            for copy in range(copies):
                delay_ns = self._network.latency_ns(self)
                if world.chance(plan.reorder, "reorder", self.name, self._sent, copy):
                    self._network.count("frame reordered")
                    delay_ns += world.draw_below(
                        plan.reorder_ns_max, "overtaken", self.name, self._sent, copy
                    )
                self._fly(frame, delay_ns)
        return others

    def _fly(self, frame: peer_pb2.PeerFrame, delay_ns: int) -> None:
        life = self._life

        def arrive() -> None:
            if life == self._life and not self._network.is_cut_towards(self):
                self._hand_over([frame])

        self._world.at(delay_ns, arrive)

    def _arrive(self, life: int) -> None:
        if life != self._life or not self._pipe:
            return
        if self._held or self._network.is_cut_towards(self):
            self._held = True
            return
        self._hand_over(self._pipe.popleft())

    def _hand_over(self, frames: Frames) -> None:
        target, source = self._target, self._source
        if not target.is_running():
            return  # Nobody answers; the sender's patience ends it.
        if target.process() != self._target_process:
            self._break(closed_by_host=True)  # The host of the new process knows no such connection.
            return
        target.feed(self._target_process, lambda: target.frames(source.name, frames))

    def uncut(self) -> None:
        """The path works again: everything that waited at the cut arrives, in order."""
        if self._network.is_cut_towards(self):
            return
        if self.is_up and self._target_process == _NOBODY and self._target.is_running():
            self._break(closed_by_host=True)
            return
        if not self._held:
            return
        self._held = False
        life = self._life
        for _ in range(len(self._pipe)):
            self._arrive(life)
            if life != self._life:
                return

    def _watch(self) -> None:
        """Close the link if the path stays cut, or the peer silent, for the sender's patience."""
        self._is_watched = True
        life, since = self._life, self._network.cut_epoch(self)

        def look() -> None:
            self._is_watched = False
            if life != self._life or not self.is_up:
                return
            is_gone = self._target.process() != self._target_process or not self._target.is_running()
            if is_gone or (self._network.is_cut(self) and self._network.cut_epoch(self) == since):
                self._break(closed_by_host=False)

        self._world.at(self._network.plan.stall_timeout_ms * MILLISECOND, look)


class PeerNetwork:
    """All links, and which paths are cut. Cuts are counted: each is undone by its own end."""

    def __init__(self, world: World, plan: NetworkPlan) -> None:
        self.world = world
        self.plan = plan
        self.counts: dict[str, int] = {}
        self.loss = plan.loss
        self._hosts: dict[str, PeerHost] = {}
        self._links: dict[tuple[str, str], PeerLink] = {}
        self._cuts: dict[tuple[str, str], int] = {}
        self._epochs: dict[tuple[str, str], int] = {}
        self._clogs: dict[tuple[str, str], int] = {}
        self._draws = 0

    def add(self, host: PeerHost) -> None:
        self._hosts[host.name] = host

    def link(self, source: str, target: str) -> PeerLink:
        link = self._links.get((source, target))
        if link is None:
            link = PeerLink(self, self._hosts[source], self._hosts[target])
            self._links[source, target] = link
        return link

    def unlink(self, source: str, target: str) -> None:
        """The source wants no link to the target any more, nor one from it."""
        link = self.link(source, target)
        was_up = link.is_up
        link.close()
        if was_up:
            host, process = self._hosts[source], self._hosts[source].process()
            host.feed(process, lambda: host.link_down(target))
        back = self._links.get((target, source))
        if back is not None:
            back.target_ended(is_told=True)

    def links_from(self, source: str) -> list[PeerLink]:
        return [link for (name, _), link in self._links.items() if name == source]

    def process_ended(self, name: str, *, is_told: bool) -> None:
        """Close what the process had dialled, and tell who had dialled it."""
        for (source, target), link in list(self._links.items()):
            if source == name:
                link.source_ended(is_told=is_told)
            elif target == name:
                link.target_ended(is_told=is_told)

    def is_running(self, name: str) -> bool:
        return self._hosts[name].is_running()

    def closed_by_host(self, host: PeerHost, process: int, peer: str) -> None:
        """`host` is told that the peer's host has closed a connection: evidence, if no other one stands."""
        if self.link(host.name, peer).is_up or self.link(peer, host.name).is_up:
            return
        if host.has_peer(peer):
            self.world.trace(host.name, "gone", peer)
            host.feed(process, lambda: host.peer_gone(peer))

    def hang_up(self, name: str) -> None:
        """Close all connections of a member, in both directions, as if each side's process had ended."""
        links = [link for pair, link in self._links.items() if name in pair and link.is_up]
        for link in links:
            link.hang_up()

    def calm(self) -> None:
        """From now on little is lost: elections would be decided by luck, and luck takes its time."""
        self.loss = min(self.loss, _LOSS_IN_CALM)

    def count(self, what: str) -> None:
        self.counts[what] = self.counts.get(what, 0) + 1

    # --- latency ---

    def latency_ns(self, link: PeerLink) -> int:
        """Draw how long the next thing travels: at least the minimum, sometimes much longer."""
        self._draws += 1
        plan = self.plan
        draw = self.world.draw("latency", link.name, self._draws)
        latency_ns = plan.latency_ns_min + draw % (2 * plan.latency_ns_mean)
        if not draw & 0x3F00000000:
            latency_ns += (draw >> 40) % (20 * plan.latency_ns_mean)
        clog_ns = self._clogs.get((link.name.partition(">")[0], link.name.partition(">")[2]), 0)
        return latency_ns + clog_ns

    def clog(self, source: str, target: str, delay_ns: int) -> None:
        """Everything on this path takes so much longer; 0 ends it."""
        self._clogs[source, target] = delay_ns

    # --- cuts ---

    def cut(self, pairs: list[tuple[str, str]]) -> None:
        for pair in pairs:
            self._cuts[pair] = self._cuts.get(pair, 0) + 1
            self._epochs[pair] = self._epochs.get(pair, 0) + 1

    def uncut(self, pairs: list[tuple[str, str]]) -> None:
        for pair in pairs:
            self._cuts[pair] -= 1
            self._epochs[pair] += 1
        for pair in pairs:
            link = self._links.get(pair)
            if link is not None and not self._cuts[pair]:
                link.uncut()

    def is_cut_towards(self, link: PeerLink) -> bool:
        """Whether nothing gets from the sender to the receiver."""
        source, _, target = link.name.partition(">")
        return bool(self._cuts) and self._cuts.get((source, target), 0) > 0

    def is_cut(self, link: PeerLink) -> bool:
        """Whether the connection gets no further: an acknowledgement needs the way back."""
        if not self._cuts:
            return False
        source, _, target = link.name.partition(">")
        return self._cuts.get((source, target), 0) > 0 or self._cuts.get((target, source), 0) > 0

    def cut_epoch(self, link: PeerLink) -> tuple[int, int]:
        source, _, target = link.name.partition(">")
        return self._epochs.get((source, target), 0), self._epochs.get((target, source), 0)
