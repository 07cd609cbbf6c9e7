"""Calls in a process of their own: values, the project's errors, and a child that dies."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from splitdeconv.accelerator.layers import read_network
from splitdeconv.errors import UsageError
from splitdeconv.lab.paper.child import in_child


def test_a_value_comes_back_from_another_process_which_stays() -> None:
    first, second = in_child(os.getpid), in_child(os.getpid)
    assert first == second != os.getpid()


def test_the_projects_errors_come_back_with_their_message() -> None:
    with pytest.raises(UsageError, match=r"none\.toml: cannot be read"):
        in_child(read_network, Path("none.toml"))
    assert in_child(abs, -1) == 1


def test_a_child_that_dies_is_said_and_replaced() -> None:
    with pytest.raises(UsageError, match="ended by itself"):
        in_child(os._exit, 3)
    assert in_child(abs, -1) == 1


def test_a_bug_keeps_its_kind() -> None:
    with pytest.raises(ZeroDivisionError):
        in_child(divmod, 1, 0)
