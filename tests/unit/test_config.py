"""The configuration: where settings come from, which of them win, and what is refused in which words."""

from __future__ import annotations

from pathlib import Path

import pytest

from coordsvc.config import ConfigError, ServerConfig, load_config, settings, split_address

THREE = "b=10.0.0.2:7401,a=10.0.0.1:7401,c=10.0.0.3:7401"


def write_config(directory: Path, text: str) -> Path:
    path = directory / "coordsvc.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_without_any_setting_it_is_a_cluster_of_one() -> None:
    config = load_config({}, {})

    assert config.data_dir == Path("coordsvc-data")
    assert config.listen == config.advertise_client == "127.0.0.1:7400"
    assert config.members == {"coordsvc-1": "127.0.0.1:7401"}


def test_flags_win_over_environment_over_file_over_defaults(tmp_path: Path) -> None:
    path = write_config(tmp_path, "tick_ms = 50\nheartbeat_ms = 200\nelection_ms = 3000\n")

    config = load_config(
        {"election_ms": "2000", "tick_ms": None},
        {"COORDSVC_HEARTBEAT_MS": "150", "COORDSVC_ELECTION_MS": "1"},
        path,
    )

    assert (config.tick_ms, config.heartbeat_ms, config.election_ms) == (50, 150, 2000)
    assert config.log_level == "info"


def test_the_environment_can_name_the_file(tmp_path: Path) -> None:
    path = write_config(tmp_path, "name = 'from-file'\n")

    assert load_config({}, {"COORDSVC_CONFIG": str(path)}).name == "from-file"


def test_variables_that_orchestrators_inject_are_no_settings() -> None:
    injected = {"COORDSVC_SERVICE_HOST": "10.0.0.1", "COORDSVC_PORT": "tcp://10.0.0.1:7400"}

    assert load_config({}, injected) == ServerConfig()


def test_members_are_ordered_by_name_and_hold_their_peer_addresses() -> None:
    config = ServerConfig(name="b", initial_cluster=THREE)

    assert list(config.members) == ["a", "b", "c"]
    assert config.advertise_peer == "10.0.0.2:7401"


def test_the_cluster_id_is_the_same_on_all_members_and_differs_between_clusters() -> None:
    reordered = ",".join(reversed(THREE.split(",")))

    assert (
        ServerConfig(name="a", initial_cluster=THREE).cluster_id
        == ServerConfig(name="c", initial_cluster=reordered).cluster_id
    )
    assert ServerConfig(name="a", initial_cluster=THREE).cluster_id != ServerConfig().cluster_id
    assert len(ServerConfig().cluster_id) == 16


def test_a_wildcard_address_is_not_advertised() -> None:
    assert ServerConfig(listen="0.0.0.0:7400").advertise_client == ""
    assert ServerConfig(listen="0.0.0.0:7400", advertise_client="db1:7400").advertise_client == "db1:7400"


def test_a_lone_member_advertises_the_peer_address_it_was_given() -> None:
    config = ServerConfig(name="a", peer_listen="0.0.0.0:7401", advertise_peer="10.0.0.1:7401")

    assert config.members == {"a": "10.0.0.1:7401"}


