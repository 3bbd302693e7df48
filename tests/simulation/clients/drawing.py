"""The operations of a simulated client, drawn one at a time from its dice and what it has seen.

The universe of paths is small, so that clients meet; values are unique, so that every read tells which write
it saw.

Rule of this file: messages out, nothing is sent. One draw of the world for one operation.
"""

from __future__ import annotations

from dataclasses import dataclass

from coordproto.v1 import coordination_pb2, data_pb2
from tests.simulation.clients.workload import Workload

_NAMES = ("a", "b", "c")
_TTL_MS_MAX = 4_000
_REMEMBERED_MAX = 64
_MASK = (1 << 64) - 1


class Bits:
    """All the choices that follow from one draw: a linear congruential generator (Knuth's MMIX)."""

    def __init__(self, value: int) -> None:
        self._value = value

    def below(self, bound: int) -> int:
        self._value = (self._value * 6364136223846793005 + 1442695040888963407) & _MASK
        return (self._value >> 33) % bound

    def peek(self, bound: int) -> int:
        """Choose without moving on: what follows stays what it was before this choice was thought of."""
        return (self._value >> 45) % bound

    def percent(self, percent: int) -> bool:
        return self.below(100) < percent


@dataclass(slots=True)
class Seen:
    """What a client was told of a node last."""

    version: int
    czxid: int


class Memory:
    """What a client knows from answers: enough to make conditions that sometimes hold."""

    def __init__(self) -> None:
        self._seen: dict[str, Seen] = {}
        self.paths: list[str] = []

    def note(self, path: str, stat: data_pb2.Stat) -> None:
        if path not in self._seen:
            self.paths.append(path)
            if len(self.paths) > _REMEMBERED_MAX:
                del self._seen[self.paths.pop(0)]
        self._seen[path] = Seen(stat.version, stat.czxid)

    def seen(self, path: str) -> Seen | None:
        return self._seen.get(path)


