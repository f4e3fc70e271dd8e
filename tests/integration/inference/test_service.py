"""The inference service over real gRPC: answers, encodings, streams, refusals, and nothing left behind."""

from __future__ import annotations

import queue
from concurrent.futures import ThreadPoolExecutor

import grpc
import numpy as np
import onnx
import pytest

from core_gpu.inference.reference.cache import reference
from streamkit.wire.pb import inference_pb2 as pb
from tests.support.inference import face, inference, request, sound
from tests.support.processes import until

FRAME = (3, 320, 320)


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    folder = tmp_path_factory.mktemp("inference")
    (folder / "root").mkdir()
    (folder / "secret.onnx").write_bytes(b"not for you")
    (folder / "root" / "broken.onnx").write_bytes(b"no model")
    (folder / "root" / "link.onnx").symlink_to(folder / "secret.onnx")
    models = (
        f'models_root = "{folder / "root"}"\nvisuals_mb = 4\nworkers_per_gpu = 2\nmax_batch = 4\nstream_credit = 3'
    )
    tables = (
        '[inference.models.mouth]\nmodel_path = "reference:mouth"\n'
        '[inference.models.ave]\nmodel_path = "reference:ave"\n'
        '[inference.models.out]\nmodel_path = "../secret.onnx"'
    )
    with inference(folder, f"{models}\n{tables}") as process:
        process.stub.LoadModel(pb.LoadModelRequest(model_id="mouth"), timeout=30)
        process.root = folder / "root"
        yield process


@pytest.fixture
def server(shared):
    yield shared
    held = ("queued", "running", "held_bytes", "streams")
    until(lambda: not any(shared.gauges()[name] for name in held), what="nothing is held")


def floats(response: pb.InferBatchResponse, at: int = 0) -> np.ndarray:
    return np.frombuffer(response.outputs[at].data, np.float32).reshape(FRAME)


def refused(call, *arguments) -> grpc.RpcError:
    with pytest.raises(grpc.RpcError) as caught:
        call(*arguments, timeout=30)
    return caught.value


def test_a_batch_comes_back_as_float32_planes_in_its_order(server):
    quiet_and_loud = sound(1, 0.0) + sound(1, 1.0)
    response = server.stub.InferBatch(request(2, audio_features=quiet_and_loud), timeout=30)
    assert response.success
    assert (response.width, response.height, len(response.outputs)) == (320, 320, 2)
    given = np.frombuffer(face(2), np.float32).reshape(2, 6, 320, 320)
    assert (floats(response, 0) == given[0, :3]).all()
    assert np.abs(floats(response, 1) - given[1, :3]).mean() > 0.01
    assert response.inference_time_ms > 0


def test_a_client_that_knows_six_fields_is_served(server):
    # As the original interface has it: no new field is set.
    answer = server.stub.InferBatch(request(1, batch_size=1), timeout=30)
    assert len(answer.outputs[0].data) == 3 * 320 * 320 * 4
    assert pb.DESCRIPTOR.package == server.ready["proto_package"]
    assert {"mouth", "broken", "out"} <= set(server.ready["models"])


def test_encodings_carry_the_same_picture_in_fewer_bytes(server):
    av = pytest.importorskip("av")
    exact = floats(server.stub.InferBatch(request(), timeout=30))
    found = {
        encoding: server.stub.InferBatch(request(output_encoding=encoding), timeout=30).outputs[0].data
        for encoding in (pb.FLOAT16, pb.UINT8, pb.JPEG)
    }
    half = np.frombuffer(found[pb.FLOAT16], np.float16).reshape(FRAME)
    assert np.abs(half - exact).max() < 1e-3
    pixels = np.frombuffer(found[pb.UINT8], np.uint8).reshape(320, 320, 3)
    assert np.abs(pixels.transpose(2, 0, 1) / 255 - exact).max() <= 0.5 / 255 + 1e-6
    (frame,) = av.CodecContext.create("mjpeg", "r").decode(av.Packet(found[pb.JPEG]))
    decoded = frame.to_ndarray(format="rgb24").transpose(2, 0, 1) / 255
    assert np.abs(decoded - exact).mean() < 0.06  # the picture is noise, the worst there is for it
    assert len(found[pb.JPEG]) < len(found[pb.UINT8]) < len(found[pb.FLOAT16])


