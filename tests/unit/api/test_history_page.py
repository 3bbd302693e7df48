"""Pages of the change feed name only transactions that are complete."""

from __future__ import annotations

from coordproto.v1 import data_pb2
from coordsvc.api.history_page import HistoryPage


def event(zxid: int, size: int = 0) -> data_pb2.Event:
    return data_pb2.Event(type=data_pb2.CREATED, path=f"/{zxid}", zxid=zxid, value=bytes(size))


def test_many_changes_share_a_message() -> None:
    page = HistoryPage(since=4)
    for zxid in (5, 6, 7):
        page.add(event(zxid))
    response = page.take(is_whole=True)
    assert [change.zxid for change in response.changes] == [5, 6, 7]
    assert response.zxid == 7


def test_a_page_that_ends_within_a_transaction_does_not_claim_it() -> None:
    page = HistoryPage(since=-1)
    page.add(event(1))
    page.add(event(2))
    page.add(event(2))
    response = page.take(is_whole=False)
    assert len(response.changes) == 3
    assert response.zxid == 1, "who resumes from here gets all of transaction 2 again"
    page.add(event(2))
    assert page.take(is_whole=True).zxid == 2


def test_a_page_is_full_long_before_a_client_would_refuse_it() -> None:
    page = HistoryPage(since=0)
    fullness = [page.is_full]
    page.add(event(1, 1 << 20))
    fullness.append(page.is_full)
    assert page.take(is_whole=True).ByteSize() < 4 << 20
    fullness.append(page.is_full)
    assert fullness == [False, True, False]
