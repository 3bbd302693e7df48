"""A data directory put back from an older copy: its leader still knows what it acknowledged, and it stops."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.processes.cluster import ClusterProcesses
from tests.processes.workload import CountingClients

pytestmark = pytest.mark.processes


async def test_a_member_with_an_older_copy_of_its_directory_stops(
    tmp_path: Path,
) -> None:
    async with ClusterProcesses(tmp_path) as cluster:
        member = (await cluster.followers())[0]
        async with CountingClients(cluster.endpoints, request_timeout=30.0) as clients:
            await clients.wait_for_progress(2)
            await member.stop()
            shutil.copytree(member.data_dir, tmp_path / "older")
            cluster.start(member)
            await cluster.wait_until_ready(member)
            await clients.wait_for_progress(5)
            await cluster.wait_until_ready(member)
            await member.stop()
            shutil.move(member.data_dir, tmp_path / "newer")
            shutil.move(tmp_path / "older", member.data_dir)
            cluster.start(member)

            assert await member.exit_code(within_s=30.0) == 1
            last_line = member.log_text().splitlines()[-1]
            assert last_line.startswith(f"coordsvc: {member.name} stops: this member has acknowledged entry")
            assert "replace this member" in last_line
            await clients.wait_for_progress(2)

            shutil.rmtree(member.data_dir)
            shutil.move(tmp_path / "newer", member.data_dir)
            cluster.start(member)
            await cluster.wait_until_ready(member)
        await cluster.wait_until_equal()
