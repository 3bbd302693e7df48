"""`coordsvc dev`: the plan of a local cluster. What it does with processes is tested in integration."""

from __future__ import annotations

import socket
from pathlib import Path

from click.testing import CliRunner

from coordsvc.cli import main
from coordsvc.cli.local_cluster import config_text, plan_members
from coordsvc.config import load_config


def test_members_are_ten_ports_apart() -> None:
    members = plan_members(3, 7400, Path("d"))

    assert [member.client_port for member in members] == [7400, 7410, 7420]
    assert (members[1].peer_address, members[1].admin_address) == ("127.0.0.1:7411", "127.0.0.1:7412")


def test_the_written_configuration_makes_all_of_them_one_cluster(tmp_path: Path) -> None:
    members = plan_members(3, 9000, tmp_path / 'odd "name"')
    tmp_path.joinpath('odd "name"').mkdir()
    for member in members:
        member.config_file.write_text(config_text(member, members), encoding="utf-8")

    configs = [load_config({}, {}, member.config_file) for member in members]

    assert [config.name for config in configs] == ["member-1", "member-2", "member-3"]
    assert len({config.cluster_id for config in configs}) == 1
    assert len({config.data_dir for config in configs}) == 3
    assert configs[2].members["member-1"] == "127.0.0.1:9001"


def test_a_port_in_use_is_refused_before_anything_starts(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        result = CliRunner().invoke(
            main, ["dev", "--nodes", "1", "--base-port", str(port), "--data-dir", str(tmp_path / "d")]
        )

    assert result.exit_code == 2
    assert f"port {port} on 127.0.0.1 cannot be used" in result.stderr
    assert not (tmp_path / "d").exists()


def test_the_number_of_members_is_bounded() -> None:
    assert CliRunner().invoke(main, ["dev", "--nodes", "0"]).exit_code == 2
