"""What all tests share: one thread a process, so that two test processes share two cores, and nothing that is timed."""

from __future__ import annotations

import os

import pytest
from hypothesis import settings

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported, and for the processes that tests start
settings.register_profile("any machine", deadline=None)
settings.load_profile("any machine")

FIRST = ("test_docs.py", "test_resume.py", "test_cli.py", "test_imagenet.py")
"""The files with the longest tests: begun last, one of them would keep one process busy while the other waits."""


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: item.path.name not in FIRST)
