"""The configuration of one server: defaults < TOML file < environment < flags.

Rule of this file: everything is checked once, when the `ServerConfig` is made, relations included; whoever
holds one may trust it. What is wrong is said in one line that names the setting and what to do.
"""

from __future__ import annotations

import dataclasses
import difflib
import hashlib
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TypeVar

from coordsvc.codec.addresses import WILDCARD_HOSTS, AddressFormError, check_host_and_port
from coordsvc.statemachine.types import Limits

DEFAULT_NAME: Final = "coordsvc-1"
ENVIRONMENT_PREFIX: Final = "COORDSVC_"
LOG_LEVELS: Final = ("debug", "info", "warning", "error")
LOG_FORMATS: Final = ("text", "json")

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_FRAME_OVERHEAD_BYTES: Final = 1024  # around the largest value in a frame: guards, headers of fields
_FRAME_BYTES_CEILING: Final = 32 << 20
_HARD_LIMITS: Final = Limits()
_T = TypeVar("_T")


class ConfigError(ValueError):
    """A setting is missing, malformed, or at odds with another one. The message is one line for people."""


def _setting(default: _T, description: str) -> _T:
    return field(default=default, metadata={"description": description})


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerConfig:
    """The settings of one member. Addresses are `host:port`; names of amounts end in their unit.

    Settings that follow from others when they are not given (`advertise_client`, `advertise_peer`) are
    filled in: after construction they hold what is in force. An empty `name` or `initial_cluster` was not
    given: a data directory that is in use knows both.
    """

    name: str = _setting(
        "",
        "this member's name; unique in the cluster; default: that of the data directory, in a new one "
        "coordsvc-1, or what the cluster chooses with --join",
    )
    data_dir: Path = field(
        default=Path("coordsvc-data"),
        metadata={"description": "where log and tree are kept; made if missing"},
    )
    listen: str = _setting("127.0.0.1:7400", "address for clients (gRPC)")
    peer_listen: str = _setting("127.0.0.1:7401", "address for the other members")
    admin_listen: str = _setting("127.0.0.1:7402", "address for /metrics, /livez, /readyz (HTTP)")
    initial_cluster: str = _setting(
        "",
        "all members of a new cluster as NAME=HOST:PORT,... with their peer addresses; "
        "default: this member alone",
    )
    join: str = _setting(
        "", "client addresses HOST:PORT,... of members of a running cluster, to become a learner in it"
    )
    advertise_client: str = _setting(
        "", "where clients reach this member; default: --listen, unless that is a wildcard"
    )
    advertise_peer: str = _setting(
        "", "where members reach this one; default: its entry in --initial-cluster, else --peer-listen"
    )

    tick_ms: int = _setting(100, "length of a tick, the unit of all the server's timing")
    heartbeat_ms: int = _setting(100, "how often a leader tells its followers that it leads")
    election_ms: int = _setting(400, "silence after which a follower stands for election: 1 to 2 times this")
    session_timeout_ms_min: int = _setting(1_000, "shorter session timeouts are raised to this")
    session_timeout_ms_max: int = _setting(600_000, "longer session timeouts are lowered to this")

    value_bytes_max: int = _setting(1 << 20, "largest value of a znode")
    path_bytes_max: int = _setting(4_096, "longest path, in UTF-8")
    frame_bytes_max: int = _setting(4 << 20, "largest message accepted from a client")
    inflight_per_session_max: int = _setting(1_024, "operations of one session that may wait for an answer")
    watches_per_session_max: int = _setting(10_000, "watches one session may have set")
    connection_queue_bytes_max: int = _setting(
        16 << 20, "replies and events that may wait for a client that does not read; then it is cut off"
    )

    log_trim_entries: int = _setting(20_000, "the log is trimmed when it holds more entries than this")
    log_trim_bytes: int = _setting(64 << 20, "... or more bytes than this")
    log_keep_entries: int = _setting(
        5_000, "entries a trim leaves, but no more than 16 MiB, so that slow followers need no snapshot"
    )
    history_changes: int = _setting(100_000, "changes kept for watches to resume; equal on all members")
    history_bytes: int = _setting(64 << 20, "bytes of changes kept; equal on all members")

    log_level: str = _setting("info", "one of " + ", ".join(LOG_LEVELS))
    log_format: str = _setting("text", "one of " + ", ".join(LOG_FORMATS))

    def __post_init__(self) -> None:
        if self.name and not _NAME.fullmatch(self.name):
            raise ConfigError(
                f"name {self.name!r}: use 1 to 64 letters, digits, '.', '_', '-'; the first a letter or digit"
            )
        self._settle_addresses()
        _check_amounts(self)
        _check_relations(self)
        _check_choice("log_level", self.log_level, LOG_LEVELS)
        _check_choice("log_format", self.log_format, LOG_FORMATS)

    def _settle_addresses(self) -> None:
        """Check the addresses, and fill in those that follow from others."""
        listen_host, listen_port = split_address("listen", self.listen, port_min=0)
        split_address("peer_listen", self.peer_listen)
        split_address("admin_listen", self.admin_listen, port_min=0)
        if self.advertise_client:
            split_address("advertise_client", self.advertise_client)
        elif listen_host not in WILDCARD_HOSTS and listen_port:
            self._fill_in("advertise_client", self.listen)
        if self.advertise_peer:
            split_address("advertise_peer", self.advertise_peer)
        if self.join:
            self._check_join()
        elif self.initial_cluster:
            self._settle_place_in_cluster()
        if (
            not self.advertise_peer
            and split_address("peer_listen", self.peer_listen)[0] not in WILDCARD_HOSTS
        ):
            self._fill_in("advertise_peer", self.peer_listen)

    def _check_join(self) -> None:
        for address in self.join.split(","):
            split_address("join", address)
        if self.initial_cluster:
            raise ConfigError(
                "join and initial_cluster are both given: join is for a server that becomes a member of a "
                "running cluster, initial_cluster for one that begins a new one; leave one out"
            )
        if not self.advertise_peer and split_address("peer_listen", self.peer_listen)[0] in WILDCARD_HOSTS:
            raise ConfigError(
                f"join: peer_listen {self.peer_listen} tells nobody where to reach this member; "
                "give advertise_peer"
            )

    def _settle_place_in_cluster(self) -> None:
        members = self.members
        name = self.name or DEFAULT_NAME
        if name not in members:
            raise ConfigError(
                f"name {name!r} is not in initial_cluster ({', '.join(members)}):"
                " set name to the entry that is this member"
            )
        if self.advertise_peer and self.advertise_peer != members[name]:
            raise ConfigError(
                f"advertise_peer {self.advertise_peer} differs from this member's entry in initial_cluster,"
                f" {members[name]}: make them equal, or leave advertise_peer out (to move a member of a "
                "running cluster, leave initial_cluster out)"
            )
        self._fill_in("advertise_peer", members[name])

    def _fill_in(self, setting: str, value: str) -> None:
        object.__setattr__(self, setting, value)

    @property
    def members(self) -> dict[str, str]:
        """Peer addresses of all members of a new cluster by name, this one included, ordered by name."""
        if not self.initial_cluster:
            return {self.name or DEFAULT_NAME: self.advertise_peer or self.peer_listen}
        return parse_members(self.initial_cluster)

    @property
    def cluster_id(self) -> str:
        """Sixteen hex digits, equal on members that were started with the same initial cluster."""
        text = ",".join(f"{name}={address}" for name, address in self.members.items())
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def parse_members(text: str) -> dict[str, str]:
    """Take NAME=HOST:PORT,... apart: addresses by name, ordered by name."""
    members: dict[str, str] = {}
    for entry in text.split(","):
        name, separator, address = entry.strip().partition("=")
        if not separator or not _NAME.fullmatch(name):
            raise ConfigError(f"initial_cluster: {entry.strip()!r} is not NAME=HOST:PORT")
        split_address(f"initial_cluster: {name}", address)
        if name in members:
            raise ConfigError(f"initial_cluster: the name {name!r} is there twice")
        if address in members.values():
            raise ConfigError(f"initial_cluster: the address {address} is there twice")
        members[name] = address
    return dict(sorted(members.items()))


