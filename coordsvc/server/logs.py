"""The log of a member: one line per event, `key=value` for people or JSON for machines.

Rule of this file: it formats. The pure cores do not log; they return notes, which `Member` logs.
"""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Any

_LOGGER = logging.getLogger("coordsvc")


class _TextFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        moment = datetime.fromtimestamp(record.created, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"
        fields: dict[str, object] = getattr(record, "fields", {})
        text = "".join(f" {key}={_quoted(value)}" for key, value in fields.items())
        line = f"{moment} {record.levelname.lower():7} {record.getMessage()}{text}"
        return line + ("\n" + self.formatException(record.exc_info) if record.exc_info else "")


class _JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        moment = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        fields: dict[str, object] = getattr(record, "fields", {})
        line: dict[str, Any] = {
            "time": moment,
            "level": record.levelname.lower(),
            "event": record.getMessage(),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line | fields, default=str)


def _quoted(value: object) -> str:
    text = str(value)
    return json.dumps(text) if any(character in text for character in ' "=\n') or not text else text


def configure(level: str, log_format: str) -> None:
    """Send the logs of coordsvc to standard error in this format."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_JsonFormatter() if log_format == "json" else _TextFormatter())
    _LOGGER.handlers[:] = [handler]
    _LOGGER.setLevel(level.upper())
    _LOGGER.propagate = False


def log(level: int, event: str, **fields: object) -> None:
    """Log one event with its fields."""
    _LOGGER.log(level, event, extra={"fields": fields})
