"""The configurations in a log: found at start, and changed by whatever changes the log. Raft §6."""

from __future__ import annotations

import pytest

from coordsvc.raft.configurations import Configurations
from coordsvc.raft.log import LogStateError
from coordsvc.raft.membership import ConfigurationError
from coordsvc.raft.messages import MessageType
from coordsvc.raft.node import RaftNode
from coordsvc.raft.types import Configuration, Entry, EntryKind, HardState, Index, Term
from tests.unit.raft.bench import DEFAULTS, Bench, snapshot_at
from tests.unit.raft.configuration_text import decode
from tests.unit.raft.memory_log import MemoryLog


def change(index: Index, term: Term, text: str) -> Entry:
    return Entry(index, term, text.encode(), EntryKind.CONFIGURATION)


class TestHistory:
    def test_it_begins_with_the_one_as_of_what_is_applied(self) -> None:
        configurations = Configurations(Configuration(("a",)), decode)
        assert (configurations.newest, configurations.index) == (Configuration(("a",)), 0)
        assert configurations.is_committed(0)

    def test_the_one_that_belongs_to_an_index_is_found(self) -> None:
        configurations = Configurations(Configuration(("a",)), decode)
        configurations.note_appended([change(3, 1, "a,b"), Entry(4, 1), change(5, 1, "a,b,c")])
        voters = [configurations.as_of(index).voters for index in range(7)]
        assert voters == [("a",)] * 3 + [("a", "b")] * 2 + [("a", "b", "c")] * 2
        assert [configurations.is_committed(index) for index in (4, 5)] == [False, True]

    def test_apply_forgets_what_was_before(self) -> None:
        configurations = Configurations(Configuration(("a",)), decode)
        configurations.note_appended([change(3, 1, "a,b"), change(5, 1, "a,b,c")])
        configurations.note_applied(4)
        assert configurations.applied() == Configuration(("a", "b"))
        assert [index for index, _ in configurations.changes()] == [5]

    def test_a_truncation_takes_back_what_it_cuts_off_and_no_more(self) -> None:
        configurations = Configurations(Configuration(("a",)), decode)
        configurations.note_appended([change(3, 1, "a,b"), change(5, 1, "a,b,c")])
        assert not configurations.note_truncated(6)
        assert configurations.note_truncated(5)
        assert (configurations.index, configurations.newest.voters) == (3, ("a", "b"))
        assert configurations.note_truncated(1)
        assert (configurations.index, configurations.newest.voters) == (0, ("a",))

    @pytest.mark.parametrize("data", [b";;;;", b"b,a", b"", b";a"])
    def test_data_that_is_no_configuration_is_refused_as_one_kind_of_error(self, data: bytes) -> None:
        with pytest.raises(ConfigurationError):
            Configurations(Configuration(("a",)), decode).decode(data)

    def test_without_a_decoder_nothing_is_read(self) -> None:
        with pytest.raises(ConfigurationError, match="cannot read"):
            Configurations(Configuration(("a",)), None).decode(b"a")


class TestStart:
    def test_those_behind_what_is_applied_are_found_committed_or_not(self) -> None:
        log = MemoryLog([Entry(1, 1), change(2, 1, "a,b"), Entry(3, 1), change(4, 1, "a,b,c")])
        bench = Bench(("a",), log=log, term=1, commit=2, applied=1)
        assert (bench.configuration(), bench.node.configuration_index) == ("a,b,c", 4)
        assert not bench.node.is_configuration_committed
        assert bench.node.status().configuration_index == 4

    def test_one_that_is_committed_and_not_applied_is_found(self) -> None:
        log = MemoryLog([Entry(1, 1), change(2, 1, "a,b"), Entry(3, 1)])
        bench = Bench(("a",), log=log, term=1, commit=3, applied=1)
        assert (bench.configuration(), bench.node.is_configuration_committed) == ("a,b", True)

    def test_those_that_are_applied_are_not_looked_for(self) -> None:
        """They are what was handed in."""
        log = MemoryLog([Entry(1, 1), change(2, 1, "a,b"), Entry(3, 1)])
        bench = Bench(("a", "x"), log=log, term=1, commit=2, applied=2)
        assert (bench.configuration(), bench.node.configuration_index) == ("a,x", 0)

    def test_the_log_is_read_page_by_page(self) -> None:
        class CountingLog(MemoryLog):
            longest = 0

            def entries(self, low: Index, high: Index, bytes_max: int) -> list[Entry]:
                page = super().entries(low, high, bytes_max)
                self.longest = max(self.longest, len(page))
                return page

        log = CountingLog(
            [*(Entry(index, 1, b"0123456789") for index in range(1, 100)), change(100, 1, "a,b")]
        )
        config = DEFAULTS.__class__("a", committed_bytes_max=40)
        bench = Bench(("a",), log=log, term=1, config=config)
        assert bench.configuration() == "a,b"
        assert log.longest == 4

    def test_an_entry_that_cannot_be_read_stops_the_start(self) -> None:
        log = MemoryLog([Entry(1, 1), change(2, 1, "b,a")])
        with pytest.raises(LogStateError, match="sorted"):
            RaftNode(DEFAULTS, log, HardState(1), Configuration(("a",)), 0, lambda sides: 0, decode)