def settings() -> tuple[dataclasses.Field[object], ...]:
    """Every setting with its default and description: what flags, file and documentation are made of."""
    return dataclasses.fields(ServerConfig)


def load_config(
    flags: Mapping[str, object], environment: Mapping[str, str], config_file: Path | None = None
) -> ServerConfig:
    """Merge what the file, the environment and the flags say, later ones over earlier ones.

    Args:
        flags: By setting; None means not given.
        environment: Like `os.environ`. `COORDSVC_CONFIG` names the file unless `config_file` does. Variables
            that are no setting are ignored: orchestrators inject their own, such as COORDSVC_SERVICE_HOST.
        config_file: A TOML file of settings by name. Keys that are no setting are refused.

    Raises:
        ConfigError: Something is wrong; the message says what and where.
    """
    if config_file is None and environment.get(ENVIRONMENT_PREFIX + "CONFIG"):
        config_file = Path(environment[ENVIRONMENT_PREFIX + "CONFIG"])
    values: dict[str, object] = {} if config_file is None else _read_file(config_file)
    for setting in settings():
        variable = ENVIRONMENT_PREFIX + setting.name.upper()
        if variable in environment:
            values[setting.name] = _convert(setting, environment[variable], variable)
        if flags.get(setting.name) is not None:
            values[setting.name] = _convert(
                setting, flags[setting.name], "--" + setting.name.replace("_", "-")
            )
    return ServerConfig(**values)  # type: ignore[arg-type]  # _convert has checked each against its field


def split_address(setting: str, address: str, *, port_min: int = 1) -> tuple[str, int]:
    """Take `host:port` or `[ipv6]:port` apart."""
    try:
        return check_host_and_port(address, port_min=port_min)
    except AddressFormError as error:
        raise ConfigError(f"{setting}: {error}") from None


