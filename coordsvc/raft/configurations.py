"""The configurations in the log: who counts as of what is applied, and what each entry after that changes.

A member always uses the newest configuration in its log, committed or not (Raft §6). So whatever changes
the log says so here: an append, a truncation, a snapshot that replaces it, and apply.

Rule of this file: the history begins with the configuration as of `applied`, and holds after it exactly
those of the CONFIGURATION entries that the log has.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from coordsvc.raft.log import Log, LogStateError
from coordsvc.raft.membership import ConfigurationError, validate_configuration
from coordsvc.raft.types import Configuration, Entry, EntryKind, Index

Decode = Callable[[bytes], Configuration]

_CONFIGURATION = EntryKind.CONFIGURATION  # looked up once: every entry that is appended is asked


class Configurations:
    """`newest` is in force; `index` is that of its entry, 0 if it was there from the start."""

    __slots__ = ("_decode", "_history", "index", "newest")

    def __init__(self, applied: Configuration, decode: Decode | None) -> None:
        self._decode = decode
        self._history: list[tuple[Index, Configuration]] = [(0, applied)]
        self._note_newest()

    def decode(self, data: bytes) -> Configuration:
        """Return the configuration that the entry of `data` puts in force.

        Raises:
            ConfigurationError: It says nothing, or names what no cluster can have.
        """
        if self._decode is None:
            raise ConfigurationError("this member cannot read configuration entries")
        try:
            configuration = self._decode(data)
        except ConfigurationError:
            raise
        except ValueError as error:
            raise ConfigurationError(f"the configuration entry cannot be read: {error}") from error
        validate_configuration(configuration)
        return configuration

    def recover(self, log: Log, page_bytes_max: int) -> None:
        """Find the configurations of the entries behind `applied`; reads the log page by page.

        Raises:
            LogStateError: An entry holds none that can be.
        """
        index = log.applied + 1
        while index <= log.last_index:
            page = log.slice(index, log.last_index + 1, page_bytes_max)
            try:
                self.note_appended(page)
            except ConfigurationError as error:
                raise LogStateError(f"in the log from {index} on: {error}") from error
            index += len(page)

    # --- the log changes -------------------------------------------------------------------------

    def note_appended(self, entries: Iterable[Entry]) -> bool:
        """Note that `entries` are in the log now; True if another configuration is in force."""
        found = [entry for entry in entries if entry.kind is _CONFIGURATION]
        if not found:
            return False
        self._history += [(entry.index, self.decode(entry.data)) for entry in found]
        self._note_newest()
        return True

    def note_truncated(self, first: Index) -> bool:
        """Note that the log has lost everything from `first` on; True if another one is in force."""
        if self.index < first:
            return False
        while self._history[-1][0] >= first:
            self._history.pop()
        assert self._history, "R6: the configuration as of what is applied is committed"
        self._note_newest()
        return True

    def replace_all(self, index: Index, configuration: Configuration) -> None:
        """Note that the log was replaced by a snapshot at `index`."""
        self._history = [(index, configuration)]
        self._note_newest()

    def note_applied(self, index: Index) -> None:
        """Note that everything up to `index` is applied: nobody asks for what was before."""
        history = self._history
        while len(history) > 1 and history[1][0] <= index:
            del history[0]

    # --- looking ---------------------------------------------------------------------------------

    def is_committed(self, commit: Index) -> bool:
        """Say whether no change is under way in this log, as far as `commit` tells."""
        return self.index <= commit

    def applied(self) -> Configuration:
        """Return the configuration as of what is applied: the one that belongs to a snapshot."""
        return self._history[0][1]

    def as_of(self, index: Index) -> Configuration:
        """Return the configuration that the log up to `index` puts in force; `index` >= applied."""
        for since, configuration in reversed(self._history):
            if since <= index:
                return configuration
        return self._history[0][1]

    def changes(self) -> list[tuple[Index, Configuration]]:
        """Return the index and the configuration of every entry behind `applied`, in order."""
        return self._history[1:]

    def _note_newest(self) -> None:
        self.index, self.newest = self._history[-1]