class Drawing:
    """Draws operations for one client."""

    def __init__(self, workload: Workload, memory: Memory) -> None:
        self._workload = workload
        self._memory = memory
        weights = {
            "create": workload.creates,
            "set": workload.sets,
            "delete": workload.deletes,
            "transaction": workload.transactions,
            "get": workload.gets,
            "exists": workload.exists,
            "list": workload.lists,
            "sync": workload.syncs,
        }
        self._kinds = [kind for kind, weight in weights.items() for _ in range(weight)]

    def plant(self, number: int, value: bytes) -> data_pb2.Write:
        """Return the write that makes one of the top-level nodes."""
        return data_pb2.Write(create=data_pb2.Create(path=f"/r{number}", value=value))

    def draw(self, bits: Bits, value: bytes) -> data_pb2.Write | coordination_pb2.Read:
        """Return the next operation. `value` is what it writes, if it writes."""
        kind = self._kinds[bits.below(len(self._kinds))]
        if kind in ("create", "set", "delete", "transaction"):
            return self._write(kind, bits, value, has_session=True)
        return self._read(kind, bits)

    def draw_anonymous(self, bits: Bits, value: bytes) -> data_pb2.Write | coordination_pb2.Read:
        """Return an operation that needs no session."""
        kind = self._kinds[bits.below(len(self._kinds))]
        if kind in ("create", "set", "delete", "transaction"):
            return self._write(kind, bits, value, has_session=False)
        return self._read(kind, bits)

    # -----------------------------------------------------------------------------------------
    # Paths

    def _root(self, bits: Bits) -> str:
        return f"/r{bits.below(self._workload.roots)}"

    def _path_below(self, root: str, bits: Bits) -> str:
        shape = bits.below(8)
        if shape == 0:
            return root
        remembered = self._memory.paths
        if shape == 1 and remembered:
            path = remembered[bits.below(len(remembered))]
            if path.startswith(root):
                return path
        path = f"{root}/{_NAMES[bits.below(len(_NAMES))]}"
        return f"{path}/{_NAMES[bits.below(len(_NAMES))]}" if shape >= 6 else path

    # -----------------------------------------------------------------------------------------
    # Writes

    def _write(self, kind: str, bits: Bits, value: bytes, *, has_session: bool) -> data_pb2.Write:
        root = self._root(bits)
        write = data_pb2.Write()
        if kind == "create":
            self._fill_create(write.create, root, bits, value, has_session=has_session)
        elif kind == "set":
            self._fill_set(write.set, root, bits, value)
        elif kind == "delete":
            self._fill_delete(write.delete, root, bits)
        else:
            self._fill_transaction(write.transaction, root, bits, value, has_session=has_session)
        if bits.percent(self._workload.guard_percent):
            path = self._path_below(root, bits)
            seen = self._memory.seen(path)
            write.guards.add(path=path, czxid=seen.czxid if seen is not None else 1)
        return write

    def _fill_create(
        self, create: data_pb2.Create, root: str, bits: Bits, value: bytes, *, has_session: bool
    ) -> None:
        workload = self._workload
        create.path = self._path_below(root, bits)
        create.value = value
        create.parents = bits.percent(50)
        is_ephemeral = has_session and bits.percent(workload.ephemeral_percent)
        is_sequential = bits.percent(workload.sequential_percent) and create.path != root
        if is_sequential:
            create.path += "-"
        if is_ephemeral:
            create.mode = data_pb2.EPHEMERAL_SEQUENTIAL if is_sequential else data_pb2.EPHEMERAL
            if bits.peek(4) == 0:
                create.ttl_ms = 1 + bits.peek(_TTL_MS_MAX)  # it lingers
        elif bits.percent(workload.expiring_percent):
            if bits.below(2) and not is_sequential:
                create.mode = data_pb2.CONTAINER
            else:
                create.mode = data_pb2.TTL_SEQUENTIAL if is_sequential else data_pb2.TTL
                create.ttl_ms = 1 + bits.below(_TTL_MS_MAX)
        elif is_sequential:
            create.mode = data_pb2.PERSISTENT_SEQUENTIAL

    def _version(self, path: str, bits: Bits) -> int | None:
        """Return the version to expect: mostly the one that was seen last."""
        if not bits.percent(self._workload.version_percent):
            return None
        seen = self._memory.seen(path)
        return bits.below(4) if seen is None or bits.below(8) == 0 else seen.version

    def _fill_set(self, message: data_pb2.Set, root: str, bits: Bits, value: bytes) -> None:
        message.path = self._path_below(root, bits)
        message.value = value
        version = self._version(message.path, bits)
        if version is not None:
            message.version = version

    def _fill_delete(self, delete: data_pb2.Delete, root: str, bits: Bits) -> None:
        delete.path = self._path_below(root, bits)
        delete.recursive = bits.percent(25)
        version = self._version(delete.path, bits)
        if version is not None:
            delete.version = version

    def _fill_transaction(
        self, transaction: data_pb2.Transaction, root: str, bits: Bits, value: bytes, *, has_session: bool
    ) -> None:
        for _ in range(bits.below(3)):
            self._fill_compare(transaction.compares.add(), root, bits)
        for branch in (transaction.success, transaction.failure):
            for index in range(1 + bits.below(3)):
                other = self._root(bits) if self._workload.across_roots else root
                part = value + b".%d" % index
                self._fill_operation(branch.add(), other, bits, part, has_session=has_session)

    def _fill_compare(self, compare: data_pb2.Compare, root: str, bits: Bits) -> None:
        path = compare.path = self._path_below(root, bits)
        seen = self._memory.seen(path)
        target = bits.below(3)
        if target == 0:
            compare.target = data_pb2.Compare.EXISTS
            compare.number = bits.below(2)
        elif target == 1:
            compare.target = data_pb2.Compare.VERSION
            compare.number = seen.version if seen is not None else 0
            compare.operator = data_pb2.Compare.LESS if bits.below(4) == 0 else data_pb2.Compare.EQUAL
        else:
            compare.target = data_pb2.Compare.CZXID
            compare.number = seen.czxid if seen is not None else -1
            compare.operator = data_pb2.Compare.NOT_EQUAL if bits.below(4) == 0 else data_pb2.Compare.EQUAL

    def _fill_operation(
        self, operation: data_pb2.TransactionOp, root: str, bits: Bits, value: bytes, *, has_session: bool
    ) -> None:
        kind = bits.below(8)
        if kind <= 2:
            self._fill_create(operation.create, root, bits, value, has_session=has_session)
        elif kind <= 4:
            self._fill_set(operation.set, root, bits, value)
        elif kind == 5:
            self._fill_delete(operation.delete, root, bits)
        elif kind == 6:
            operation.check.path = self._path_below(root, bits)
            operation.check.absent = bits.below(2) == 1
        else:
            operation.get.path = self._path_below(root, bits)

    # -----------------------------------------------------------------------------------------
    # Reads

    def _read(self, kind: str, bits: Bits) -> coordination_pb2.Read:
        read = coordination_pb2.Read()
        path = self._path_below(self._root(bits), bits)
        if kind == "get":
            read.get.path = path
        elif kind == "exists":
            read.exists.path = path
        elif kind == "list":
            read.list_children.path = path
            read.list_children.with_nodes = bits.percent(30)
            read.list_children.limit = (0, 0, 1, 2)[bits.below(4)]
        else:
            read.sync.SetInParent()
            return read
        if bits.percent(self._workload.weak_read_percent):
            read.consistency = data_pb2.SESSION if bits.below(3) else data_pb2.STALE
        return read