def test_registered_frames_give_the_same_bits_for_a_tenth_of_the_bytes(server):
    registered = server.stub.RegisterVisuals(pb.RegisterVisualsRequest(model_id="mouth", frames=face()), timeout=30)
    again = server.stub.RegisterVisuals(pb.RegisterVisualsRequest(model_id="mouth", frames=face()), timeout=30)
    assert again.visual_ref == registered.visual_ref
    slim = request(visual_frames=b"", visual_ref=registered.visual_ref, visual_index=[0])
    assert slim.ByteSize() < 34_000
    answer = server.stub.InferBatch(slim, timeout=30)
    assert answer.outputs[0].data == server.stub.InferBatch(request(), timeout=30).outputs[0].data
    assert server.gauges()["visuals_bytes"] == registered.stored_bytes == 6 * 320 * 320 * 4
    # 4 MiB hold one: the next one drops it, and says so to whoever still names it.
    other = server.stub.RegisterVisuals(
        pb.RegisterVisualsRequest(model_id="mouth", frames=face(2)[2457600:]), timeout=30
    )
    error = refused(server.stub.InferBatch, slim)
    assert (error.code(), "register again" in error.details()) == (grpc.StatusCode.NOT_FOUND, True)
    assert server.stub.DropVisuals(pb.DropVisualsRequest(visual_ref=other.visual_ref), timeout=30).dropped
    assert server.gauges()["visuals_bytes"] == 0


NAN = np.full((1, 32, 16, 16), np.nan, np.float32).tobytes()
BAD = [
    ({"audio_features": b"1234"}, "audio_features: expected 32768 bytes (1 x 32 x 16 x 16 float32), got 4"),
    (
        {"visual_frames": face()[:-4]},
        "visual_frames: expected 2457600 bytes (1 x 6 x 320 x 320 float32), got 2457596",
    ),
    ({"batch_size": 2}, "audio_features: expected 65536 bytes"),
    ({"batch_size": -1}, "batch_size: expected 1 to 4, got -1"),
    ({"batch_size": 5}, "batch_size: expected 1 to 4, got 5"),
    ({"audio_features": NAN}, "audio_features: expected finite numbers"),
    (
        {"visual_frames": np.full((6, 320, 320), np.inf, np.float32).tobytes()},
        "visual_frames: expected finite numbers",
    ),
    ({"output_encoding": 9}, "output_encoding: expected one of FLOAT32"),
    ({"jpeg_quality": 101}, "jpeg_quality: expected 1 to 100"),
    ({"visual_ref": "x"}, "visual_frames: expected nothing beside visual_ref"),
    ({"model_id": "../secret"}, "model_id: expected 1 to 128 letters"),
    ({"model_id": ""}, "model_id: expected 1 to 128 letters"),
]


@pytest.mark.parametrize(
    ("fields", "words"), BAD, ids=[words.split(" ")[0] + str(at) for at, (_, words) in enumerate(BAD)]
)
def test_bad_input_is_refused_by_the_name_of_its_field_and_its_limit(server, fields, words):
    error = refused(server.stub.InferBatch, request(**fields))
    assert error.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert words in error.details()


@pytest.mark.parametrize(
    ("name", "code", "words"),
    [
        ("nobody", grpc.StatusCode.NOT_FOUND, "no model nobody here; see ListModels"),
        ("out", grpc.StatusCode.PERMISSION_DENIED, "model out: model_path lies outside of models_root"),
        ("link", grpc.StatusCode.PERMISSION_DENIED, "model link: model_path lies outside of models_root"),
        ("broken", grpc.StatusCode.UNAVAILABLE, "model broken: onnxruntime cannot load"),
    ],
)
def test_a_model_that_cannot_be_had_is_refused_and_takes_nothing(server, name, code, words):
    before = server.gauges()["memory_bytes"]
    error = refused(server.stub.InferBatch, request(model_id=name))
    assert error.code() == code
    assert words in error.details()
    assert server.gauges()["memory_bytes"] == before


def test_a_message_beyond_the_limit_is_refused_by_grpc(server):
    error = refused(server.stub.InferBatch, request(visual_frames=bytes(51 * 1024 * 1024)))
    assert error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED


