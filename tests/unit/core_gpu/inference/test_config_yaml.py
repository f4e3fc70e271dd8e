"""The users' config.yaml: taken as they wrote it; what is ignored is named, what is wrong is refused by its key."""

from __future__ import annotations

from pathlib import Path

import pytest

from core_gpu.inference.config_yaml import read_config
from core_gpu.inference.report import beginning
from streamkit.ops.settings import SettingsError

#: As they wrote it.
THEIRS = """\
server:
  port: ":50051"
  max_message_size_mb: 50
  worker_count_per_gpu: 4      # 32 total workers (8 GPUs × 4)
  queue_size: 200

gpus:
  enabled: true
  count: 8                     # 8× NVIDIA RTX 6000 Blackwell
  memory_gb_per_gpu: 96
  assignment_strategy: "round-robin"  # or "least-loaded"

capacity:
  max_models: 1200             # Conservative: 150 models per GPU
  max_memory_gb: 720           # 90GB per GPU × 8 (safety margin)
  eviction_policy: "lfu"
  idle_timeout_minutes: 60

onnx:
  library_path: "C:/onnxruntime-win-x64-gpu-1.21.0/lib/onnxruntime.dll"

models:
  sanders:
    model_path: "d:/Projects/webcodecstest/model/unet_328.onnx"
    preload: false
    preferred_gpu: 0           # -1 = auto assign
  
  bob:
    model_path: "d:/Projects/webcodecstest/model/unet_328.onnx"
    preload: false
    preferred_gpu: 1
"""  # noqa: RUF001, W293  as they wrote it


def read(tmp_path: Path, text: str, *, cuda: bool = False):
    file = tmp_path / "config.yaml"
    file.write_text(text)
    return read_config(file, has_cuda=lambda: cuda)


def test_each_key_of_theirs_is_honoured(tmp_path):
    found = read(tmp_path, THEIRS, cuda=True).settings
    assert (found.host, found.port, found.max_message_mb, found.queue_size) == ("127.0.0.1", 50051, 50, 200)
    assert (found.device, found.gpus, found.workers_per_gpu, found.memory_mb_per_gpu) == ("cuda", 8, 4, 98304)
    assert (found.assignment, found.eviction) == ("round-robin", "lfu")
    assert (found.max_models, found.max_memory_mb, found.idle_timeout_ms) == (1200, 737280, 3_600_000)
    assert {name: model.preferred_gpu for name, model in found.models.items()} == {"sanders": 0, "bob": 1}


def test_what_is_ignored_or_cannot_be_here_is_named(tmp_path):
    warnings = read(tmp_path, THEIRS + "  extra: 1\nservr:\n  port: 1\n".replace("  extra: 1\n", "")).warnings
    assert [line.split(":")[0] for line in warnings] == [
        "servr", "server.port", "onnx.library_path", "gpus.enabled",
        "models.sanders.model_path", "models.bob.model_path",
    ]  # fmt: skip
    assert warnings[0] == 'servr: ignored: unknown, did you mean "server"?'
    assert "a path of Windows" in warnings[-1]
    assert read(tmp_path, "server: {qeue_size: 3}").warnings == [
        'server.qeue_size: ignored: unknown, did you mean "queue_size"?'
    ]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("server: {port: 99999}", 'server.port: expected an address like ":50051", got 99999'),
        ("server: {queue_size: many}", "server.queue_size: expected a whole number, got 'many'"),
        ("server: {queue_size: 0}", "server.queue_size: Expected `int` >= 1"),
        ("capacity: {eviction_policy: random}", "capacity.eviction_policy: Invalid enum value 'random'"),
        ("capacity: {max_memory_gb: -1}", "capacity.max_memory_gb: expected a number from 0 to 16384, got -1"),
        ("gpus: {enabled: 3}", "gpus.enabled: expected true or false, got 3"),
        ("models: {bob: 3}", "models.bob: expected a table, got 3"),
        ("models: {bob: {preload: true}}", "models.bob.model_path: required, but missing"),
        ("- 1", "the file: expected a table"),
        ("a: [", "not valid YAML"),
        ("a: !!python/object/apply:os.system [x]", "not valid YAML"),
    ],
)
def test_what_is_wrong_is_refused_by_its_key(tmp_path, text, words):
    with pytest.raises(SettingsError) as caught:
        read(tmp_path, text)
    assert words in str(caught.value)


def test_an_empty_file_is_the_defaults(tmp_path):
    found = read(tmp_path, "")
    assert (found.warnings, found.settings.gpus, found.settings.models) == ([], 1, {})


def test_the_report_begins_as_theirs(tmp_path):
    found = read(tmp_path, THEIRS, cuda=True)
    assert beginning(found.settings, "config.yaml", [])[1:10] == [
        "Multi-GPU Inference Server (Inference ONLY)",
        "=" * 80,
        "✅ Configuration loaded from config.yaml",
        "   GPUs: 8 × 96GB",  # noqa: RUF001  as theirs
        "   Workers per GPU: 4 (total: 32 workers)",
        "   Max models: 1200",
        "   Max memory: 720 GB",
        "   Eviction policy: lfu",
        "   Configured models: 2",
    ]
