"""ConfigValue: the value of one node, decoded, always at hand, and changed by compare-and-set.

Rule of this file: the value that the application sees is always one that could be decoded. What cannot be
is kept as `error`, and the last good value stays.
"""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator, Callable, Iterator
from types import TracebackType
from typing import Any, Generic, Self, TypeVar, overload

from coordclient.errors import (
    BadVersionError,
    ClientStateError,
    CompareFailedError,
    InvalidPathError,
    InvalidValueError,
    NodeExistsError,
    NoNodeError,
    OutcomeUnknownError,
    RecipeTimeoutError,
    SessionExpiredError,
    TransactionError,
)
from coordclient.operations import Operations
from coordclient.recipes.deadlines import FOREVER
from coordclient.recipes.faces import BlockingFace, iterate
from coordclient.recipes.following import Following
from coordclient.recipes.mirror import CacheChange
from coordclient.types import Created, Node, Stat

logger = logging.getLogger("coordclient.recipes")

T = TypeVar("T")

#: The value of a node that does not exist, unless the application says otherwise.
NOTHING: Any = None


def decode_json(value: bytes) -> Any:  # JSON as the application chose it
    """Return what a node's JSON text says."""
    return json.loads(value)


def encode_json(value: Any) -> bytes:  # JSON as the application chose it
    """Return a value as JSON text, the same for equal values."""
    return json.dumps(value, ensure_ascii=False, sort_keys=True).encode()


