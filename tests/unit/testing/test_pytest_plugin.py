"""The fixtures as a user's tests get them: small test files, run by a pytest of their own."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytest_plugins = ["pytester"]

OPTIONS = ("-p", "no:cacheprovider", "-o", "asyncio_default_fixture_loop_scope=function")


def test_the_server_and_its_client_are_there_without_an_import(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        def test_one(coord_server, coord_client):
            coord_client.create("/only-once", b"1")
            assert coord_server.session_ids() == [coord_client.session_id]

        def test_another_one_finds_an_empty_tree(coord_client):
            coord_client.create("/only-once", b"1")
        """
    )
    pytester.runpytest_inprocess(*OPTIONS).assert_outcomes(passed=2)


def test_faults_are_within_reach(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        from coordclient import Client

        def test_a_lost_reply(coord_server, coord_client):
            coord_client.create("/counter", b"0")
            lost = coord_server.link.drop_next_reply("set")
            assert coord_client.set("/counter", b"1").version == 1
            assert lost.happened

        def test_an_expired_session(coord_server, coord_client):
            with Client(coord_server.endpoints) as other:
                other.create("/mine", b"", ephemeral=True)
                coord_server.expire_session(other.session_id)
                assert coord_client.exists("/mine") is None
        """
    )
    pytester.runpytest_inprocess(*OPTIONS).assert_outcomes(passed=2)


@pytest.mark.parametrize("mode", ["strict", "auto"])
def test_the_asynchronous_client_works_with_pytest_asyncio(pytester: pytest.Pytester, mode: str) -> None:
    pytester.makepyfile(
        """
        import pytest

        @pytest.mark.asyncio
        async def test_it(coord_server, coord_async_client):
            await coord_async_client.create("/a", b"1")
            coord_server.link.cut()
            assert (await coord_async_client.get("/a")).value == b"1"
        """
    )
    pytester.runpytest_subprocess(*OPTIONS, "-o", "asyncio_mode=" + mode).assert_outcomes(passed=1)


def test_the_fixtures_explain_themselves(pytester: pytest.Pytester) -> None:
    result = pytester.runpytest_inprocess(*OPTIONS, "--fixtures")
    result.stdout.fnmatch_lines(
        ["coord_server *", "*A real coordsvc server in this process*", "coord_client *", "coord_cluster *"]
    )


def test_who_does_not_use_it_does_not_pay_for_it() -> None:
    """The plugin is loaded in every run of pytest: gRPC and LevelDB must not be."""
    program = (
        "import sys, coordsvc.pytest_plugin; print({'grpc', 'plyvel', 'coordclient'} & set(sys.modules))"
    )
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "set()"
