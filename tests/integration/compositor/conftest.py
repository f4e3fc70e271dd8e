"""One inference server for all tests that need mouths."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.inference import inference


@pytest.fixture(scope="session")
def mouths(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a real inference server with the reference models."""
    with inference(tmp_path_factory.mktemp("inference")) as process:
        yield str(process.ready["url"]).removeprefix("grpc://")