class AsyncConfigValue(Generic[T]):
    """The decoded value of one node, kept up to date. Use it in `async with`, or `start()` and `close()` it.

    Guarantees: `value` is what the node held at some time, and only moves forward; every later value
    arrives, also when the node is deleted (then it is `default`) and made anew. A value that cannot be
    decoded changes nothing but `error`. `update` and `set` never overwrite what they have not taken into
    account; when they return, `value` is what they wrote, or newer.

    SUSPENDED: `value` stays, and `is_stale` is true until what happened meanwhile is in.

    LOST: the same. An `update` or `set` that was under way is repeated if nobody has written since;
    otherwise it cannot be known whether it was applied, and OutcomeUnknownError says so.
    """

    @overload
    def __init__(
        self: AsyncConfigValue[Any],  # JSON as the application chose it
        client: Operations,
        path: str,
        *,
        encode: Callable[[Any], bytes] = encode_json,
        default: Any = NOTHING,
    ) -> None: ...  # pragma: no cover

    @overload
    def __init__(
        self,
        client: Operations,
        path: str,
        *,
        decode: Callable[[bytes], T],
        encode: Callable[[T], bytes] = encode_json,
        default: T = NOTHING,
    ) -> None: ...  # pragma: no cover

    def __init__(
        self,
        client: Operations,
        path: str,
        *,
        decode: Callable[[bytes], T] = decode_json,
        encode: Callable[[T], bytes] = encode_json,
        default: T = NOTHING,
    ) -> None:
        """Describe the value at a path.

        Args:
            decode: Makes a value of the node's bytes; any exception means that it is not valid.
            encode: Makes the node's bytes of a value; for `update` and `set`.
            default: The value as long as there is no node.
        """
        if path == "/" or not path.startswith("/"):
            raise InvalidPathError('a config value needs a path like "/config/name"', path=path)
        self.path = path
        self._client = client
        self._decode = decode
        self._encode = encode
        self._default = default
        self._value = default
        self._version = 0
        self._error: InvalidValueError | None = None
        self._changes = 0
        self._following = Following(client, path, recursive=False, publish=self._node_changed)

    def __repr__(self) -> str:
        state = "stale" if self.is_stale else "fresh"
        return f"<AsyncConfigValue {self.path} version={self._version} {state}>"

    # -----------------------------------------------------------------------------------------
    # Following

    async def start(self, *, timeout: float | None = None) -> Self:
        """Begin, and return once the value has been read.

        Args:
            timeout: How many seconds to wait at most; None: as long as it takes. RecipeTimeoutError after.
        """
        await self._following.start(timeout=timeout)
        return self

    async def close(self) -> None:
        """Follow no more. The value stays as it is; whoever iterates over `watch()` comes to the end."""
        await self._following.close()

    async def __aenter__(self) -> Self:
        return await self.start()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    @property
    def value(self) -> T:
        """Return the last good value; `default` if there is no node."""
        self._following.check_started()
        return self._value

    @property
    def version(self) -> int:
        """Return the transaction that wrote the value, for `expected_version=`; 0 if there is no node."""
        return self._version

    @property
    def is_stale(self) -> bool:
        """Return whether the service may know more: not started, or the connection is not back yet."""
        return self._following.is_stale

    @property
    def error(self) -> InvalidValueError | None:
        """Return why the node's present bytes could not be decoded; None if they could."""
        return self._error

    async def changed(self) -> T:
        """Wait for the next change of the value, and return the new one. As long as it takes.

        Raises:
            ClientStateError: It was not started, or it is closed, also while this waits.
        """
        self._following.check_open()
        self._following.check_started()
        changes = self._changes
        await self._following.wait_until(lambda: self._changes != changes)
        return self._value

    async def watch(self) -> AsyncIterator[T]:
        """Yield the value, and then each new one. A slow reader gets the latest only. Ends with `close()`."""
        changes = -1
        while not self._following.is_closed:
            if changes != self._changes:
                changes = self._changes
                yield self.value
                continue
            try:
                await self._following.wait_until(lambda seen=changes: self._changes != seen)  # type: ignore[misc]  # bound now, on purpose
            except ClientStateError:
                if not self._following.is_closed:
                    raise

    def _node_changed(self, changes: list[CacheChange]) -> None:
        if not changes:
            return
        node = changes[-1].node
        try:
            value = self._default if node is None else self._decode(node.value)
        except Exception as error:  # noqa: BLE001  # whatever the application's decoder raises
            self._error = self._invalid(error)
            logger.warning("%s; the last good value stays", self._error)
            return
        self._error = None
        self._value = value
        self._version = 0 if node is None else node.stat.mzxid
        self._changes += 1

    def _invalid(self, reason: Exception) -> InvalidValueError:
        error = InvalidValueError(f"{self.path} cannot be decoded: {reason!r}", path=self.path)
        error.__cause__ = reason
        return error

    # -----------------------------------------------------------------------------------------
    # Writing

    async def update(self, function: Callable[[T], T]) -> T:
        """Replace the value by `function(value)`, and return the new one.

        The function is given what the service holds, and is called again if somebody else was faster: it
        should do nothing but compute.

        Raises:
            InvalidValueError: What the node holds cannot be decoded; it was not touched.
            OutcomeUnknownError: See the class.
        """
        while True:
            node = await self._read()
            try:
                before = self._default if node is None else self._decode(node.value)
            except Exception as error:
                raise self._invalid(error) from error
            after = function(before)
            if await self._write(node, self._encode(after)):
                return after

    async def set(self, value: T, *, expected_version: int | None = None) -> int:
        """Replace the value, and return its version.

        Args:
            expected_version: Only if `version` is still this; 0: only if there is no node.

        Raises:
            BadVersionError: The version is another one; nothing was changed.
            OutcomeUnknownError: See the class.
        """
        encoded = self._encode(value)
        while True:
            node = await self._read()
            version = 0 if node is None else node.stat.mzxid
            if expected_version not in (None, version):
                raise BadVersionError(
                    f"{self.path} has version {version} and not {expected_version}; read it again",
                    path=self.path,
                    expected=expected_version,
                    actual=version,
                )
            written = await self._write(node, encoded)
            if written:
                return written

    async def _read(self, *, timeout: float | None = None) -> Node | None:
        while True:
            try:
                return await self._client.get(self.path, timeout=timeout)
            except NoNodeError:
                return None
            except SessionExpiredError:
                continue

    async def _write(self, node: Node | None, value: bytes) -> int:
        """Write if the node is still as it was; return the transaction, or 0 if it is not."""
        is_doubtful = False
        while True:
            try:
                zxid = await self._commit(node, value)
            except (SessionExpiredError, OutcomeUnknownError) as error:
                is_doubtful |= error.may_have_been_applied
            else:
                if zxid:
                    await self._see(zxid)
                    return zxid
                if not is_doubtful:
                    return 0
            present = await self._read(timeout=FOREVER) if is_doubtful else node
            if _version(present) != _version(node):
                raise OutcomeUnknownError(
                    f"the session was lost while {self.path} was being written, and it has been written"
                    " since: whether this write was applied cannot be known",
                    path=self.path,
                )
            # Nobody has written: the same again, and only one of the two can be applied.

    async def _commit(self, node: Node | None, value: bytes) -> int:
        transaction = self._client.transaction(timeout=FOREVER)
        if node is None:
            transaction.compare(self.path, "exists", "==", 0)
            transaction.create(self.path, value, parents=True)
        else:
            transaction.compare(self.path, "mzxid", "==", node.stat.mzxid)
            transaction.set(self.path, value)
        try:
            (result,) = await transaction.commit()
        except CompareFailedError:
            return 0
        except TransactionError as error:
            if isinstance(error.cause, NoNodeError | NodeExistsError):
                return 0
            raise
        stat = result.stat if isinstance(result, Created) else result
        assert isinstance(stat, Stat), "set or created"
        return stat.mzxid

    async def _see(self, zxid: int) -> None:
        """Wait until what was written has come back. It is written in any case."""
        if not self._following.is_started or self._following.is_closed:
            return
        try:
            await self._following.wait_for(zxid, timeout=self._client.request_timeout)
        except (RecipeTimeoutError, ClientStateError):
            return


