"""`openai-proxy serve` as a process of a newcomer: embedded Postgres, demo mode, a free port, output kept."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
DEADLINE_S = 60.0


def wait_until(holds: Callable[[], object], what: str) -> None:
    end = time.monotonic() + DEADLINE_S
    while not holds():
        assert time.monotonic() < end, f"{what} did not come within {DEADLINE_S:.0f} s"
        time.sleep(0.05)


def environment(data: Path, **settings: object) -> dict[str, str]:
    """Nothing of this machine's settings, and those given, in lower case."""
    given = {"port": 0, "data_dir": data} | settings
    named = {f"PROXY_{name.upper()}": str(value) for name, value in given.items() if value is not None}
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PROXY_", "OPENAI_"))}
    return kept | named | {"PYTHONPATH": str(ROOT), "NO_PROXY": "127.0.0.1"}


def command(*arguments: str, data: Path, **settings: object) -> subprocess.CompletedProcess[str]:
    """Run `openai-proxy` to its end."""
    return subprocess.run(
        [sys.executable, "-m", "proxy", *arguments],
        env=environment(data, **settings),
        cwd=data.parent,
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )


class Serving:
    """A running server and its output, in a session of its own as a terminal's foreground job is."""

    def __init__(self, data: Path, **settings: object) -> None:
        self._output = data.with_name("output")
        with self._output.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "proxy", "serve"],
                env=environment(data, **settings),
                cwd=data.parent,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @classmethod
    @contextlib.contextmanager
    def running(
        cls, data: Path, *, workers: int = 1, ready: bool = True, **settings: object
    ) -> Iterator[Serving]:
        """Started, its workers up, and gone at the end of the block. A config file says itself how many workers."""
        serving = cls(data, workers=None if "config" in settings else workers, **settings)
        try:
            serving.wait_for_log("worker ready", workers)
            if ready:
                wait_until(lambda: serving.get("/readyz")[0] == 200, "/readyz")
            yield serving
        except BaseException:
            print(serving.log()[-6000:])
            raise
        finally:
            serving.kill()

    def log(self) -> str:
        return self._output.read_text(errors="replace")

    def wait_for_log(self, words: str, count: int = 1) -> None:
        def seen() -> bool:
            found = self.log().count(words) >= count
            assert found or self.process.poll() is None, f"it ended:\n{self.log()[-6000:]}"
            return found

        wait_until(seen, words)

    @property
    def url(self) -> str:
        found = re.search(r"serving url=(\S+)", self.log())
        assert found, self.log()
        return found[1]

    def get(self, path: str, key: str | None = None) -> tuple[int, str]:
        headers = {"authorization": f"Bearer {key}"} if key else {}
        request = urllib.request.Request(self.url + path, headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=DEADLINE_S) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()
        except OSError:
            return 0, ""

    def metric(self, name: str) -> float:
        found = re.search(rf"^openai_proxy_{name} (\S+)$", self.get("/metrics")[1], re.MULTILINE)
        return float(found[1]) if found else 0.0

    def workers(self) -> list[int]:
        return [pid for pid in children(self.process.pid) if "proxy.simulator" not in words_of(pid)]

    def press_ctrl_c(self) -> None:
        """What a terminal does: SIGINT to every process of the job."""
        os.killpg(self.process.pid, signal.SIGINT)

    def end(self) -> int:
        return self.process.wait(DEADLINE_S)

    def kill(self) -> None:
        for pid in [*children(self.process.pid), self.process.pid]:
            with contextlib.suppress(ProcessLookupError):
                if pid != self.process.pid or self.process.poll() is None:
                    os.kill(pid, signal.SIGKILL)
        self.process.wait(DEADLINE_S)


def children(pid: int) -> list[int]:
    try:
        return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def words_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        return ""


def processes_naming(text: str) -> list[int]:
    """Processes whose command line has this text."""
    return [
        int(path.name)
        for path in Path("/proc").iterdir()
        if path.name.isdigit() and text in words_of(int(path.name))
    ]
