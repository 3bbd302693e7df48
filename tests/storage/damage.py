"""How to hurt a directory: bits, cuts, and images of it as a crash would leave it.

Rule of this file: the original is never touched; every trial works on a copy of its own.
"""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from coordsvc.storage.sync_mark import mark_path


def offsets(path: Path, count: int, seed: int) -> list[int]:
    """Choose up to `count` offsets of a file: its first and last 64 bytes' worth, and random ones."""
    size = path.stat().st_size
    edges = [*range(min(size, 64)), *range(max(0, size - 64), size)]
    dice = random.Random(seed)
    inner = dice.sample(range(size), min(count, size))
    dice.shuffle(edges)
    return sorted({*edges[: count // 2], *inner[: count - count // 2]})


def with_bit_flipped(original: Path, copy: Path, file: str, offset: int, bit: int) -> Path:
    """Make `copy` the same as `original`, but for one bit of `file`."""
    _copy(original, copy)
    with (copy / file).open("r+b") as target:
        target.seek(offset)
        byte = target.read(1)[0]
        target.seek(offset)
        target.write(bytes([byte ^ 1 << bit]))
    return copy


def with_file_cut(original: Path, copy: Path, file: str, length: int) -> Path:
    """Make `copy` the same as `original`, but `file` only `length` bytes long."""
    _copy(original, copy)
    os.truncate(copy / file, length)
    return copy


@contextmanager
def images_at_every_step(
    directory: Path, images: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[], None]]:
    """Keep an image of `directory` from before and after every sync and rename, and whenever asked to.

    An image is what a killed process leaves behind at that moment.
    """
    number = 0

    def keep_image() -> None:
        nonlocal number
        number += 1
        _copy(directory, images / f"{number:03d}")

    sync, rename = os.fsync, Path.rename

    def sync_between_images(descriptor: int) -> None:
        keep_image()
        sync(descriptor)
        keep_image()

    def rename_between_images(source: Path, target: Path) -> Path:
        keep_image()
        result = rename(source, target)
        keep_image()
        return result

    with monkeypatch.context() as patches:
        patches.setattr("os.fsync", sync_between_images)
        patches.setattr("pathlib.Path.rename", rename_between_images)
        yield keep_image


def _copy(original: Path, copy: Path) -> None:
    if copy.exists():
        shutil.rmtree(copy)
    shutil.copytree(original, copy)
    if mark_path(original).exists():
        shutil.copy(mark_path(original), mark_path(copy))
