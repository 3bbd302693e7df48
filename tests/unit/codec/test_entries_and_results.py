"""What is joined from encoded parts is what protobuf itself would have made."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from coordproto.v1 import coordination_pb2, data_pb2, log_pb2
from coordsvc.codec import entries, results
from coordsvc.statemachine.changes import Change, ChangeType
from coordsvc.statemachine.results import Created, ErrorCode, Failure
from coordsvc.statemachine.types import Stat

STAT = Stat(1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11)


def test_the_numbers_of_the_error_codes_are_those_of_the_wire() -> None:
    assert {code.name: code.value for code in ErrorCode} == dict(data_pb2.ErrorCode.items())


@given(st.integers(0, (1 << 62)), st.lists(st.binary(max_size=300), max_size=5))
def test_joined_commands_are_an_entry_batch(time_ms: int, writes: list[bytes]) -> None:
    commands = [
        entries.session_writes("a", number, 7, number + 1, number, data) for number, data in enumerate(writes)
    ]
    batch = entries.split_entry(entries.join_commands(time_ms, commands))
    assert batch.time_ms == time_ms
    assert [command.session_writes.writes for command in batch.commands] == writes
    expected = log_pb2.EntryBatch(
        time_ms=time_ms, commands=[log_pb2.Command.FromString(data) for data in commands]
    )
    assert batch == expected


@given(st.lists(st.integers(1, (1 << 64) - 1), min_size=1, max_size=5), st.binary(max_size=500))
def test_a_wrapped_event_is_a_delivery(watch_ids: list[int], value: bytes) -> None:
    change = Change(ChangeType.CHANGED, "/a", 9, value, STAT)
    event = results.encode_event(1, "/a", 9, change, with_value=True)
    item = coordination_pb2.ServerItem.FromString(
        results.delivery_item(results.encode_watch_ids(watch_ids), event)
    )
    assert list(item.delivery.watch_ids) == watch_ids
    assert item.delivery.event.value == value
    assert item.delivery.event.stat == results.encode_stat(STAT)


@given(st.lists(st.integers(1, 1000), max_size=20))
def test_joined_items_are_a_server_frame(pongs: list[int]) -> None:
    frame = coordination_pb2.ServerFrame.FromString(
        results.join_items([results.pong_item(pong) for pong in pongs])
    )
    assert [item.pong for item in frame.items] == pongs


def test_values_stay_out_of_events_that_did_not_ask_for_them() -> None:
    change = Change(ChangeType.CREATED, "/a", 9, b"secret", STAT)
    event = data_pb2.Event.FromString(results.encode_event(0, "/a", 9, change, with_value=False))
    assert event.value == b""
    assert event.stat.czxid == 1


def test_a_failure_keeps_all_that_it_knows() -> None:
    failure = Failure(
        ErrorCode.TRANSACTION_FAILED,
        "operation 1 (set /a) failed",
        "/a",
        expected_version=3,
        actual_version=4,
        failed_index=1,
        op_codes=[ErrorCode.OK, ErrorCode.BAD_VERSION],
    )
    error = results.encode_failure(failure)
    assert (error.expected_version, error.actual_version, error.failed_index) == (3, 4, 1)
    assert list(error.op_codes) == [data_pb2.OK, data_pb2.BAD_VERSION]
    assert not error.safe_to_retry


def test_an_absent_version_is_told_from_version_zero() -> None:
    error = results.encode_failure(Failure(ErrorCode.NO_NODE, "", "/a"))
    assert not error.HasField("expected_version")
    zero = results.encode_failure(Failure(ErrorCode.BAD_VERSION, "", "/a", expected_version=0))
    assert zero.HasField("expected_version")


def test_the_stat_of_a_created_node_arrives_whole() -> None:
    item = coordination_pb2.ServerItem.FromString(results.write_item(3, 9, Created("/a", STAT)))
    assert item.write.sequence == 3
    assert results.encode_stat(STAT) == item.write.created.stat
