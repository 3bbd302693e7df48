"""Transactions: compares, a list of operations if they hold, and another if they do not.

Rule of this file: all or nothing, and a failure is raised, never returned.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Literal, Self, TypeAlias

from coordclient.errors import ClientStateError, CompareFailedError, InvalidArgumentError
from coordclient.messages import create_mode, fill_create, fill_delete, fill_set
from coordclient.types import ANY_VERSION, OperationResult
from coordproto.v1 import data_pb2

CompareTarget: TypeAlias = Literal[
    "exists", "version", "cversion", "czxid", "mzxid", "pzxid", "ephemeral_owner", "num_children", "value"
]
CompareOperator: TypeAlias = Literal["==", "!=", "<", ">"]

_TARGETS: dict[str, data_pb2.Compare.Target.ValueType] = {
    "exists": data_pb2.Compare.EXISTS,
    "version": data_pb2.Compare.VERSION,
    "cversion": data_pb2.Compare.CVERSION,
    "czxid": data_pb2.Compare.CZXID,
    "mzxid": data_pb2.Compare.MZXID,
    "pzxid": data_pb2.Compare.PZXID,
    "ephemeral_owner": data_pb2.Compare.EPHEMERAL_OWNER,
    "num_children": data_pb2.Compare.NUM_CHILDREN,
    "value": data_pb2.Compare.VALUE,
}
_OPERATORS: dict[str, data_pb2.Compare.Operator.ValueType] = {
    "==": data_pb2.Compare.EQUAL,
    "!=": data_pb2.Compare.NOT_EQUAL,
    "<": data_pb2.Compare.LESS,
    ">": data_pb2.Compare.GREATER,
}

FullPath = Callable[[str], str]


class Branch:
    """A list of operations, carried out in order, all or none."""

    def __init__(self, full_path: FullPath) -> None:
        self._full_path = full_path
        self.operations: list[data_pb2.TransactionOp] = []

    def __len__(self) -> int:
        return len(self.operations)

    def _add(self) -> data_pb2.TransactionOp:
        operation = data_pb2.TransactionOp()
        self.operations.append(operation)
        return operation

    def create(
        self,
        path: str,
        value: bytes = b"",
        *,
        ephemeral: bool = False,
        sequential: bool = False,
        container: bool = False,
        ttl: float | None = None,
        linger: float = 0.0,
        parents: bool = False,
    ) -> None:
        """Create a node, with the options of `AsyncClient.create`; answers `Created(path, stat)`."""
        mode = create_mode(
            ephemeral=ephemeral, sequential=sequential, container=container, ttl=ttl, linger=linger
        )
        full_path = self._full_path(path)
        fill_create(self._add().create, full_path, value, mode=mode, ttl=ttl, parents=parents, linger=linger)

    def set(self, path: str, value: bytes, *, version: int | None = None) -> None:
        """Set a node's value, with `version` only if that is its present version; answers the new `Stat`."""
        fill_set(self._add().set, self._full_path(path), value, version)

    def delete(self, path: str, *, version: int | None = None, recursive: bool = False) -> None:
        """Delete a node, with `recursive` and all below it; answers `Deleted(count)`, how many nodes went."""
        fill_delete(self._add().delete, self._full_path(path), version, recursive=recursive)

    def check(
        self, path: str, *, version: int | None = None, czxid: int | None = None, absent: bool = False
    ) -> None:
        """Fail the transaction unless the node exists and matches; with `absent`, unless there is none."""
        check = self._add().check
        check.path = self._full_path(path)
        if version is not None and version != ANY_VERSION:
            check.version = version
        if czxid is not None:
            check.czxid = czxid
        check.absent = absent

    def get(self, path: str) -> None:
        """Read a node as it is at this point of the transaction; answers a `Node`."""
        self._add().get.path = self._full_path(path)

    def exists(self, path: str) -> None:
        """Look whether a node exists at this point of the transaction; answers its `Stat`, or None."""
        self._add().exists.path = self._full_path(path)

    def get_children(self, path: str) -> None:
        """Read the names of a node's children, sorted; answers the first page of them, as a list."""
        self._add().list_children.path = self._full_path(path)


class TransactionBuilder(Branch):
    """What is to be done: the operations added here if every compare holds, else those of `otherwise`.

    Attributes:
        otherwise: The other branch.
        succeeded: After the commit: whether the compares held.
        results: After the commit: the answers of the branch that was carried out, in order.
    """

    def __init__(self, full_path: FullPath) -> None:
        super().__init__(full_path)
        self._compares: list[data_pb2.Compare] = []
        self.otherwise = Branch(full_path)
        self.succeeded: bool | None = None
        self.results: list[OperationResult] = []
        self.is_committed = False

    def compare(
        self, path: str, target: CompareTarget, operator: CompareOperator, operand: int | bool | bytes
    ) -> None:
        """Add a condition, for example `compare("/a", "version", "==", 3)`.

        For a missing node every number is -1, `exists` is 0, and `value` equals nothing and is less than all.
        """
        if target not in _TARGETS or operator not in _OPERATORS:
            raise InvalidArgumentError(f"there is no compare {target!r} {operator!r}", path=path)
        if isinstance(operand, bytes) != (target == "value"):
            raise InvalidArgumentError(f"{target} cannot be compared with {operand!r}", path=path)
        compare = data_pb2.Compare(
            path=self._full_path(path), target=_TARGETS[target], operator=_OPERATORS[operator]
        )
        if isinstance(operand, bytes):
            compare.value = operand
        else:
            compare.number = int(operand)
        self._compares.append(compare)

    def message(self) -> data_pb2.Transaction:
        """For the client: the request. ClientStateError the second time: a transaction is committed once."""
        if self.is_committed:
            raise ClientStateError("this transaction has been committed already; begin a new one")
        self.is_committed = True
        return data_pb2.Transaction(
            compares=self._compares, success=self.operations, failure=self.otherwise.operations
        )

    def is_empty(self) -> bool:
        """Return whether there is nothing to commit; the end of a `with` commits no empty transaction."""
        return not self.operations and not self._compares

    def take(self, succeeded: bool, results: list[OperationResult]) -> list[OperationResult]:
        """Note the outcome. Raises CompareFailedError if nothing was asked for in that case."""
        self.succeeded = succeeded
        self.results = results
        if not succeeded and not len(self.otherwise):
            raise CompareFailedError("a compare of the transaction did not hold; nothing was changed")
        return results


Commit = Callable[[TransactionBuilder], Coroutine[None, None, list[OperationResult]]]


class AsyncTransaction(TransactionBuilder):
    """A transaction of an AsyncClient: commits at the end of `async with`, unless the body raised."""

    def __init__(self, full_path: FullPath, commit: Commit) -> None:
        super().__init__(full_path)
        self.committer = commit

    async def commit(self) -> list[OperationResult]:
        """Carry the transaction out and return the answers of the branch that was taken.

        Raises:
            TransactionError: An operation failed; nothing changed.
            CompareFailedError: The compares did not hold, and there is nothing in `otherwise`.
        """
        return await self.committer(self)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None and not self.is_committed and not self.is_empty():
            await self.commit()
