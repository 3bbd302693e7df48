"""What a peer forwards is checked before it can enter the log, where it would stay."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordproto.v1 import data_pb2, log_pb2
from coordsvc.codec import entries
from coordsvc.codec.operations import decode_writes
from coordsvc.codec.peer_messages import MalformedFrame

WRITES = data_pb2.WriteBatch(writes=[data_pb2.Write(set=data_pb2.Set(path="/a"))]).SerializeToString()
COMMANDS = [
    entries.session_writes("a", 1, 7, 1, 0, WRITES),
    entries.anonymous_writes("a", 1, WRITES),
    entries.open_session("a", 1, b"secret", 1000, "somebody"),
    entries.attach_session("a", 1, 7, b"secret"),
    entries.end_session("a", 1, 7, expired=False),
    entries.reap(["/a"]),
]


@pytest.mark.parametrize("command", COMMANDS)
def test_what_members_forward_is_let_through(command: bytes) -> None:
    entries.check_command(command)


@pytest.mark.parametrize(
    "command",
    [
        b"\xff\xff\xff",
        b"",
        log_pb2.Command(origin="a", request_id=1).SerializeToString(),
        entries.session_writes("a", 1, 7, 1, 0, b"\xff\xff\xff"),
        entries.anonymous_writes("a", 1, WRITES[:-1]),
    ],
)
def test_what_no_member_could_apply_is_refused(command: bytes) -> None:
    with pytest.raises(MalformedFrame, match="forwarded command"):
        entries.check_command(command)


@given(st.sampled_from(COMMANDS), st.data())
def test_a_damaged_command_that_is_let_through_can_be_applied(command: bytes, data: st.DataObject) -> None:
    """One byte is changed: whatever the check lets through, the way to the state machine can decode."""
    position = data.draw(st.integers(0, len(command) - 1))
    damaged = bytearray(command)
    damaged[position] = data.draw(st.integers(0, 255))
    try:
        entries.check_command(bytes(damaged))
    except MalformedFrame:
        return
    [decoded] = entries.split_entry(entries.join_commands(0, [bytes(damaged)])).commands
    decode_writes(decoded.session_writes.writes)
    decode_writes(decoded.anonymous_writes.writes)
