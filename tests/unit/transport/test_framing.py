"""Frames out of a stream: the same however the stream is cut, and never more memory than one frame."""

from __future__ import annotations

import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordsvc.transport.framing import FrameReader, FrameTooLarge, join_frames, with_length


@given(st.lists(st.binary(min_size=1, max_size=30), max_size=8), st.lists(st.integers(1, 40), max_size=20))
def test_frames_come_out_as_they_went_in_however_the_stream_is_cut(
    frames: list[bytes], cuts: list[int]
) -> None:
    stream = join_frames(frames)
    reader = FrameReader(30)
    received: list[bytes] = []
    for cut in [*cuts, len(stream)]:
        received += reader.feed(stream[:cut])
        stream = stream[cut:]

    assert received == frames
    assert reader.buffered_bytes == 0


def test_all_frames_of_one_read_come_at_once() -> None:
    reader = FrameReader(100)

    assert reader.feed(with_length(b"a") + with_length(b"bc") + with_length(b"def")[:5]) == [b"a", b"bc"]
    assert reader.feed(with_length(b"def")[5:]) == [b"def"]


@pytest.mark.parametrize("length", [0, 101, 2**31, 2**32 - 1])
def test_an_empty_or_too_large_frame_is_refused_at_its_length(length: int) -> None:
    reader = FrameReader(100)
    reader.feed(length.to_bytes(4, "big")[:2])

    with pytest.raises(FrameTooLarge, match=f"a frame of {length} bytes"):
        reader.feed(length.to_bytes(4, "big")[2:])


def test_a_large_frame_in_many_reads_costs_little_more_than_itself() -> None:
    reader = FrameReader(8 << 20)
    piece = bytes(64 << 10)
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    reader.feed((8 << 20).to_bytes(4, "big"))
    for _ in range(127):
        assert reader.feed(piece) == []
    (frame,) = reader.feed(piece)
    peak = tracemalloc.get_traced_memory()[1] - before
    tracemalloc.stop()

    assert len(frame) == 8 << 20
    assert peak < 30 << 20
