"""A child process takes the crash, the parent gets the reason."""

from __future__ import annotations

import os
import sys

import pytest

from splitdeconv.targets.child import Child
from splitdeconv.targets.target import CompileError

ECHO = """
from splitdeconv.targets.target import CompileError
from splitdeconv.targets.child import serve
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
    script = "import os; from splitdeconv.targets.child import serve; serve(lambda _: os.environ['SAID'].encode())"
    environment = {**os.environ, "SAID": "so"}
    assert Child(["-c", script], executable=sys.executable, environment=environment).ask(b"") == b"so"


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux limits a process from outside")
def test_memory_has_a_limit() -> None:
    script = "from splitdeconv.targets.child import serve; serve(lambda size: bytes(int(size))[:1])"
    child = Child(["-c", script], memory_bytes=1 << 28)
    assert child.ask(b"1000") == b"\0"
    with pytest.raises(CompileError, match="stops with code 1"):
        child.ask(b"1000000000")
    assert child.ask(b"1000") == b"\0"