def test_models_are_listed_loaded_unloaded_and_counted(server):
    def mouth() -> pb.ModelInfo:
        listed = server.stub.ListModels(pb.ListModelsRequest(), timeout=30).models
        return next(model for model in listed if model.model_id == "mouth")

    server.stub.InferBatch(request(), timeout=30)
    assert (mouth().loaded, mouth().gpu_id, list(mouth().visual_shape)) == (True, 0, [6, 320, 320])
    assert server.stub.UnloadModel(pb.UnloadModelRequest(model_id="mouth"), timeout=30).success
    assert (mouth().loaded, mouth().gpu_id) == (False, -1)
    gauges = server.gauges()
    assert (gauges["models"], gauges["memory_bytes"]) == (0, 0)
    loaded = server.stub.LoadModel(pb.LoadModelRequest(model_id="mouth"), timeout=30)
    assert loaded.success
    assert loaded.load_time_ms > 0
    (stats,) = server.stub.GetModelStats(pb.GetModelStatsRequest(model_id="mouth"), timeout=30).stats
    assert stats.loads >= 2
    assert stats.frames >= stats.requests > 0
    assert stats.runs > 0
    health = server.stub.Health(pb.HealthRequest(), timeout=30)
    assert (health.healthy, health.gpus[0].kind, health.gpus[0].workers, health.models_loaded) == (True, "cpu", 2, 1)


class Speaker:
    """A client's half of a stream: what is put is sent."""

    def __init__(self, stub):
        self._out: queue.Queue = queue.Queue()
        self.answers = stub.InferStream(iter(self._out.get, None), timeout=60)

    def send(self, seq: int, **fields) -> None:
        self._out.put(pb.InferStreamRequest(seq=seq, request=request(**fields)))

    def end(self) -> None:
        self._out.put(None)


def test_a_stream_answers_in_order_and_a_mistake_ends_one_request_only(server):
    speaker = Speaker(server.stub)
    assert next(speaker.answers).credit == 3
    speaker.send(1, frames=4)
    speaker.send(2, audio_features=b"")
    speaker.send(3)
    found = [next(speaker.answers) for _ in range(3)]
    speaker.end()
    assert list(speaker.answers) == []
    assert [(one.seq, one.response.success, one.credit) for one in found] == [
        (1, True, 1),
        (2, False, 1),
        (3, True, 1),
    ]
    assert found[1].response.code == "INVALID_ARGUMENT"
    assert "audio_features: expected 32768 bytes" in found[1].response.error


def test_more_than_the_credit_ends_the_stream(server):
    speaker = Speaker(server.stub)
    assert next(speaker.answers).credit == 3
    for seq in range(40):
        speaker.send(seq, frames=4)
    with pytest.raises(grpc.RpcError) as caught:
        list(speaker.answers)
    speaker.end()
    assert caught.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "credit: 3 requests are unanswered" in caught.value.details()


def test_a_client_that_leaves_in_the_middle_leaves_nothing(server):
    speaker = Speaker(server.stub)
    assert next(speaker.answers).credit == 3
    for seq in range(3):
        speaker.send(seq, frames=4)
    until(lambda: server.gauges()["streams"] == 1, what="the stream")
    speaker.answers.cancel()
    speaker.end()


def test_requests_of_one_model_meet_in_one_run(server):
    def stats() -> pb.ModelStats:
        return server.stub.GetModelStats(pb.GetModelStatsRequest(model_id="mouth"), timeout=30).stats[0]

    before = stats()
    with ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(lambda _: server.stub.InferBatch(request(), timeout=60), range(48)))
    after = stats()
    assert all(answer.outputs[0].data == answers[0].outputs[0].data for answer in answers)
    assert after.requests - before.requests == 48
    assert after.runs - before.runs < 48


@pytest.mark.slow
def test_a_full_line_refuses_with_advice_when_to_come_back(tmp_path):
    with inference(tmp_path, "queue_size = 1\nmax_batch = 16") as process:
        unet = request(8, model_id="unet")
        process.stub.LoadModel(pb.LoadModelRequest(model_id="unet"), timeout=60)
        first = process.stub.InferBatch.future(unet, timeout=60)
        until(lambda: process.gauges()["running"] == 1, what="the worker is busy")
        second = process.stub.InferBatch.future(unet, timeout=60)
        until(lambda: process.gauges()["queued"] == 1, what="the line is full")
        error = refused(process.stub.InferBatch, request(model_id="unet"))
        assert error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "queue_size 1" in error.details()
        assert dict(error.trailing_metadata())["grpc-retry-pushback-ms"] == "50"
        second.cancel()
        until(lambda: process.gauges()["queued"] == 0, what="who left does not wait")
        assert first.result().success
        until(lambda: process.gauges()["held_bytes"] == 0, what="nothing is held")


MEL = np.full((2, 1, 80, 16), -4.0, np.float32)


