"""A child process takes the crash, the parent gets the reason."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from splitdeconv.errors import CompileError
from splitdeconv.targets.child import Child, running
from splitdeconv.workers.serve import serve

ECHO = """
from splitdeconv.targets.target import CompileError
from splitdeconv.workers.serve import serve
def answer(request):
    if request == b"no":
        raise CompileError("not this one")
    print("noise that must not reach the parent")
    return request[::-1]
serve(answer)
"""


@pytest.fixture
def echo() -> Child:
    return Child(["-c", ECHO])


def test_answers_come_back_and_refusals_with_their_reason(echo: Child) -> None:
    assert echo.ask(b"abc" * 100_000) == b"cba" * 100_000
    with pytest.raises(CompileError, match="not this one"):
        echo.ask(b"no")
    assert echo.ask(b"") == b""
    echo.close()


@pytest.mark.skipif(sys.platform == "win32", reason="signals have no names there")
def test_a_crash_is_named_and_the_next_request_starts_anew() -> None:
    child = Child(["-c", "import os, sys; sys.stdin.buffer.read(8); os.kill(os.getpid(), 11)"])
    for _ in range(2):
        with pytest.raises(CompileError, match=r"crashes on this model \(SIGSEGV\)"):
            child.ask(b"x")


def test_a_hang_ends() -> None:
    with pytest.raises(CompileError, match="gave no answer within 1 s"):
        Child(["-c", "import time; time.sleep(60)"], patience_s=1.0).ask(b"x")


def test_a_child_that_reads_nothing_ends_too() -> None:
    with pytest.raises(CompileError, match="gave no answer within 1 s"):
        Child(["-c", "import time; time.sleep(60)"], patience_s=1.0).ask(bytes(10_000_000))


def test_executable_and_environment_are_the_callers() -> None:
    script = "import os; from splitdeconv.workers.serve import serve; serve(lambda _: os.environ['SAID'].encode())"
    environment = {**os.environ, "SAID": "so"}
    assert Child(["-c", script], executable=sys.executable, environment=environment).ask(b"") == b"so"


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux limits a process from outside")
def test_memory_has_a_limit() -> None:
    script = "from splitdeconv.workers.serve import serve; serve(lambda size: (b'x' * int(size), sleep(9))[0][:1])"
    child = Child(["-c", "from time import sleep; " + script.replace("9", "int(size) / 1e8")], memory_bytes=1 << 28)
    assert child.ask(b"1000") == b"x"
    with pytest.raises(CompileError, match=r"needs more memory than the 0\.25 GiB that it may take"):
        child.ask(b"1000000000")
    assert child.ask(b"1000") == b"x"


def test_a_lack_of_memory_is_a_reason_and_not_an_end() -> None:
    child = Child(["-c", "from splitdeconv.workers.serve import serve; serve(lambda size: bytes(int(size))[:1])"])
    with pytest.raises(CompileError, match="needs more memory than there is"):
        child.ask(str(2**60).encode())
    assert child.ask(b"1") == b"\0"
    assert child.starts == 1


def test_the_last_words_of_a_child_that_stops_are_told() -> None:
    with pytest.raises(
        CompileError, match=r"stops with code 1 \(ModuleNotFoundError: No module named 'nothing_here'\)"
    ):
        Child(running("nothing_here")).ask(b"")


def test_a_module_in_the_folder_is_not_taken_for_the_childs_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "queue.py").write_text("raise RuntimeError('not this one')")
    monkeypatch.chdir(tmp_path)
    assert Child(running("tests.targets.test_child")).ask(b"") == b"main"


def test_news_come_before_the_answer_and_prolong_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    script = "from splitdeconv.workers.serve import serve_with_news\n"
    script += "def answer(request, tell):\n for n in range(4): tell(b'%d' % n)\n return b'end'\n"
    now, heard = [0.0], list[bytes]()

    def hear(news: bytes) -> None:
        heard.append(news)
        now[0] += 3.0

    monkeypatch.setattr("splitdeconv.targets.child.time", SimpleNamespace(monotonic=lambda: now[0]))
    child = Child(["-c", script + "serve_with_news(answer)"], patience_s=4.0)
    assert child.ask(b"", heard=hear) == b"end"
    assert heard == [b"0", b"1", b"2", b"3"]


def test_an_interrupt_leaves_no_answer_behind() -> None:
    script = "from splitdeconv.workers.serve import serve_with_news\n"
    script += "def answer(request, tell):\n tell(b''); return request\nserve_with_news(answer)"

    def interrupt(_: bytes) -> None:
        raise KeyboardInterrupt

    child = Child(["-c", script])
    with pytest.raises(KeyboardInterrupt):
        child.ask(b"first", heard=interrupt)
    assert child.ask(b"second") == b"second"


@pytest.mark.skipif(sys.platform == "win32", reason="there are no such signals")
def test_a_busy_child_ends_with_its_parent(tmp_path: Path) -> None:
    """Also where the parent is killed and cannot clean up."""
    pid = tmp_path / "pid"
    busy = "import os, pathlib, time; from splitdeconv.workers.serve import serve\n"
    busy += f"def answer(_):\n pathlib.Path({str(pid)!r}).write_text(str(os.getpid())); time.sleep(60)\nserve(answer)"
    parent = f"from splitdeconv.targets.child import Child; Child(['-c', {busy!r}]).ask(b'')"
    process = subprocess.Popen([sys.executable, "-c", parent])
    wait_until(lambda: pid.exists() and pid.read_text() != "")
    process.kill()
    process.wait()
    wait_until(lambda: not is_running(int(pid.read_text())))


def wait_until(holds: Callable[[], bool]) -> None:
    for _ in range(200):
        if holds():
            return
        time.sleep(0.05)
    raise AssertionError("not within 10 s")


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    stat = Path(f"/proc/{pid}/stat")
    return not (stat.exists() and ") Z " in stat.read_text())


def main() -> None:
    """What a child of these tests runs."""
    serve(lambda _: main.__name__.encode())
