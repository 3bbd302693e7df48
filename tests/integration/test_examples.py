"""Every example runs: the demonstration with its seven programs, plain gRPC, and the README's ten lines."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from coordclient import Client
from tests.processes.cluster import MemberProcess, free_ports
from tests.processes.programs import Program

pytestmark = pytest.mark.processes

ROOT = Path(__file__).parents[2]
README_ENDPOINTS = "127.0.0.1:7400,127.0.0.1:7410,127.0.0.1:7420"
RUN_BY_THE_DEMONSTRATION = {"leader_candidate", "ledger_writer", "service_instance", "service_watcher"}
RUN_HERE = {"plain_grpc", "textbook_election", "textbook_lock", "textbook_registry"}


@pytest.fixture(scope="module")
def member(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MemberProcess]:
    """A server of its own, which leads itself."""
    member = MemberProcess("a", free_ports(3), tmp_path_factory.mktemp("examples"))
    member.start(f"a={member.peer_address}")
    try:
        with Client(member.endpoint, connect_timeout=30.0):
            yield member
    finally:
        member.end()


def run(*arguments: str, within_s: float) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=within_s, check=False
    )


def test_the_demonstration_holds_what_is_promised() -> None:
    """It checks itself, and ends by itself within a minute."""
    result = run("-m", "examples.demo", within_s=60)

    assert result.returncode == 0, result.stdout + result.stderr
    assert result.stdout.count("KILL -9") == 4
    assert result.stdout.count("  ok  ") == 3


def test_plain_grpc_needs_no_sdk(member: MemberProcess) -> None:
    result = run("examples/plain_grpc.py", member.endpoint, within_s=60)

    assert result.returncode == 0, result.stdout + result.stderr
    assert "refused with ALREADY_EXISTS" in result.stdout
    assert "watched CHANGED of /plain/greeting to b'hello again'" in result.stdout
    assert "sent twice, made once" in result.stdout
    source = (ROOT / "examples/plain_grpc.py").read_text("utf-8")
    assert "coordclient" not in source


def test_the_lines_in_the_readme_run(member: MemberProcess) -> None:
    code = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text("utf-8"), re.DOTALL)
    assert len(code) == 1
    assert README_ENDPOINTS in code[0]

    result = run("-c", code[0].replace(README_ENDPOINTS, member.endpoint), within_s=60)

    assert result.returncode == 0, result.stderr
    assert "leading with token" in result.stdout
    assert "10.0.0.7" in result.stdout


async def test_the_textbook_election_hands_over_to_the_next(member: MemberProcess) -> None:
    script = ROOT / "examples/textbook_election.py"
    async with Program(script, "one", member.endpoint) as one:
        await one.line("one leads")
        async with Program(script, "two", member.endpoint) as two:
            await two.line("two watches /textbook/election/n_")
            async with Program(script, "three", member.endpoint) as three:
                await three.line("three watches /textbook/election/n_")
                assert "two leads" not in two.lines
                one.terminate()
                await two.line("two leads")
                await two.kill()
                await three.line("three leads")


async def test_the_textbook_lock_loses_no_addition(member: MemberProcess) -> None:
    script = ROOT / "examples/textbook_lock.py"
    async with AsyncExitStack() as stack:
        programs = [
            await stack.enter_async_context(Program(script, name, "20", member.endpoint))
            for name in ("one", "two", "three")
        ]
        said = [
            await program.line(name) for program, name in zip(programs, ("one", "two", "three"), strict=True)
        ]

    assert max(int(line.rpartition(" ")[2]) for line in said) == 60, said


async def test_the_textbook_registry_follows_its_instances(member: MemberProcess) -> None:
    script = ROOT / "examples/textbook_registry.py"
    async with Program(script, "follow", "api", member.endpoint) as follower:
        await follower.line("instances none")
        async with Program(script, "offer", "api", "8080", member.endpoint) as first:
            await follower.line("instances 8080")
            async with Program(script, "offer", "api", "8081", member.endpoint):
                await follower.line("instances 8080,8081")
                await first.kill()
                await follower.line("instances 8081", after=len(follower.lines))


@pytest.mark.parametrize("name", ["textbook_election", "textbook_lock", "textbook_registry"])
def test_the_textbook_programs_use_no_recipe(name: str) -> None:
    code = (ROOT / f"examples/{name}.py").read_text("utf-8").split('"""', 2)[2]
    for recipe in (".lock(", ".election(", ".services", "recipes"):
        assert recipe not in code


def test_no_example_is_left_out() -> None:
    assert {path.stem for path in (ROOT / "examples").glob("*.py")} == RUN_BY_THE_DEMONSTRATION | RUN_HERE
