"""Who is the odd one out."""

from __future__ import annotations

import pytest

from coordsvc.replica.digests import DigestBoard
from coordsvc.replica.settings import ReplicaSettings
from tests.unit.replica.changing_cluster import ChangingCluster
from tests.unit.replica.cluster import Cluster, create, set_value

VOTERS = ("a", "b", "c")


def board(**digests: int) -> DigestBoard:
    board = DigestBoard("a")
    for member, digest in digests.items():
        board.report(member, 256, digest)
    return board


def test_agreement_is_fine() -> None:
    assert board(a=1, b=1, c=1).verdict(256, VOTERS) == ""


def test_two_that_agree_against_us_say_that_we_are_wrong() -> None:
    assert "index 256" in board(a=1, b=2, c=2).verdict(256, VOTERS)


def test_one_that_differs_from_us_proves_nothing() -> None:
    assert board(a=1, b=2).verdict(256, VOTERS) == ""


def test_another_odd_one_is_not_our_business() -> None:
    assert board(a=1, b=1, c=2).verdict(256, VOTERS) == ""


def test_old_reports_are_forgotten() -> None:
    odd = board(a=1, b=2, c=2)
    for index in range(257, 400):
        odd.report("a", index, 0)
    assert odd.verdict(256, VOTERS) == ""


def damage(cluster: Cluster, name: str) -> None:
    """Change a value on one member's disk behind its back, and start it again."""
    store = cluster.members[name].store
    key = next(key for key, record in store.scan(b"n", b"o") if record.endswith(b"x"))
    store.write([(key, (store.get(key) or b"")[:-1] + b"y")], [])
    cluster.restart(name)


def test_the_odd_one_out_stops_itself() -> None:
    """Promise G9: a member whose tree differs from that of a majority does not serve."""
    cluster = Cluster("a", "b", "c", settings=ReplicaSettings(digest_interval=1))
    cluster.elect()
    cluster.client("a").write(create("/a", b"x"))
    cluster.settle()
    damage(cluster, "b")
    cluster.client("a").write(set_value("/a", b"z"))
    with pytest.raises(AssertionError, match="differs from that of a majority"):
        cluster.tick(5)


def test_a_learner_that_differs_stops_too() -> None:
    cluster = ChangingCluster("a", "b", "c", settings=ReplicaSettings(digest_interval=1))
    cluster.elect()
    cluster.tick(3)
    cluster.join("d")
    client = cluster.client(cluster.leader())
    client.write(create("/a", b"x"))
    cluster.tick()
    damage(cluster, "d")
    client.write(set_value("/a", b"z"))
    cluster.tick(5)
    assert list(cluster.stopped) == ["d"]
    assert "differs from that of a majority" in cluster.stopped["d"]
