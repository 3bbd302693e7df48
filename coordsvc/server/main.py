"""The composition root: opens the data, builds the member and its servers, runs them until told to stop.

Rule of this file: every task has an owner, and one that dies takes the process with it, with the reason in
one line on standard error and exit code 1.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import resource
import signal
import sys

import uvloop

from coordsvc.config import ConfigError, ServerConfig, split_address
from coordsvc.server import logs
from coordsvc.server.admin import AdminServer
from coordsvc.server.grpc_server import GrpcServer
from coordsvc.server.joining import JoinFailedError, join
from coordsvc.server.member import Member, MemberStopsError
from coordsvc.server.opening import open_member
from coordsvc.server.status import is_ready
from coordsvc.statemachine.errors import CorruptStateError
from coordsvc.storage.data_directory import read_identity
from coordsvc.storage.errors import StorageError
from coordsvc.transport.listener import ListenError

EXIT_OK = 0
EXIT_FAILED = 1
_GRACE_S = 1.0
_LAST_WORD_S = 0.5
# The storage thread comes back from the disk while the event loop computes: it must not wait for the 5 ms
# that CPython gives a busy thread by default.
_SWITCH_INTERVAL_S = 0.0002


class _StopRequestedError(Exception):
    """Somebody asked the process to stop: an ordinary end."""


class MemberRemovedError(Exception):
    """The cluster goes on without this member: an ordinary end, with a message for people."""


class AddressError(Exception):
    """An address that this member should listen on cannot be had."""


async def serve(config: ServerConfig) -> None:
    """Run one member until SIGTERM or SIGINT. Any failure inside is raised."""
    joined = None
    if config.join and read_identity(config.data_dir) is None:
        joined = await join(config)
    opened = open_member(config, joined)
    member = Member(config, opened)
    grpc_server = GrpcServer(member, config.listen)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    try:
        await _start_listening(grpc_server, config)
        # What start-up made lives as long as the process: the collector need not look at it again.
        gc.collect()
        gc.freeze()
        gc.set_threshold(50_000, 20, 50)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(member.run(), name="member")
            tasks.create_task(_run_admin(member, config), name="admin")
            tasks.create_task(_report_health(member, grpc_server), name="health")
            tasks.create_task(_stop_when_asked(stop, member, grpc_server), name="stop")
            tasks.create_task(_stop_when_removed(member, grpc_server), name="removal")
    except* _StopRequestedError:
        logs.log(logging.INFO, "stopped")
    finally:
        member.end_session_streams()
        await grpc_server.stop(_LAST_WORD_S)
        await member.close()


async def _start_listening(grpc_server: GrpcServer, config: ServerConfig) -> None:
    try:
        await grpc_server.start()
    except RuntimeError as error:
        raise AddressError(
            f"cannot listen for clients on {config.listen}: is another server running there? "
            "Stop it, or choose another --listen"
        ) from error


async def _run_admin(member: Member, config: ServerConfig) -> None:
    host, port = split_address("admin_listen", config.admin_listen, port_min=0)
    try:
        await AdminServer(member).run(host, port)
    except OSError as error:
        raise AddressError(
            f"cannot listen for health checks on {config.admin_listen}: {error.strerror}. "
            "Choose another --admin-listen"
        ) from error


async def _report_health(member: Member, grpc_server: GrpcServer) -> None:
    while True:
        member.readiness_changed.clear()
        await grpc_server.set_serving(serving=is_ready(member))
        await member.readiness_changed.wait()


async def _stop_when_asked(stop: asyncio.Event, member: Member, grpc_server: GrpcServer) -> None:
    await stop.wait()
    logs.log(logging.INFO, "stopping")
    await _stop_in_good_order(member, grpc_server)
    raise _StopRequestedError


async def _stop_when_removed(member: Member, grpc_server: GrpcServer) -> None:
    reason = await member.removed
    logs.log(logging.INFO, "removed")
    await _stop_in_good_order(member, grpc_server)
    raise MemberRemovedError(reason)


async def _stop_in_good_order(member: Member, grpc_server: GrpcServer) -> None:
    await member.stop_gracefully()
    await grpc_server.set_serving(serving=False)
    await grpc_server.stop(_GRACE_S)


def run(config: ServerConfig) -> int:
    """Run one member; returns the exit code. Prints one line if it had to stop."""
    logs.configure(config.log_level, config.log_format)
    sys.setswitchinterval(_SWITCH_INTERVAL_S)
    _allow_many_open_files()
    exit_code = EXIT_OK
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(serve(config))
    except* MemberRemovedError as group:
        _say_why(config, group)
    except* (
        StorageError,
        CorruptStateError,
        AddressError,
        MemberStopsError,
        ListenError,
        JoinFailedError,
        ConfigError,
    ) as group:
        exit_code = EXIT_FAILED
        _say_why(config, group)
    return exit_code


def _say_why(config: ServerConfig, group: BaseExceptionGroup[BaseException]) -> None:
    """Print the last word."""
    try:
        identity = read_identity(config.data_dir)
    except StorageError:
        identity = None
    name = identity.member if identity is not None else config.name or "this server"
    print(f"coordsvc: {name} stops: {_first_reason(group)}", file=sys.stderr)  # noqa: T201 - to people


def _allow_many_open_files() -> None:
    """Each client takes a descriptor, and 1,024 is a usual limit: use all that the system lets us have."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard == resource.RLIM_INFINITY or soft == hard:
        return  # Some systems say "infinity" and do not mean it.
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _first_reason(group: BaseExceptionGroup[BaseException]) -> BaseException:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
