"""Scenarios: a script of commands, with everything that happened written below each. After etcd's rafttest.

A file is a list of blocks: comment lines (`#`), commands, a line `----`, and what was observed. The network
delivers nothing, disks write nothing and state machines apply nothing until a command says so; `settle` lets
everything happen. The dice always show 0; `deadline` sets an election timer by hand.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace

from coordsvc.raft.invariants import Observation
from coordsvc.raft.log import LogStorage
from coordsvc.raft.membership import ConfigurationError
from coordsvc.raft.messages import Message, MessageType
from coordsvc.raft.node import ProposalDropped, RaftConfig, RaftNode
from coordsvc.raft.ready import Persist, Ready
from coordsvc.raft.types import Configuration, Entry, EntryKind, HardState, NodeId, SnapshotMetadata
from tests.unit.raft.cluster import Cluster
from tests.unit.raft.configuration_text import encode
from tests.unit.raft.memory_log import MemoryLog


@dataclass(slots=True)
class Block:
    comments: list[str]
    commands: list[str]
    expected: list[str]


def parse(text: str) -> list[Block]:
    """Split the text of a scenario into its blocks."""
    return [_parse_block(part.splitlines()) for part in text.strip().split("\n\n")]


def _parse_block(lines: list[str]) -> Block:
    split = lines.index("----") if "----" in lines else len(lines)
    head = lines[:split]
    comments = [line for line in head if line.startswith("#")]
    return Block(comments, [line for line in head if not line.startswith("#")], lines[split + 1 :])


def run(text: str) -> str:
    """Run a scenario and return its text with what was observed now."""
    scenario = Transcript()
    parts = []
    for block in parse(text):
        lines = [*block.comments, *block.commands]
        if block.commands:
            lines += ["----", *scenario.run(block.commands)]
        parts.append("\n".join(lines))
    return "\n\n".join(parts) + "\n"


class ScriptedCluster(Cluster):
    """A cluster that writes down what happens, and whose disks and state machines wait to be told."""

    def __init__(self, *, is_patient: bool, **settings: object) -> None:
        self.lines: list[str] = []
        self.is_patient = is_patient
        self.in_force: dict[NodeId, Configuration] = {}
        super().__init__(**settings)  # type: ignore[arg-type]  # passed on as they came

    def draw(self, name: NodeId) -> Callable[[int], int]:
        return lambda sides: 0

    def note_ready(self, name: NodeId, ready: Ready) -> None:
        self.lines.append(f"{name} is ready:")
        self.lines += [f"  {line}" for line in describe_ready(ready)]

    def note_step(self, name: NodeId, before: Observation) -> None:
        node = self.members[name].node
        if (before.role, before.term) != (node.role, node.term):
            self.lines.append(f"  {name} is now {node.role.name} in term {node.term}")
        if before.commit != node.commit_index:
            self.lines.append(f"  {name} commits up to {node.commit_index}")
        if self.in_force.get(name, self.configuration) != node.configuration:
            self.lines.append(f"  {name} uses {describe_configuration(node.configuration)}")
        self.in_force[name] = node.configuration

    def note_delivery(self, message: Message) -> None:
        self.lines.append(describe_message(message))


def describe_ready(ready: Ready) -> Iterator[str]:
    for message in ready.messages:
        yield f"send {describe_message(message)}"
    if ready.persist is not None:
        yield f"write {describe_persist(ready.persist)}"
    if ready.committed:
        yield f"apply {describe_entries(ready.committed)}"
    for read in ready.reads:
        yield f"read {read.context} may be served at {read.index}"


def describe_persist(persist: Persist) -> str:
    parts = []
    if persist.snapshot is not None:
        parts.append(f"snapshot={persist.snapshot.index}/{persist.snapshot.term}")
    if persist.hard_state is not None:
        hard = persist.hard_state
        parts.append(f"term={hard.term} vote={hard.vote or '-'} commit={hard.commit}")
    if persist.entries:
        parts.append(describe_entries(persist.entries))
    if not persist.must_sync:
        parts.append("unsynced")
    parts += [f"then {describe_message(message)}" for message in persist.released]
    return "; ".join(parts)


def describe_message(message: Message) -> str:
    text = f"{message.source}->{message.target} {message.type.name} term={message.term}"
    if message.type in (MessageType.APPEND, MessageType.VOTE, MessageType.PRE_VOTE):
        text += f" last={message.index}/{message.log_term}"
    elif message.index:
        text += f" index={message.index}"
    if message.commit:
        text += f" commit={message.commit}"
    if message.context:
        text += f" context={message.context}"
    if message.reject:
        text += " rejected"
        if message.type is MessageType.APPEND_RESPONSE:
            text += f" hint={message.reject_hint}/{message.log_term}"
    if message.transfer:
        text += " transfer"
    if message.snapshot is not None:
        text += f" snapshot={message.snapshot.index}/{message.snapshot.term}"
    if message.entries:
        text += f" {describe_entries(message.entries)}"
    return text


def describe_entries(entries: list[Entry]) -> str:
    if len(entries) > 6:
        return f"[{describe_entry(entries[0])} .. {describe_entry(entries[-1])}]"
    return f"[{' '.join(describe_entry(entry) for entry in entries)}]"


def describe_configuration(configuration: Configuration) -> str:
    return f"{{{encode(configuration).decode()}}}"


def describe_entry(entry: Entry) -> str:
    if entry.kind is EntryKind.CONFIGURATION:
        return f"{entry.index}/{entry.term}:{{{entry.data.decode()}}}"
    data = f":{entry.data.decode()}" if entry.data else ""
    return f"{entry.index}/{entry.term}{data}"


def describe_log(log: LogStorage) -> str:
    first, last = log.first_index(), log.last_index()
    terms = " ".join(f"{index}/{log.term(index)}" for index in range(first, last + 1))
    return f"[{terms}]" if first == 1 else f"snapshot={first - 1}/{log.term(first - 1)} [{terms}]"


class Transcript:
    """The interpreter of one scenario."""

    def __init__(self) -> None:
        self._cluster: ScriptedCluster | None = None

    @property
    def cluster(self) -> ScriptedCluster:
        assert self._cluster is not None, "a scenario begins with `start`"
        return self._cluster

    def run(self, commands: list[str]) -> list[str]:
        """Carry out the commands of one block; return what happened."""
        lines: list[str] = []
        for command in commands:
            verb, *arguments = command.split()
            method = getattr(self, f"do_{verb.replace('-', '_')}")
            lines += method(*arguments) or []
            lines += self.cluster.lines
            self.cluster.lines = []
        return lines or ["nothing happens"]

    # --- members ---------------------------------------------------------------------------------

    def do_start(self, *arguments: str) -> None:
        """start a,b,c [learners=d] [log.a=1,1,2] [term=3] [any field of RaftConfig] [patient]"""
        voters, *rest = arguments
        options = dict(item.partition("=")[::2] for item in rest)
        is_patient = "patient" in options
        options.pop("patient", None)
        term = int(options.pop("term", "0"))
        learners = options.pop("learners", "")
        names = [name for name in [*voters.split(","), *learners.split(",")] if name]
        logs = {name: _stored(options.pop(f"log.{name}", ""), term) for name in names}
        kinds = {field.name: field.type for field in fields(RaftConfig)}
        config = replace(RaftConfig("each", pre_vote=False, check_quorum=False))
        for name, value in options.items():
            parsed = value == "yes" if kinds[name] == "bool" else int(value)
            config = replace(config, **{name: parsed})  # type: ignore[arg-type]  # a field of the right kind
        self._cluster = ScriptedCluster(
            is_patient=is_patient,
            voters=voters.split(","),
            learners=[name for name in learners.split(",") if name],
            logs=logs,
            config=config,
        )
        if is_patient:
            for member in self._cluster.members.values():
                member.slow_disk = member.slow_apply = True

    def do_restart(self, name: NodeId) -> None:
        """Crash and come back with what is durable."""
        member = self.cluster.restart(name)
        member.slow_disk = member.slow_apply = self.cluster.is_patient

    def do_join(self, *names: NodeId) -> None:
        """Start members that know nothing and are in no configuration yet."""
        for name in names:
            member = self.cluster.join(name)
            self.cluster.in_force[name] = member.node.configuration
            member.slow_disk = member.slow_apply = self.cluster.is_patient

    # --- inputs ----------------------------------------------------------------------------------

    def do_change(self, name: NodeId, configuration: str) -> list[str]:
        """change a voters;outgoing;learners;learners_next"""
        try:
            self.cluster.change(name, configuration)
        except ProposalDropped as dropped:
            return [f"dropped: {dropped.reason}"]
        except ConfigurationError as error:
            return [f"refused: {error}"]
        return []

    def do_campaign(self, name: NodeId) -> None:
        self.cluster.campaign(name)

    def do_propose(self, name: NodeId, *data: str) -> list[str]:
        try:
            self.cluster.propose(name, *(item.encode() for item in data))
        except ProposalDropped as dropped:
            return [f"dropped: {dropped.reason}"]
        return []

    def do_tick(self, name: NodeId, count: str = "1") -> None:
        self.cluster.tick(name, int(count))

    def do_deadline(self, name: NodeId, ticks: str) -> None:
        """Let the election timer of `name` fire at its tick number `ticks`."""
        self.cluster[name].state.election_deadline = int(ticks)

    def do_read(self, name: NodeId, context: str) -> list[str]:
        if self.cluster.act(name, lambda node: node.read_index(int(context))):
            return []
        return ["no leader is known"]

    def do_transfer(self, name: NodeId, target: NodeId) -> None:
        self.cluster.act(name, lambda node: node.transfer_leader(target))

    def do_leader_lost(self, name: NodeId, leader: NodeId) -> None:
        self.cluster.act(name, lambda node: node.report_leader_lost(leader))

    def do_unreachable(self, name: NodeId, other: NodeId) -> None:
        self.cluster.act(name, lambda node: node.report_unreachable(other))

    def do_snapshot_ended(self, name: NodeId, other: NodeId, how: str) -> None:
        self.cluster.act(name, lambda node: node.report_snapshot(other, how == "well"))

    def do_install(self, name: NodeId, leader: NodeId, index: str) -> None:
        """Step a snapshot at `index` that has arrived at `name`, from wherever."""
        term = self.cluster.checker.committed[int(index)][0]
        metadata = SnapshotMetadata(int(index), term, self.cluster.configuration)
        message = Message(MessageType.SNAPSHOT, leader, name, self.cluster[leader].term, snapshot=metadata)
        self.cluster.deliver(message)

    def do_compact(self, name: NodeId, index: str) -> None:
        self.cluster.members[name].storage.compact(int(index))
        self.cluster.act(name, RaftNode.log_trimmed)

    # --- carrying out ----------------------------------------------------------------------------

    def do_ready(self, *names: NodeId) -> list[str]:
        """Take one Ready; its messages go to the network."""
        idle = [name for name in names if not self.cluster.pump(name)]
        return [f"{name} has nothing ready" for name in idle]

    def do_write(self, *names: NodeId) -> None:
        """Let the outstanding write become durable."""
        for name in names:
            self.cluster.finish_write(name)

    def do_apply(self, *names: NodeId) -> None:
        for name in names:
            self.cluster.apply(name)

    def do_deliver(self, *targets: NodeId) -> None:
        """Deliver what is in the network now, to these or to all."""
        for message in [taken for name in targets or [None] for taken in self.cluster.take(target=name)]:
            self.cluster.deliver(message)

    def do_drop(self, *targets: NodeId) -> list[str]:
        """Lose what is in the network now, to these or to all."""
        lost = [taken for name in targets or [None] for taken in self.cluster.take(target=name)]
        return [f"lost: {describe_message(message)}" for message in lost]

    def do_settle(self, *names: NodeId) -> None:
        """Let everything happen until all is quiet; with names, for these members only."""
        chosen = names or tuple(self.cluster.members)
        busy = True
        while busy:
            busy = False
            for name in chosen:
                while self.cluster.pump(name):
                    busy = True
                if self.cluster.members[name].writing is not None:
                    busy = True
                    self.cluster.finish_write(name)
                self.cluster.apply(name)
            for name in chosen:
                for message in self.cluster.take(target=name):
                    busy = True
                    self.cluster.deliver(message)

    def do_settle_quietly(self, *names: NodeId) -> None:
        """Let everything happen without a word about it."""
        self.do_settle(*names)
        self.cluster.lines = ["ok"]

    # --- looking ---------------------------------------------------------------------------------

    def do_log(self, *names: NodeId) -> list[str]:
        """Show the stored logs."""
        return [f"{name} {describe_log(self.cluster.members[name].storage)}" for name in names]

    def do_status(self, name: NodeId) -> list[str]:
        """Show what a leader believes about its followers."""
        return [repr(progress) for progress in self.cluster[name].state.members.followers]

    def do_state(self) -> list[str]:
        return [
            f"{name}: {node.role.name} term={node.term} vote={node.vote or '-'} leader={node.leader or '-'}"
            f" commit={node.commit_index} applied={node.applied_index} last={node.last_index}"
            f"{self._differs(node)}"
            for name, node in ((name, member.node) for name, member in self.cluster.members.items())
        ]

    def _differs(self, node: RaftNode) -> str:
        """Show a configuration that is not the one that the scenario began with."""
        if node.configuration == self.cluster.configuration:
            return ""
        return f" {describe_configuration(node.configuration)}"


def _stored(terms: str, term: int) -> MemoryLog:
    entries = [Entry(index, int(each)) for index, each in enumerate(terms.split(","), 1) if each]
    storage = MemoryLog(entries)
    storage.hard_state = HardState(max(term, entries[-1].term if entries else 0))
    return storage
