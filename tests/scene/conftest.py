"""One capture of every layout, rendered once for all of these tests; those who break one copy it first."""

from __future__ import annotations

from pathlib import Path

import pytest

from . import captures


@pytest.fixture(scope="session")
def intact(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {name: write(tmp_path_factory.mktemp(name)) for name, write in captures.WRITERS.items()}
