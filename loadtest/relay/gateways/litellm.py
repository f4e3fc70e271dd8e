"""LiteLLM's proxy, one worker, as its documentation configures an OpenAI-compatible backend."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from loadtest.relay.gateways.base import PEERS_VENV, ProcessGateway, find_program, first_line
from loadtest.relay.load.chunks import MODEL

# JSON is YAML too; the values are ours and need no quoting beyond this.
_CONFIG: Final = """\
model_list:
  - model_name: {model}
    litellm_params:
      model: openai/{model}
      api_base: {backend}/v1
      api_key: none
litellm_settings:
  telemetry: false
  request_timeout: 600
  num_retries: 0
"""


class Litellm(ProcessGateway):
    """The Python gateway that most people know."""

    start_s = 90.0
    ready_path = "/health/liveliness"

    def __init__(self) -> None:
        super().__init__("litellm", interpreted=True)

    def available(self) -> str | None:
        """It needs the program."""
        if find_program("litellm"):
            return None
        return f"litellm is neither on PATH nor in ${PEERS_VENV}/bin"

    def version(self) -> str:
        """Return the last word of `litellm --version`."""
        line = first_line([find_program("litellm") or "litellm", "--version"])
        return line.split()[-1] if line else ""

    def environment(self, backend_url: str) -> Mapping[str, str]:
        """Keep it from asking the internet for prices, and from asking for keys that no other gateway checks."""
        return {
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",
            "LITELLM_LOG": "ERROR",
            "LITELLM_MODE": "PRODUCTION",
            "LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY": "true",
        }

    def command(self, backend_url: str, port: int, scratch: Path) -> Sequence[str]:
        """Write the configuration and return the command line."""
        config = scratch / "litellm.yaml"
        config.write_text(_CONFIG.format(model=MODEL, backend=backend_url))
        program = find_program("litellm") or "litellm"
        return [
            program, "--config", str(config), "--host", "127.0.0.1", "--port", str(port), "--num_workers", "1",
        ]  # fmt: skip
