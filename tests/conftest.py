"""Fixtures that several rooms' tests share."""

from __future__ import annotations

from pathlib import Path

import pytest

from .captures import write_dnerf


@pytest.fixture(scope="session")
def balls(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A D-NeRF capture of two balls, 32x32."""
    return write_dnerf(tmp_path_factory.mktemp("captures") / "balls")