def test_a_server_that_joins_needs_no_name_and_no_list_of_members() -> None:
    config = load_config({"join": "h:7400,i:7400", "peer_listen": "10.0.0.4:7401"}, {})

    assert (config.name, config.initial_cluster, config.advertise_peer) == ("", "", "10.0.0.4:7401")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"name": "über"}, "letters, digits"),
        ({"name": "d", "initial_cluster": THREE}, r"'d' is not in initial_cluster \(a, b, c\)"),
        ({"initial_cluster": "a"}, "'a' is not NAME=HOST:PORT"),
        ({"initial_cluster": "a=h:1,a=h:2"}, "name 'a' is there twice"),
        ({"initial_cluster": "a=h:1,b=h:1"}, "address h:1 is there twice"),
        (
            {"name": "a", "initial_cluster": THREE, "advertise_peer": "h:1"},
            "differs from this member's entry",
        ),
        ({"join": "h:1", "initial_cluster": THREE}, "join and initial_cluster are both given"),
        ({"join": "h:1,nowhere"}, "join: 'nowhere' is not HOST:PORT"),
        ({"join": "h:1", "peer_listen": "0.0.0.0:7401"}, "give advertise_peer"),
        ({"listen": "7400"}, "is not HOST:PORT"),
        ({"listen": "127.0.0.1:70000"}, "port outside"),
        ({"listen": "::1:7400"}, r"IPv6 address as \[::1\]"),
        ({"peer_listen": "127.0.0.1:0"}, "port outside 1 to 65535"),
        ({"admin_listen": "127.0.0.1:7400"}, "must differ"),
        ({"tick_ms": "fast"}, "--tick-ms: 'fast' is not a whole number"),
        ({"tick_ms": "0"}, "tick_ms is 0; it must be 1 or more"),
        ({"heartbeat_ms": "150"}, "multiple of tick_ms"),
        ({"election_ms": "1050"}, "multiple of tick_ms"),
        ({"election_ms": "200"}, "at least 3 times heartbeat_ms"),
        ({"session_timeout_ms_min": "100"}, "at least 2 times tick_ms"),
        ({"session_timeout_ms_min": "99", "tick_ms": "10"}, "session_timeout_ms_min must not be below 100"),
        ({"session_timeout_ms_max": "600001"}, "session_timeout_ms_max must not be above 600000"),
        ({"session_timeout_ms_max": "500"}, "must not be above session_timeout_ms_max"),
        ({"value_bytes_max": "1048577"}, "value_bytes_max must not be above 1048576"),
        ({"path_bytes_max": "5000"}, "path_bytes_max must not be above 4096"),
        ({"frame_bytes_max": "1048576"}, "frame_bytes_max must be at least"),
        ({"connection_queue_bytes_max": "1000"}, "must not be below frame_bytes_max"),
        ({"inflight_per_session_max": "1025"}, "must not be above 1024"),
        ({"log_keep_entries": "20000"}, "log_keep_entries must be below log_trim_entries"),
        ({"log_level": "loud"}, "choose one of debug, info, warning, error"),
        ({"log_format": "xml"}, "choose one of text, json"),
        ({"data_dir": ""}, "--data-dir: is empty"),
    ],
)
def test_a_wrong_setting_is_refused_in_one_line_that_says_why(flags: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as refusal:
        load_config(flags, {})
    assert "\n" not in str(refusal.value)


def test_an_unknown_key_in_the_file_is_refused_with_the_nearest_setting(tmp_path: Path) -> None:
    path = write_config(tmp_path, "heartbeet_ms = 100\n")

    with pytest.raises(ConfigError, match="unknown setting 'heartbeet_ms'; did you mean 'heartbeat_ms'"):
        load_config({}, {}, path)


@pytest.mark.parametrize("line", ["tick_ms = true", "tick_ms = 1.5", "tick_ms = 'x'", "name = 7", "name = ["])
def test_a_value_of_the_wrong_type_in_the_file_is_refused(tmp_path: Path, line: str) -> None:
    with pytest.raises(ConfigError, match="config file"):
        load_config({}, {}, write_config(tmp_path, line))


def test_a_missing_file_is_refused_with_its_path(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"absent\.toml: No such file"):
        load_config({}, {}, tmp_path / "absent.toml")


def test_addresses_come_apart_at_the_last_colon() -> None:
    assert split_address("listen", "[::1]:7400") == ("::1", 7400)
    assert split_address("listen", ":7400") == ("", 7400)


def test_every_setting_says_what_it_is() -> None:
    assert all(setting.metadata["description"] for setting in settings())


def test_the_documentation_lists_every_setting_with_its_default() -> None:
    text = (Path(__file__).parents[2] / "docs/configuration.md").read_text(encoding="utf-8")
    rows = {
        line.split("|")[1].strip(): line.split("|")[2].strip() for line in text.splitlines() if "| `" in line
    }

    assert rows == {
        f"`{setting.name}`": f"`{setting.default}`" if setting.default else "" for setting in settings()
    }


def test_a_frame_of_a_client_must_fit_between_members() -> None:
    with pytest.raises(ConfigError, match="frame_bytes_max must not be above"):
        ServerConfig(frame_bytes_max=64 << 20, connection_queue_bytes_max=64 << 20)