def windows(**fields) -> pb.EncodeAudioRequest:
    return pb.EncodeAudioRequest(**{"model_id": "ave", "mel": MEL.tobytes(), "batch_size": 2, **fields})


def test_windows_of_sound_become_features_and_silence_becomes_zeros(server):
    loud = MEL.copy()
    loud[1] = 1.0
    answer = server.stub.EncodeAudio(windows(mel=loud.tobytes()), timeout=30)
    found = np.frombuffer(answer.features, np.float32).reshape(2, 512)
    assert answer.window_numbers == 512
    assert (found[0] == 0).all()
    assert np.abs(found[1]).min() > 0
    half = windows(
        mel=loud.astype(np.float16).tobytes(), mel_encoding=pb.FLOAT16, output_encoding=pb.FLOAT16
    )  # fmt: skip
    smaller = np.frombuffer(server.stub.EncodeAudio(half, timeout=30).features, np.float16).reshape(2, 512)
    assert np.allclose(smaller, found, rtol=2e-3)
    (ave,) = (
        one for one in server.stub.ListModels(pb.ListModelsRequest(), timeout=30).models if one.model_id == "ave"
    )
    assert (ave.kind, list(ave.audio_shape), list(ave.output_shape)) == ("audio", [1, 80, 16], [512])


def test_windows_of_many_callers_share_runs(server):
    before = server.stub.GetModelStats(pb.GetModelStatsRequest(model_id="ave"), timeout=30).stats[0]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: server.stub.EncodeAudio(windows(), timeout=30), range(40)))
    assert len({answer.features for answer in found}) == 1
    after = server.stub.GetModelStats(pb.GetModelStatsRequest(model_id="ave"), timeout=30).stats[0]
    assert (after.requests - before.requests, after.frames - before.frames) == (40, 80)
    assert after.runs - before.runs < 40


NAN_MEL = np.full((2, 1, 80, 16), np.nan, np.float32).tobytes()
BAD_WINDOWS = [
    ({"mel": b"123"}, "mel: expected 10240 bytes (2 x 1 x 80 x 16 float32), got 3"),
    ({"mel_encoding": pb.FLOAT16}, "mel: expected 5120 bytes (2 x 1 x 80 x 16 float16), got 10240"),
    ({"batch_size": 5}, "batch_size: expected 1 to 4, got 5"),
    ({"batch_size": -1}, "batch_size: expected 1 to 4, got -1"),
    ({"mel_encoding": pb.UINT8}, "mel_encoding: expected FLOAT32 or FLOAT16, got UINT8"),
    ({"output_encoding": pb.JPEG}, "output_encoding: expected FLOAT32 or FLOAT16, got JPEG"),
    ({"mel": NAN_MEL}, "mel: expected finite numbers, got NaN or infinity"),
    ({"model_id": "mouth"}, "model_id: mouth draws mouths"),
]


@pytest.mark.parametrize(("fields", "message"), BAD_WINDOWS)
def test_bad_windows_name_the_field_and_the_limit(server, fields, message):
    error = refused(server.stub.EncodeAudio, windows(**fields))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert message in error.details()


def test_an_encoder_of_ones_own_is_served_by_its_file_a_window_at_a_time_if_need_be(server):
    # As torch exports one that was given a single window: another input's name, and no open batch.
    model = onnx.load(reference("ave"))
    for tensor in (*model.graph.input, *model.graph.output):
        tensor.type.tensor_type.shape.dim[0].dim_value = 1
    for node in model.graph.node:
        node.input[:] = ["x.1" if name == "mel" else name for name in node.input]
    model.graph.input[0].name = "x.1"
    onnx.save(model, server.root / "own.onnx")
    loud = np.linspace(-4, 2, MEL.size, dtype=np.float32).reshape(MEL.shape).tobytes()
    answers = [server.stub.EncodeAudio(windows(model_id=name, mel=loud), timeout=30) for name in ("own", "ave")]
    found, wanted = (np.frombuffer(answer.features, np.float32) for answer in answers)
    assert np.allclose(found, wanted, rtol=1e-5)
    assert wanted[:512].max() < wanted[512:].max()


def test_an_encoder_draws_no_mouths(server):
    for call, asked in (
        (server.stub.InferBatch, request(model_id="ave")),
        (server.stub.RegisterVisuals, pb.RegisterVisualsRequest(model_id="ave", frames=face())),
    ):
        error = refused(call, asked)
        assert (error.code(), "draws no mouth" in error.details()) == (grpc.StatusCode.INVALID_ARGUMENT, True)
