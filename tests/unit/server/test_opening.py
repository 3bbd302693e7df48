"""Who a member is when it starts: by its settings the first time, by its data directory ever after."""

from __future__ import annotations

from pathlib import Path

import pytest

from coordsvc.codec.cluster_configuration import NOBODY, encode_cluster_configuration
from coordsvc.config import ServerConfig
from coordsvc.raft.types import Configuration, Entry, HardState
from coordsvc.server.opening import OpenedMember, open_member
from coordsvc.statemachine.errors import CorruptStateError
from coordsvc.storage.data_directory import StoredIdentity
from coordsvc.storage.errors import ForeignDataError

THREE = "a=h:1,b=h:2,c=h:3"
JOINED = StoredIdentity("cluster", "d", 77, "a=h:1,b=h:2", 12, 3)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data"


def opened_and_closed(config: ServerConfig, joined: StoredIdentity | None = None) -> OpenedMember:
    opened = open_member(config, joined)
    opened.close()
    return opened


def test_a_founder_begins_with_the_founders(path: Path) -> None:
    opened = opened_and_closed(ServerConfig(name="b", initial_cluster=THREE, data_dir=path))

    assert opened.replica.state.raft.configuration == Configuration(("a", "b", "c"))
    assert opened.replica.roster.applied.record("c") is not None


def test_it_starts_again_without_being_told_anything(path: Path) -> None:
    first = opened_and_closed(ServerConfig(name="b", initial_cluster=THREE, data_dir=path))
    again = opened_and_closed(ServerConfig(data_dir=path))

    assert again.identity == first.identity
    assert again.replica.state.name == "b"
    assert again.replica.state.raft.configuration == Configuration(("a", "b", "c"))


@pytest.mark.parametrize(
    "other",
    [
        {"name": "a"},
        {"initial_cluster": "b=h:2,c=h:3", "name": "b"},
        {"name": "c", "initial_cluster": THREE},
    ],
)
def test_what_contradicts_the_data_is_refused(path: Path, other: dict[str, str]) -> None:
    opened_and_closed(ServerConfig(name="b", initial_cluster=THREE, data_dir=path))

    with pytest.raises(ForeignDataError, match="belongs to member 'b'"):
        open_member(ServerConfig(data_dir=path, **other))  # type: ignore[arg-type]  # settings that are texts


def test_a_joiner_begins_with_nobody_and_knows_whom_to_talk_to(path: Path) -> None:
    opened = opened_and_closed(ServerConfig(join="h:7400", data_dir=path), JOINED)

    assert opened.identity == JOINED
    assert opened.replica.state.raft.configuration == Configuration(())
    members = opened.replica.take_effects().members
    assert members is not None
    assert {name: record.peer_address for name, record in members.items()} == {"a": "h:1", "b": "h:2"}
    assert opened.replica.roster.known_index == 12


def test_consensus_is_told_from_where_on_a_joiner_counts(path: Path) -> None:
    """Also at every later start: its name may have been that of another disk before."""
    opened_and_closed(ServerConfig(join="h:7400", data_dir=path), JOINED)
    raft = opened_and_closed(ServerConfig(data_dir=path)).replica.state.raft

    assert raft.state.joined == (3, 12)
    assert raft.term == 3


def test_a_joiner_starts_again_as_who_it_became(path: Path) -> None:
    opened_and_closed(ServerConfig(join="h:7400", data_dir=path), JOINED)

    assert opened_and_closed(ServerConfig(data_dir=path)).identity == JOINED


def test_a_lone_voter_leads_at_once_and_only_it(path: Path, tmp_path: Path) -> None:
    alone = opened_and_closed(ServerConfig(data_dir=path))
    one_of_three = opened_and_closed(
        ServerConfig(name="b", initial_cluster=THREE, data_dir=tmp_path / "other")
    )

    assert alone.replica.state.raft.term == 1
    assert one_of_three.replica.state.raft.term == 0


@pytest.mark.parametrize("damaged", [b"nonsense", b""])
def test_a_configuration_that_cannot_be_read_ends_the_start_in_one_line(path: Path, damaged: bytes) -> None:
    config = ServerConfig(data_dir=path)
    opened = open_member(config)
    machine = opened.replica.state.machine
    machine.begin(1, 1, 1)
    machine.set_configuration(damaged or encode_cluster_configuration(NOBODY))
    machine.commit()
    opened.log.write(HardState(1, None, 1), [Entry(1, 1)], None, sync=True)
    opened.close()
    with pytest.raises(CorruptStateError, match="what is kept of the cluster is damaged") as refused:
        open_member(config)
    assert "\n" not in str(refused.value)