def _read_file(path: Path) -> dict[str, object]:
    try:
        found = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"config file {path}: {error.strerror or error}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"config file {path} is not valid TOML: {error}") from error
    by_name = {setting.name: setting for setting in settings()}
    values = {}
    for key, value in found.items():
        if key not in by_name:
            near = difflib.get_close_matches(key, by_name, n=1)
            hint = f"did you mean {near[0]!r}?" if near else "'coordsvc serve --help' lists the settings"
            raise ConfigError(f"config file {path}: unknown setting {key!r}; {hint}")
        values[key] = _convert(by_name[key], value, f"config file {path}: {key}")
    return values


def _convert(setting: dataclasses.Field[object], value: object, source: str) -> object:
    """Give a value from outside the type of its setting, which is the type of its default."""
    if isinstance(setting.default, int):
        return _whole_number(value, source)
    if not isinstance(value, str | Path):
        raise ConfigError(f"{source}: {value!r} is not a text")
    if not str(value):
        raise ConfigError(f"{source}: is empty; leave it out to get the default")
    return Path(value) if isinstance(setting.default, Path) else str(value)


def _whole_number(value: object, source: str) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    try:
        return int(value) if isinstance(value, str) else int("")
    except ValueError:
        raise ConfigError(f"{source}: {value!r} is not a whole number") from None


def _check_amounts(config: ServerConfig) -> None:
    for setting in settings():
        value = getattr(config, setting.name)
        if isinstance(setting.default, int) and value < 1:
            raise ConfigError(f"{setting.name} is {value}; it must be 1 or more")


def _check_relations(config: ServerConfig) -> None:
    """Refuse settings that are fine alone and wrong together."""
    for holds, rule in (*_rules_of_time(config), *_rules_of_size(config)):
        if not holds:
            raise ConfigError(f"{rule} ({_figures(config, rule)})")
    addresses = (config.listen, config.peer_listen, config.admin_listen)
    for position, address in enumerate(addresses):
        if address in addresses[:position] and not address.endswith(":0"):
            raise ConfigError(f"listen, peer_listen and admin_listen must differ; {address} is there twice")


def _rules_of_time(config: ServerConfig) -> tuple[tuple[bool, str], ...]:
    return (
        (config.heartbeat_ms % config.tick_ms == 0, "heartbeat_ms must be a multiple of tick_ms"),
        (config.election_ms % config.tick_ms == 0, "election_ms must be a multiple of tick_ms"),
        (
            config.election_ms >= 3 * config.heartbeat_ms,
            "election_ms must be at least 3 times heartbeat_ms, or one late heartbeat unseats the leader",
        ),
        (
            config.session_timeout_ms_min >= 2 * config.tick_ms,
            "session_timeout_ms_min must be at least 2 times tick_ms: members report sessions once a tick",
        ),
        (
            config.session_timeout_ms_min >= _HARD_LIMITS.session_timeout_ms_min,
            f"session_timeout_ms_min must not be below {_HARD_LIMITS.session_timeout_ms_min}",
        ),
        (
            config.session_timeout_ms_max <= _HARD_LIMITS.session_timeout_ms_max,
            f"session_timeout_ms_max must not be above {_HARD_LIMITS.session_timeout_ms_max}",
        ),
        (
            config.session_timeout_ms_min <= config.session_timeout_ms_max,
            "session_timeout_ms_min must not be above session_timeout_ms_max",
        ),
    )


def _rules_of_size(config: ServerConfig) -> tuple[tuple[bool, str], ...]:
    return (
        (
            config.value_bytes_max <= _HARD_LIMITS.value_bytes,
            f"value_bytes_max must not be above {_HARD_LIMITS.value_bytes}",
        ),
        (
            config.path_bytes_max <= _HARD_LIMITS.path_bytes,
            f"path_bytes_max must not be above {_HARD_LIMITS.path_bytes}",
        ),
        (
            config.frame_bytes_max >= config.value_bytes_max + config.path_bytes_max + _FRAME_OVERHEAD_BYTES,
            f"frame_bytes_max must be at least value_bytes_max + path_bytes_max + {_FRAME_OVERHEAD_BYTES}",
        ),
        (
            config.frame_bytes_max <= _FRAME_BYTES_CEILING,
            f"frame_bytes_max must not be above {_FRAME_BYTES_CEILING}: members pass frames on whole",
        ),
        (
            config.connection_queue_bytes_max >= config.frame_bytes_max,
            "connection_queue_bytes_max must not be below frame_bytes_max",
        ),
        (
            config.inflight_per_session_max <= _HARD_LIMITS.results_per_session,
            f"inflight_per_session_max must not be above {_HARD_LIMITS.results_per_session}",
        ),
        (
            config.log_keep_entries < config.log_trim_entries,
            "log_keep_entries must be below log_trim_entries",
        ),
    )


def _figures(config: ServerConfig, rule: str) -> str:
    """What the settings named in `rule` are, for its error."""
    named = [setting.name for setting in settings() if re.search(rf"\b{setting.name}\b", rule)]
    return ", ".join(f"{name} is {getattr(config, name)}" for name in named)


def _check_choice(setting: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ConfigError(f"{setting} is {value!r}; choose one of {', '.join(choices)}")
