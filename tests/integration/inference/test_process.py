"""`headrace inference` and `headrace up` as processes: the users' file, the report, the table's row."""

from __future__ import annotations

import shutil

import grpc

from core_gpu.inference.reference.cache import reference
from streamkit.wire.pb import inference_pb2 as pb
from streamkit.wire.pb.inference_pb2_grpc import InferenceServiceStub
from tests.support.inference import request
from tests.support.processes import launch, until

THEIRS = """\
server:
  port: ":0"
  worker_count_per_gpu: 2
gpus: {enabled: false, count: 2, memory_gb_per_gpu: 1}
capacity: {max_models: 4, max_memory_gb: 2, eviction_policy: lfu}
models:
  bob:
    model_path: "bob.onnx"
    preload: true
    preferred_gpu: 1
  sanders:
    model_path: "d:/model/unet_328.onnx"
    preload: true
"""


def test_their_file_starts_it_with_their_report_and_a_model_of_their_own(tmp_path):
    shutil.copy(reference("mouth", tmp_path), tmp_path / "bob.onnx")
    (tmp_path / "config.yaml").write_text(THEIRS)
    with launch(
        "inference", "--config", "config.yaml", "--ops-port", "0", folder=tmp_path, name="inference"
    ) as running:
        ready = running.ready()
        port = ready["url"].rsplit(":", 1)[1]
        until(lambda: "Ready to accept connections" in running.output(), what="the report")
        report = running.output()
        for line in (
            "✅ Model registry initialized (1 models preloaded)",
            "   GPU 0: 0 models, 0 MB used / 1024 MB total",
            "   GPU 1: 1 models, 17 MB used / 1024 MB total",
            f"Inference server listening on port :{port}",
            "sanders: not preloaded: model sanders: no such file: d:/model/unet_328.onnx",
        ):
            assert line in report
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            answer = InferenceServiceStub(channel).InferBatch(request(model_id="bob"), timeout=30)
        assert (answer.success, answer.gpu_id) == (True, 1)
        assert answer.worker_id in (2, 3)
        assert (ready["proto_package"], ready["models"]) == ("inference", ["bob", "sanders"])


def test_a_mistake_in_their_file_is_one_line(tmp_path):
    (tmp_path / "config.yaml").write_text("capacity: {eviction_policy: random}\n")
    with launch("inference", "--config", "config.yaml", folder=tmp_path, name="inference") as running:
        assert running.wait() == 2
    assert "config.yaml: capacity.eviction_policy: Invalid enum value 'random'" in running.output()


def test_up_starts_it_shows_it_and_leaves_it_out_when_asked(tmp_path):
    (tmp_path / "given.toml").write_text("[simulator]\n[inference]\n")
    options = ["--config", "given.toml", "--port-base", "0"]
    with launch("up", *options, folder=tmp_path, name="up") as running:
        services = {entry["name"]: entry for entry in running.ready()["services"]}
        ours = services["inference"]
        assert (ours["kind"], ours["proto_package"], ours["models"]) == (
            "inference",
            "inference",
            ["ave", "mouth", "unet"],
        )
        until(lambda: "ave, mouth, unet (CPU)" in running.output(), what="its row")
        with grpc.insecure_channel(ours["url"].removeprefix("grpc://")) as channel:
            stub = InferenceServiceStub(channel)
            # Nothing is loaded before anybody asks.
            assert stub.Health(pb.HealthRequest(), timeout=30).models_loaded == 0
            assert stub.InferBatch(request(), timeout=30).success
    with launch("up", *options, "--no-avatar", folder=tmp_path, name="without") as running:
        assert "inference" not in {entry["name"] for entry in running.ready()["services"]}
