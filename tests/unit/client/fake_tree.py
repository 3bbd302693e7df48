"""A tiny znode tree for the fake server: just enough of the rules for the SDK's tests."""

from __future__ import annotations

from dataclasses import dataclass, field

from coordproto.v1 import data_pb2

Code = data_pb2.ErrorCode


class RefusedError(Exception):
    """The operation is refused with this error."""

    def __init__(self, code: data_pb2.ErrorCode.ValueType, path: str, **details: int) -> None:
        name = data_pb2.ErrorCode.Name(code)
        super().__init__(name)
        self.error = data_pb2.Error(code=code, message=f"{path}: {name}", path=path, **details)  # type: ignore[arg-type]  # counts only


@dataclass
class FakeTree:
    """Nodes by path, and every change in order."""

    nodes: dict[str, data_pb2.Node] = field(default_factory=lambda: {"/": data_pb2.Node(path="/")})
    changes: list[data_pb2.Change] = field(default_factory=list)
    zxid: int = 0
    sequence: dict[str, int] = field(default_factory=dict)
    page: int = 1000
    now_ms: int = 0  # what writes are stamped with; a test moves it on

    def write(self, write: data_pb2.Write, session_id: int) -> data_pb2.WriteResult:
        """Apply one write: all of it or nothing."""
        saved = dict(self.nodes), len(self.changes), dict(self.sequence)
        try:
            for guard in write.guards:
                node = self.nodes.get(guard.path)
                if node is None or node.stat.czxid != guard.czxid:
                    raise RefusedError(Code.GUARD_FAILED, guard.path)
            result = self._apply(write, session_id)
        except RefusedError as refused:
            self.nodes, kept, self.sequence = saved[0], saved[1], saved[2]
            del self.changes[kept:]
            return data_pb2.WriteResult(zxid=self.zxid, error=refused.error)
        if len(self.changes) > saved[1]:
            self.zxid += 1
        result.zxid = self.zxid
        return result

    def _apply(self, write: data_pb2.Write, session_id: int) -> data_pb2.WriteResult:
        kind = write.WhichOneof("op")
        if kind == "create":
            return data_pb2.WriteResult(created=self._create(write.create, session_id))
        if kind == "set":
            return data_pb2.WriteResult(set=self._set(write.set))
        if kind == "delete":
            return data_pb2.WriteResult(deleted=self._delete(write.delete))
        return data_pb2.WriteResult(transaction=self._transaction(write.transaction, session_id))

    # Writes

    def _create(self, create: data_pb2.Create, session_id: int) -> data_pb2.Created:
        path = create.path
        parent = path.rpartition("/")[0] or "/"
        if parent not in self.nodes:
            if not create.parents:
                raise RefusedError(Code.NO_NODE, parent)
            self._create(data_pb2.Create(path=parent, parents=True), session_id)
        sequential = (data_pb2.PERSISTENT_SEQUENTIAL, data_pb2.EPHEMERAL_SEQUENTIAL)
        if create.mode in sequential:
            number = self.sequence.get(parent, 0)
            self.sequence[parent] = number + 1
            path += f"{number:010d}"
        if path in self.nodes:
            raise RefusedError(Code.NODE_EXISTS, path)
        is_ephemeral = create.mode in (data_pb2.EPHEMERAL, data_pb2.EPHEMERAL_SEQUENTIAL)
        zxid = self.zxid + 1
        node = data_pb2.Node(path=path, value=create.value)
        node.stat.czxid = node.stat.mzxid = node.stat.pzxid = zxid
        node.stat.ctime = node.stat.mtime = self.now_ms
        node.stat.data_length = len(create.value)
        node.stat.ephemeral_owner = session_id if is_ephemeral else 0
        self.nodes[path] = node
        self._children_changed(path)
        self._changed(data_pb2.CREATED, node)
        return data_pb2.Created(path=path, stat=node.stat)

    def _set(self, message: data_pb2.Set) -> data_pb2.Stat:
        old = self._find(message.path)
        self._check_version(old, message.version if message.HasField("version") else -1)
        node = data_pb2.Node(path=old.path, value=message.value, stat=old.stat)
        node.stat.version += 1
        node.stat.mzxid = self.zxid + 1
        node.stat.mtime = self.now_ms
        self.nodes[node.path] = node
        self._changed(data_pb2.CHANGED, node)
        return node.stat

    def _delete(self, message: data_pb2.Delete) -> int:
        node = self._find(message.path)
        self._check_version(node, message.version if message.HasField("version") else -1)
        below = sorted((path for path in self.nodes if path.startswith(message.path + "/")), reverse=True)
        if below and not message.recursive:
            raise RefusedError(Code.NOT_EMPTY, message.path)
        for path in [*below, message.path]:
            self._changed(data_pb2.DELETED, self.nodes.pop(path))
            self._children_changed(path)
        return len(below) + 1

    def _transaction(self, transaction: data_pb2.Transaction, session_id: int) -> data_pb2.TransactionResult:
        succeeded = all(self._holds(compare) for compare in transaction.compares)
        result = data_pb2.TransactionResult(succeeded=succeeded)
        operations = transaction.success if succeeded else transaction.failure
        for index, operation in enumerate(operations):
            try:
                result.results.append(self._operation(operation, session_id))
            except RefusedError as refused:
                error = RefusedError(Code.TRANSACTION_FAILED, refused.error.path).error
                error.failed_index = index
                codes = [Code.OK] * index + [refused.error.code]
                codes += [Code.RUNTIME_INCONSISTENCY] * (len(operations) - index - 1)
                error.op_codes.extend(codes)
                refused.error.CopyFrom(error)
                raise
        return result

    def _operation(self, operation: data_pb2.TransactionOp, session_id: int) -> data_pb2.OpResult:
        kind = operation.WhichOneof("op")
        if kind == "create":
            return data_pb2.OpResult(created=self._create(operation.create, session_id))
        if kind == "set":
            return data_pb2.OpResult(set=self._set(operation.set))
        if kind == "delete":
            return data_pb2.OpResult(deleted=self._delete(operation.delete))
        if kind == "check":
            return self._check(operation.check)
        if kind == "get":
            return data_pb2.OpResult(node=self._find(operation.get.path))
        if kind == "list_children":
            return data_pb2.OpResult(children=self.children(operation.list_children))
        node = self.nodes.get(operation.exists.path)
        return data_pb2.OpResult(absent=True) if node is None else data_pb2.OpResult(exists=node.stat)

    def _check(self, check: data_pb2.Check) -> data_pb2.OpResult:
        if check.absent:
            if check.path in self.nodes:
                raise RefusedError(Code.CHECK_FAILED, check.path)
            return data_pb2.OpResult(checked=True)
        node = self._find(check.path)
        self._check_version(node, check.version if check.HasField("version") else -1)
        if check.HasField("czxid") and node.stat.czxid != check.czxid:
            raise RefusedError(Code.CHECK_FAILED, check.path)
        return data_pb2.OpResult(checked=True)

    def _holds(self, compare: data_pb2.Compare) -> bool:
        node = self.nodes.get(compare.path)
        if compare.target == data_pb2.Compare.VALUE:
            return node is not None and node.value == compare.value
        name = data_pb2.Compare.Target.Name(compare.target).lower()
        present = int(node is not None) if name == "exists" else getattr(node.stat, name) if node else -1
        if compare.operator in (data_pb2.Compare.LESS, data_pb2.Compare.GREATER):
            return present != compare.number and (present < compare.number) == (
                compare.operator == data_pb2.Compare.LESS
            )
        return (present == compare.number) == (compare.operator == data_pb2.Compare.EQUAL)

    # Reads

    def read(self, operation: object) -> data_pb2.ReadResult:
        try:
            return self._read(operation)
        except RefusedError as refused:
            return data_pb2.ReadResult(zxid=self.zxid, error=refused.error)

    def _read(self, operation: object) -> data_pb2.ReadResult:
        if isinstance(operation, data_pb2.Get):
            return data_pb2.ReadResult(zxid=self.zxid, node=self._find(operation.path))
        if isinstance(operation, data_pb2.ListChildren):
            return data_pb2.ReadResult(zxid=self.zxid, children=self.children(operation))
        if isinstance(operation, data_pb2.Exists):
            node = self.nodes.get(operation.path)
            if node is None:
                return data_pb2.ReadResult(zxid=self.zxid, absent=True)
            return data_pb2.ReadResult(zxid=self.zxid, exists=node.stat)
        return data_pb2.ReadResult(zxid=self.zxid, synced=True)

    def children(self, message: data_pb2.ListChildren) -> data_pb2.Children:
        self._find(message.path)
        prefix = message.path.rstrip("/") + "/"
        below = (path[len(prefix) :] for path in self.nodes if path.startswith(prefix) and path != "/")
        names = sorted(name for name in below if "/" not in name and name > message.after)
        page = names[: self.page]
        children = data_pb2.Children(names=page, more=len(names) > len(page))
        if message.with_nodes:
            children.nodes.extend(self.nodes[prefix + name] for name in page)
        return children

    # Inner parts

    def end_session(self, session_id: int) -> None:
        """Delete all ephemeral nodes of a session in one transaction."""
        gone = [path for path, node in self.nodes.items() if node.stat.ephemeral_owner == session_id]
        for path in gone:
            self._changed(data_pb2.DELETED, self.nodes.pop(path))
            self._children_changed(path)
        if gone:
            self.zxid += 1

    def _children_changed(self, path: str) -> None:
        """Note at the parent that a child has come or gone."""
        parent_path = path.rpartition("/")[0] or "/"
        parent = data_pb2.Node()
        parent.CopyFrom(self.nodes[parent_path])
        parent.stat.pzxid = self.zxid + 1
        parent.stat.cversion += 1
        parent.stat.num_children += 1 if path in self.nodes else -1
        self.nodes[parent_path] = parent

    def _find(self, path: str) -> data_pb2.Node:
        node = self.nodes.get(path)
        if node is None:
            raise RefusedError(Code.NO_NODE, path)
        return node

    def _check_version(self, node: data_pb2.Node, version: int) -> None:
        if version not in (-1, node.stat.version):
            raise RefusedError(
                Code.BAD_VERSION, node.path, expected_version=version, actual_version=node.stat.version
            )

    def _changed(self, kind: data_pb2.EventType.ValueType, node: data_pb2.Node) -> None:
        value = b"" if kind == data_pb2.DELETED else node.value
        change = data_pb2.Change(type=kind, path=node.path, zxid=self.zxid + 1, value=value, stat=node.stat)
        self.changes.append(change)
