"""The spool: one worker's durable queue on disk. Appended by the pass, read by the recorder's flusher.

A spool is a directory `<root>/<name>/` of numbered segments, locked for as long as its worker lives. What was gathered is
written when `commit` returns, so a killed process loses nothing of it; `sync` makes that outlive a loss of power.

An exchange is open from its open line to its record. A segment goes when every record in it is stored; open lines in it
that still wait for their record are carried over to the newest segment first. So whatever moment the process dies at,
what is left holds the open line or the record of everything that is not stored.
"""

from __future__ import annotations

import contextlib
import errno
import os
import threading
from pathlib import Path

from proxy.core.spoolformat import OPEN, RECORD, encode_line
from proxy.gateway.segments import Batch, Gathered, Segment, read_records
from proxy.gateway.spooldir import SEGMENT_SUFFIX, make_locked, remove, sync_directory
from proxy.gateway.unread import Unread

SEGMENT_BYTES = 8 * 2**20
SEGMENT_MIN_BYTES = 4096
DISK_SLICE_MAX = 250
"""Records read from the disk in one go: a batch of 2,000 takes 4 ms, in which nobody would be served."""


class Spool:
    """Owns its directory. Everything but `sync` belongs to the event loop's thread."""

    def __init__(
        self,
        root: Path,
        name: str,
        *,
        max_bytes: int,
        segment_bytes: int = SEGMENT_BYTES,
        sync_each: bool = False,
        sync_later: bool = True,
    ) -> None:
        """`sync_each`: fsync every append. `sync_later`: somebody calls `sync` now and then."""
        self.directory = root / name
        self.max_bytes = max_bytes
        self._segment_bytes = min(segment_bytes, max(SEGMENT_MIN_BYTES, max_bytes // 8))
        self._sync_each = sync_each
        self._sync_later = sync_later and not sync_each
        self._segments: dict[int, Segment] = {}
        self._opened: dict[str, tuple[Segment, bytes]] = {}
        self._reading = (1, 0)
        self._stored = (1, 0)
        self._gathered: list[Gathered] = []
        self.gathered_bytes = 0
        """Size of the lines that wait for `commit`."""
        self.bytes = 0
        """Size of all segments."""
        self.unread = 0
        """Records appended and not yet handed out by `read`."""
        self._held = Unread()
        self._syncing = threading.Lock()
        self._guard = threading.Lock()
        self._retired: list[int] = []
        self._removed: list[Path] = []
        self._dirty = self._new_files = False
        self._torn = False
        self._lock = make_locked(root, name)
        self._descriptor = -1
        self._current = self._add_segment()

    @property
    def open_exchanges(self) -> int:
        """Exchanges whose record has not come yet."""
        return len(self._opened)

    # appending

    def gather_open(self, exchange_id: str, payload: bytes) -> None:
        """Note that an exchange begins, to be written with the next `commit`."""
        line = encode_line(OPEN, payload)
        self.gathered_bytes += len(line)
        self._gathered.append((exchange_id, line, ()))

    def gather_record(self, exchange_id: str, payloads: tuple[bytes, ...]) -> None:
        """The same of a record, which ends its exchange, and those of its parts."""
        if len(payloads) == 1:
            line = encode_line(RECORD, payloads[0])
        else:
            line = b"".join([encode_line(RECORD, payload) for payload in payloads])
        self.gathered_bytes += len(line)
        self._gathered.append((exchange_id, line, payloads))

    def commit(self) -> list[tuple[Gathered, OSError]]:
        """Write what was gathered, in one write; returns what the disk would not have."""
        gathered, self._gathered = self._gathered, []
        if not gathered:
            return []
        self.gathered_bytes = 0
        try:
            self._write(gathered)
        except OSError:
            return self._write_each(gathered)
        return []

    def append_open(self, exchange_id: str, payload: bytes) -> None:
        """Write down at once that an exchange begins. Raises OSError, with nothing written, when the disk won't have it."""
        self._write([(exchange_id, encode_line(OPEN, payload), ())])

    def append_record(self, exchange_id: str, *payloads: bytes) -> None:
        """Write down a record and its parts at once. Raises OSError, with nothing written."""
        lines = [encode_line(RECORD, payload) for payload in payloads]
        self._write([(exchange_id, b"".join(lines), payloads)])

    def _write_each(self, gathered: list[Gathered]) -> list[tuple[Gathered, OSError]]:
        """The disk would not have all of it: one by one, for there may be room for some."""
        failed = []
        for each in gathered:
            try:
                self._write([each])
            except OSError as error:
                failed.append((each, error))
        return failed

    def _write(self, gathered: list[Gathered]) -> None:
        """Append lines, and remember what they are. Raises OSError, with nothing written."""
        lines = gathered[0][1] if len(gathered) == 1 else b"".join([line for _, line, _ in gathered])
        segment = self._append(lines)
        records: list[bytes] = []
        for exchange_id, line, payloads in gathered:
            if payloads:
                records += payloads
                self.end_exchange(exchange_id)
            else:
                self._opens(segment, exchange_id, line)
        if records:
            segment.records += len(records)
            self.unread += len(records)
            self._held.add((segment.number, segment.size, records), len(lines))

    def end_exchange(self, exchange_id: str) -> None:
        """The exchange's record is safe, here or elsewhere: its open line need not be kept."""
        found = self._opened.pop(exchange_id, None)
        if found is not None:
            segment, line = found
            segment.waiting_bytes -= len(line)

    def _opens(self, segment: Segment, exchange_id: str, line: bytes) -> None:
        segment.opens.append(exchange_id)
        segment.waiting_bytes += len(line)
        self._opened[exchange_id] = (segment, line)

    def _append(self, line: bytes) -> Segment:
        segment = self._current
        if self._torn or (segment.size + len(line) > self._segment_bytes and segment.size):
            segment = self._add_segment()
            self._torn = False
        written = os.write(self._descriptor, line)
        if written != len(line):
            self._take_back(segment)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(segment.path))
        segment.size += written
        self.bytes += written
        if self._sync_each:
            os.fdatasync(self._descriptor)
        else:
            self._dirty = True
        return segment

    def _take_back(self, segment: Segment) -> None:
        """Half a line was written: cut it off, else let no line follow it in this segment."""
        try:
            os.ftruncate(self._descriptor, segment.size)
        except OSError:
            self._torn = True

    def _add_segment(self) -> Segment:
        number = self._current.number + 1 if self._segments else 1
        segment = Segment(number, self.directory / f"{number:010}{SEGMENT_SUFFIX}")
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC
        descriptor = os.open(segment.path, flags, 0o600)
        with self._guard:
            previous, self._descriptor = self._descriptor, descriptor
            if self._sync_later and previous >= 0:
                self._retired.append(previous)
            self._dirty = self._new_files = self._sync_later
        if not self._sync_later:
            if previous >= 0:
                os.close(previous)
            if self._sync_each:
                sync_directory(self.directory)
        self._segments[number] = self._current = segment
        return segment

    # syncing

    @property
    def unsynced(self) -> bool:
        """There is something for `sync` to do."""
        return self._dirty or bool(self._removed)

    def sync(self) -> bool:
        """Make everything appended so far outlive a loss of power. From any thread. False: there was nothing to do."""
        with self._syncing:
            if not self.unsynced:
                return False
            with self._guard:
                # a descriptor of its own: the loop may end the current segment meanwhile
                descriptors = [*self._retired, os.dup(self._descriptor)]
                new_files, self._new_files = self._new_files, False
                self._retired = []
                removed, self._removed = self._removed, []
                self._dirty = False
            try:
                for descriptor in descriptors:
                    os.fdatasync(descriptor)
                if new_files:
                    sync_directory(self.directory)
                # only now, since what they held may have been carried over to what has just been synced
                for path in removed:
                    path.unlink(missing_ok=True)
            except OSError:
                self._dirty = self._new_files = True
                self._removed = removed + self._removed
                raise
            finally:
                for descriptor in descriptors:
                    os.close(descriptor)
        return True

    # reading

    @property
    def reads_disk(self) -> bool:
        """`read` reads the disk, because more waits than is held in memory."""
        return not self._held.whole

    def read(self, records_max: int) -> Batch:
        """The next records in order: from memory at most `records_max`, or what was written in one go; from the disk at most
        DISK_SLICE_MAX. None only when there are none. Raises OSError.
        """
        if not self._held.whole:
            return self._read_disk(min(records_max, DISK_SLICE_MAX))
        number, end, payloads = self._held.take(records_max) or (0, 0, [])
        self.unread -= len(payloads)
        if not self.unread:  # what may be behind it are open lines
            number, end = self._current.number, self._current.size
        self._reading = (number, end)
        return Batch(payloads, number, end, 0, self.unread > 0)

    def _read_disk(self, records_max: int) -> Batch:
        payloads: list[bytes] = []
        damaged = 0
        number, offset = self._reading
        while len(payloads) < records_max:
            segment = self._segments[number]
            if offset < segment.size:
                found, after, bad = read_records(segment, offset, records_max - len(payloads))
                payloads += found
                damaged += bad
                offset = after
            elif segment is self._current:
                self._held.caught_up()
                break
            else:
                number, offset = number + 1, 0
        self._reading = (number, offset)
        # Lines that were damaged, or given up unread, are records that nobody will read.
        self.unread = 0 if self._held.whole else max(0, self.unread - len(payloads))
        return Batch(payloads, number, offset, damaged, not self._held.whole)

    def acknowledge(self, batch: Batch) -> None:
        """Every record up to the end of this batch is stored: segments before it go, once their removal pays.

        A segment that is mostly open lines stays until fewer of them wait: carrying those over again and again would
        write more than it frees.
        """
        self._stored = max(self._stored, (batch.segment, batch.end))
        for segment in [each for each in self._segments.values() if each.number < self._stored[0]]:
            if segment.waiting_bytes * 2 <= segment.size:
                self._remove(segment)

    @property
    def at_rest(self) -> bool:
        """Something lies here, and all of it is stored."""
        return bool(self._current.size) and self._stored >= (self._current.number, self._current.size)

    def rotate(self) -> None:
        """At rest: begin a new segment, and let go of the one before."""
        assert self.at_rest, "only what is stored can be let go"
        self._add_segment()
        self.acknowledge(self.read(1))

    def drop_oldest(self) -> int:
        """Give up the oldest segment with records that may not be stored; returns how many. 0: there is none."""
        segment = self._segments[self._stored[0]]
        if segment is self._current:
            if not segment.records:
                return 0
            self._add_segment()
        after = (segment.number + 1, 0)
        self._held.give_up()
        self._stored, self._reading = max(self._stored, after), max(self._reading, after)
        self._remove(segment)
        segment.path.unlink(missing_ok=True)
        return segment.records

    def _remove(self, segment: Segment) -> None:
        for exchange in segment.opens:
            holder, line = self._opened.get(exchange, (None, b""))
            if holder is segment:
                self._opens(self._append(line), exchange, line)
                segment.waiting_bytes -= len(line)
        del self._segments[segment.number]
        self.bytes -= segment.size
        if self._sync_later:
            with self._guard:
                self._removed.append(segment.path)
        else:
            segment.path.unlink(missing_ok=True)

    # the end

    def close(self) -> bool:
        """Let go. True: nothing was left and the directory is gone. False: another worker will adopt what is left."""
        empty = not self._opened and self._stored >= (self._current.number, self._current.size)
        with contextlib.suppress(OSError):
            if self._sync_later:
                self.sync()
        for descriptor in (*self._retired, self._descriptor):
            os.close(descriptor)
        self._retired, self._descriptor = [], -1
        if empty:
            with contextlib.suppress(OSError):
                remove(self.directory)
        os.close(self._lock)
        return empty
