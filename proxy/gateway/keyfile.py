"""The key snapshot: what the keyring knew last, in one file of the data dir, for a start while Postgres is away.

Digests only, never keys; mode 0600; replaced atomically; checked as a whole when read, so half a file is no file.
Workers share it: who finds it as new as its own rows, or being written, leaves it alone.

    {"format": 1, "horizon": "…", "loaded_at": 1760000000.0}
    ["groups" | "plans" | "quotas", <id>, <row>]
    <digest in hex> <row of a key>
    end <CRC-32 of all lines above>
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import zlib
from collections.abc import Iterator
from pathlib import Path

import orjson

from proxy.store.keys_live import LiveRows

log = logging.getLogger(__name__)
FORMAT = 1
_CHUNK_LINES = 10_000


def write(path: Path, rows: LiveRows, loaded_at: float) -> bool:
    """Replace the file. False: another worker has written as much, or is about to, or it can't be written (logged)."""
    lock = path.with_name(path.name + ".lock")
    try:
        with lock.open("a") as held:
            try:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
            if _horizon(path) == rows.horizon:
                return False
            _replace(path, rows, loaded_at)
    except OSError as error:
        log.warning("the key snapshot can't be written", extra={"path": str(path), "error": str(error)})
        return False
    return True


def read(path: Path) -> tuple[LiveRows, float] | None:
    """The rows and when they were read from Postgres; None when there is no whole snapshot (logged)."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        log.warning("the key snapshot can't be read", extra={"path": str(path), "error": str(error)})
        return None
    try:
        return _parse(data)
    except (ValueError, KeyError, AttributeError, StopIteration) as error:
        log.warning(
            "the key snapshot is damaged and not used", extra={"path": str(path), "error": repr(error)}
        )
        return None


def _horizon(path: Path) -> str | None:
    try:
        with path.open("rb") as file:
            header = orjson.loads(file.readline(1000))
    except (OSError, ValueError):
        return None
    return header.get("horizon") if isinstance(header, dict) else None


def _replace(path: Path, rows: LiveRows, loaded_at: float) -> None:
    fresh = path.with_name(path.name + ".new")
    with contextlib.suppress(FileNotFoundError):
        fresh.unlink()
    descriptor = os.open(fresh, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        crc = 0
        for chunk in _chunks(rows, loaded_at):
            crc = zlib.crc32(chunk, crc)
            file.write(chunk)
        file.write(b"end %08x\n" % crc)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)


def _chunks(rows: LiveRows, loaded_at: float) -> Iterator[bytes]:
    yield orjson.dumps({"format": FORMAT, "horizon": rows.horizon, "loaded_at": loaded_at}) + b"\n"
    yield b"".join(
        orjson.dumps([kind, name, row]) + b"\n"
        for kind in ("groups", "plans", "quotas")
        for name, row in getattr(rows, kind).items()
    )
    lines = []
    for digest, row in rows.keys.items():
        lines.append(f"{digest.hex()} {row}\n")
        if len(lines) >= _CHUNK_LINES:
            yield "".join(lines).encode()
            lines.clear()
    yield "".join(lines).encode()


def _parse(data: bytes) -> tuple[LiveRows, float]:
    whole, _, end = data.removesuffix(b"\n").rpartition(b"\n")
    if end != b"end %08x" % zlib.crc32(whole + b"\n"):
        raise ValueError("checksum")
    lines = iter(whole.split(b"\n"))
    header = orjson.loads(next(lines))
    if header["format"] != FORMAT:
        raise ValueError("format")
    rows = LiveRows(horizon=header["horizon"])
    for line in lines:
        if line.startswith(b"["):
            kind, name, row = orjson.loads(line)
            getattr(rows, kind)[name] = row
        else:
            digest, _, text = line.partition(b" ")
            rows.keys[bytes.fromhex(digest.decode())] = text.decode()
    return rows, header["loaded_at"]