def _version(node: Node | None) -> int:
    return 0 if node is None else node.stat.mzxid


# ---------------------------------------------------------------------------------------------
# For threads


class ConfigValue(Generic[T]):
    """The decoded value of one node, kept up to date, for threads. Use it in `with`, or call `start()`.

    Guarantees and duties are those of `AsyncConfigValue`: it only moves forward and keeps the last good
    value; through SUSPENDED and LOST it keeps its value and says `is_stale`. `decode`, `encode` and the
    function of `update` run on the client's event loop: they must not block, nor call the client.
    """

    @overload
    def __init__(
        self: ConfigValue[Any],  # JSON as the application chose it
        client: BlockingFace,
        path: str,
        *,
        encode: Callable[[Any], bytes] = encode_json,
        default: Any = NOTHING,
    ) -> None: ...  # pragma: no cover

    @overload
    def __init__(
        self,
        client: BlockingFace,
        path: str,
        *,
        decode: Callable[[bytes], T],
        encode: Callable[[T], bytes] = encode_json,
        default: T = NOTHING,
    ) -> None: ...  # pragma: no cover

    def __init__(
        self,
        client: BlockingFace,
        path: str,
        *,
        decode: Callable[[bytes], T] = decode_json,
        encode: Callable[[T], bytes] = encode_json,
        default: T = NOTHING,
    ) -> None:
        """Describe the value at a path; see `AsyncConfigValue`."""
        self._portal = client.portal
        self._config = AsyncConfigValue(
            client.asynchronous, path, decode=decode, encode=encode, default=default
        )
        self.path = path

    def __repr__(self) -> str:
        return repr(self._config).replace("AsyncConfigValue", "ConfigValue", 1)

    def start(self, *, timeout: float | None = None) -> Self:
        """Begin, and return once the value has been read."""
        self._portal.run(self._config.start(timeout=timeout))
        return self

    def close(self) -> None:
        """Follow no more. The value stays as it is; whoever iterates over `watch()` comes to the end."""
        self._portal.run(self._config.close())

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def value(self) -> T:
        """Return the last good value; `default` if there is no node."""
        return self._config.value

    @property
    def version(self) -> int:
        """Return the transaction that wrote the value, for `expected_version=`; 0 if there is no node."""
        return self._config.version

    @property
    def is_stale(self) -> bool:
        """Return whether the service may know more: not started, or the connection is not back yet."""
        return self._config.is_stale

    @property
    def error(self) -> InvalidValueError | None:
        """Return why the node's present bytes could not be decoded; None if they could."""
        return self._config.error

    def changed(self) -> T:
        """Wait for the next change of the value, and return the new one."""
        return self._portal.run(self._config.changed())

    def watch(self) -> Iterator[T]:
        """Yield the value, and then each new one. A slow reader gets the latest only. Ends with `close()`."""
        return iterate(self._portal, self._config.watch())

    def update(self, function: Callable[[T], T]) -> T:
        """Replace the value by `function(value)`, and return the new one."""
        return self._portal.run(self._config.update(function))

    def set(self, value: T, *, expected_version: int | None = None) -> int:
        """Replace the value, and return its version; BadVersionError if `expected_version` is another."""
        return self._portal.run(self._config.set(value, expected_version=expected_version))
