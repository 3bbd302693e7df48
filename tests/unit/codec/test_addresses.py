"""host:port, taken apart."""

from __future__ import annotations

import pytest

from coordsvc.codec.addresses import AddressFormError, split_host_and_port


def test_a_host_and_a_port_come_apart_at_the_last_colon() -> None:
    assert split_host_and_port("db1:7401") == ("db1", 7401)
    assert split_host_and_port("[::1]:7401") == ("::1", 7401)
    assert split_host_and_port("db1:0", port_min=0) == ("db1", 0)


@pytest.mark.parametrize(
    "address",
    ["", "db1", "db1:", "db1:x", "db1:0", "db1:65536", "db1:" + "9" * 5000, "::1:7401", "a b:1", "a=b:1"],
)
def test_anything_else_is_refused(address: str) -> None:
    with pytest.raises(AddressFormError):
        split_host_and_port(address)