class TestFollower:
    def test_a_configuration_is_in_force_as_soon_as_it_is_appended(self) -> None:
        bench = Bench()
        bench.append("b", Entry(1, 1), change(2, 1, "a,b,c,d"), term=1)
        assert (bench.configuration(), bench.node.configuration_index) == ("a,b,c,d", 2)
        assert not bench.node.is_configuration_committed

        bench.say(MessageType.HEARTBEAT, "b", commit=2)

        assert bench.node.is_configuration_committed

    def test_an_append_that_repeats_it_changes_nothing(self) -> None:
        bench = Bench()
        entries = [Entry(1, 1), change(2, 1, "a,b,c,d"), change(3, 1, "a,b,c,d,e")]
        bench.append("b", *entries, term=1)
        bench.append("b", *entries[:2], term=1)
        bench.append("b", *entries, term=1)
        assert (bench.configuration(), bench.node.configuration_index) == ("a,b,c,d,e", 3)

    def test_it_is_taken_back_when_another_leader_overwrites_it(self) -> None:
        """A server always uses the latest configuration in its log: so not one that is cut off."""
        bench = Bench()
        bench.append("b", Entry(1, 1), change(2, 1, "a,b,c,d"), term=1)
        bench.append("c", Entry(2, 2), after=(1, 1), term=2)
        assert (bench.configuration(), bench.node.configuration_index) == ("a,b,c", 0)

    def test_it_is_taken_back_for_the_one_that_takes_its_place(self) -> None:
        bench = Bench()
        bench.append("b", Entry(1, 1), change(2, 1, "a,b,c,d"), term=1)
        bench.append("c", Entry(2, 2), change(3, 2, "a,c"), after=(1, 1), term=2)
        assert (bench.configuration(), bench.node.configuration_index) == ("a,c", 3)

    def test_one_that_was_never_written_is_not_there_after_a_crash(self) -> None:
        bench = Bench()
        bench.append("b", Entry(1, 1), term=1)
        bench.hear()
        bench.append("b", change(2, 1, "a,b,c,d"), after=(1, 1), term=1)
        bench.hear(is_durable=False)
        assert Bench(log=bench.storage, term=1).configuration() == "a,b,c"
        bench.finish_write()
        assert Bench(log=bench.storage, term=1).configuration() == "a,b,c,d"

    @pytest.mark.parametrize("text", ["", "b,a", ";;;;", ";a,b"])
    def test_an_append_with_one_that_no_cluster_can_have_is_refused(self, text: str) -> None:
        bench = Bench()
        bench.append("b", Entry(1, 1), change(2, 1, text), term=1)
        assert (bench.node.term, bench.log(), bench.node.status().refused_messages) == (0, [], 1)

    def test_a_node_without_a_decoder_refuses_them_all(self) -> None:
        bench = Bench()
        bench.node.state.configurations._decode = None
        bench.append("b", change(1, 1, "a,b"), term=1)
        assert (bench.log(), bench.node.status().refused_messages) == ([], 1)

    def test_a_snapshot_replaces_them_all(self) -> None:
        bench = Bench()
        bench.append("b", Entry(1, 1), change(2, 1, "a,b,c,d"), term=1)
        bench.say(MessageType.SNAPSHOT, "b", term=1, snapshot=snapshot_at(10, 1, "a", "e"))
        assert (bench.configuration(), bench.node.configuration_index) == ("a,e", 10)
        assert bench.node.is_configuration_committed
        bench.hear()
        bench.append("b", change(11, 1, "a"), after=(10, 1), term=1)
        bench.append("c", Entry(11, 2), after=(10, 1), term=2)
        assert bench.configuration() == "a,e"

    def test_a_snapshot_may_hold_a_joint_one(self) -> None:
        bench = Bench()
        snapshot = snapshot_at(10, 1, "a", "d")
        joint = Configuration(("a", "d"), voters_outgoing=("a", "b", "c"))
        snapshot = type(snapshot)(10, 1, joint)
        bench.say(MessageType.SNAPSHOT, "b", term=1, snapshot=snapshot)
        bench.hear()
        assert bench.configuration() == "a,d;a,b,c"
        bench.node.campaign()
        bench.hear()
        bench.say(MessageType.VOTE_RESPONSE, "b")
        assert not bench.node.is_leader, "the incoming half has not agreed"
        bench.say(MessageType.VOTE_RESPONSE, "d")
        assert bench.node.is_leader

    def test_a_snapshot_that_only_says_what_is_committed_leaves_them(self) -> None:
        bench = Bench()
        bench.append("b", Entry(1, 1), Entry(2, 1), change(3, 1, "a,b,c,d"), term=1)
        bench.say(MessageType.SNAPSHOT, "b", term=1, snapshot=snapshot_at(2, 1))
        assert (bench.configuration(), bench.node.configuration_index) == ("a,b,c,d", 3)
