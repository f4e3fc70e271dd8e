"""`headrace plan modes`: budgets that hold, exact flags, and output that its schemas accept."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest
import yaml

from launch import config
from launch.cli import main

ROOT = Path(__file__).parents[4]
SCHEMAS = ROOT / "core_gpu/modes/schemas"
SHARED = """
[gpu]
memory_mb = [24000]

[[budgets]]
name = "chat"
engine = "vllm"
budget_mb = 9000
model = "Qwen/Qwen2.5-7B-Instruct-AWQ"
ctx = 8192
kv = "fp8"
parallel = 8
max_queued_tokens = 65536
sleep = true

[[budgets]]
name = "small"
engine = "ollama"
budget_mb = 6000
model = "llama3.2:3b"
kv = "q8_0"
parallel = 2

[[budgets]]
name = "tf"
engine = "tfserving"
budget_mb = 3072

[[budgets]]
name = "avatars"
engine = "inference"
budget_mb = 3000
"""


def budget(name, engine="tfserving", **keys):
    lines = "".join(f"{key} = {json.dumps(value)}\n" for key, value in {"budget_mb": 4000, **keys}.items())
    return f'[[budgets]]\nname = "{name}"\nengine = "{engine}"\n{lines}'


@pytest.fixture
def run(tmp_path, capsys):
    def run(text, *argv):
        path = tmp_path / "headrace.toml"
        path.write_text(text)
        status = main(["plan", "modes", "--config", str(path), *argv])
        out, err = capsys.readouterr()
        return status, out, err

    return run


@pytest.fixture
def plan(run):
    def plan(text, *argv):
        status, out, err = run(text, "--json", *argv)
        assert (status, err) == (0, "")
        found = json.loads(out)
        jsonschema.validate(found, json.loads((SCHEMAS / "plan.schema.json").read_text()))
        return found, {engine["name"]: engine for engine in found["engines"]}

    return plan


def flag(engine, name):
    command = engine["command"]
    return command[command.index(name) + 1]


def test_schemas_are_schemas():
    for path in SCHEMAS.glob("*.json"):
        jsonschema.Draft202012Validator.check_schema(json.loads(path.read_text()))


def test_mode_a_adds_up_and_starts_in_order(plan):
    found, _ = plan(SHARED)
    assert found["gpus"] == [
        {"index": 0, "memory_mb": 24000, "cap_mb": 21600, "budgeted_mb": 21072, "spare_mb": 2928}
    ]
    assert found["start_order"] == ["chat", "tf", "avatars", "small"]
    assert found["note"].startswith("untested here")


def test_vllms_cache_takes_what_the_budget_leaves(plan):
    _, engines = plan(SHARED)
    chat = engines["chat"]
    cache = int(flag(chat, "--kv-cache-memory-bytes"))
    # Weights of 5.57 GB, activations, 906 MiB of context and graphs, and the cache: the budget, to the MiB.
    assert 1_500 * 2**20 < cache < 9_000 * 2**20 - 5_571_000_000
    assert flag(chat, "--kv-cache-dtype") == "fp8"
    assert flag(chat, "--max-model-len") == "8192"
    assert flag(chat, "--max-num-queued-reqs") == "24"
    assert flag(chat, "--max-num-queued-tokens") == "65536"
    assert flag(chat, "--host") == "127.0.0.1"
    assert "--enable-sleep-mode" in chat["command"]
    assert "--gpu-memory-utilization" not in chat["command"]
    assert chat["environment"]["VLLM_SERVER_DEV_MODE"] == "1"
    assert any("loopback" in text for text in chat["warnings"])
    _, larger = plan(SHARED.replace("budget_mb = 9000", "budget_mb = 9500"))
    assert int(flag(larger["chat"], "--kv-cache-memory-bytes")) - cache == 500 * 2**20


def test_an_engine_may_listen_on_a_private_address_but_not_with_admin_pages(plan, run):
    awake = SHARED.replace("sleep = true\n", "")
    private = awake.replace("parallel = ", 'host = "10.0.0.30"\nparallel = ')
    _, engines = plan(private)
    assert flag(engines["chat"], "--host") == engines["chat"]["host"] == "10.0.0.30"
    assert engines["small"]["environment"]["OLLAMA_HOST"] == "10.0.0.30:11434"
    _, out, _ = run(private, "--compose", "-")
    found = yaml.safe_load(out)["services"]["chat"]
    assert found["ports"] == ["10.0.0.30:8000:8000"]
    assert found["command"][found["command"].index("--host") + 1] == "0.0.0.0"
    status, _, err = run(SHARED.replace("parallel = ", 'host = "10.0.0.30"\nparallel = '))
    assert status == 2
    assert "chat: sleep: opens vLLM's admin pages to whoever reaches 10.0.0.30" in err


def test_ollama_is_bounded_by_what_it_must_leave(plan):
    _, engines = plan(SHARED)
    environment = engines["small"]["environment"]
    assert environment["OLLAMA_FLASH_ATTENTION"] == "1"
    assert environment["OLLAMA_KV_CACHE_TYPE"] == "q8_0"
    assert environment["OLLAMA_NUM_PARALLEL"] == "2"
    assert environment["OLLAMA_MAX_LOADED_MODELS"] == "1"
    assert environment["OLLAMA_CONTEXT_LENGTH"] == "8192"
    assert environment["LLAMA_ARG_FIT_TARGET"] == "2928"
    assert "OLLAMA_GPU_OVERHEAD" not in environment
    assert any("OLLAMA_GPU_OVERHEAD limits nothing" in text for text in engines["small"]["warnings"])


def test_tensorflows_fraction_is_on_the_command_line_and_leaves_room_for_its_context(plan):
    _, engines = plan(SHARED)
    tf = engines["tf"]
    assert "--per_process_gpu_memory_fraction=0.1089" in tf["command"]
    assert 0.1089 * 24000 + 457 <= 3072
    assert tf["environment"]["TF_FORCE_GPU_ALLOW_GROWTH"] == "true"
    assert tf["lease"].startswith("permanent, 3072 MiB")
    assert "max_enqueued_batches { value: 4 }" in tf["files"]["/etc/headrace/batching.txt"]
    assert any("session_config_file" in text for text in tf["warnings"])


def test_tensorflow_is_told_its_model_or_somebody_is_told_that_it_is_not(plan):
    _, engines = plan(budget("a", model="half", model_path="/models/half_plus_two") + budget("b", model_path="/m/x"))
    assert {"--model_name=half", "--model_base_path=/models/half_plus_two"} <= set(engines["a"]["command"])
    _, elsewhere = plan(budget("a", model_path="/m/x", host="10.0.0.30"))
    assert elsewhere["a"]["host"] == "10.0.0.30", "where a compose file publishes it"
    assert {"--model_name=x", "--model_base_path=/m/x"} <= set(engines["b"]["command"])
    assert not any("told no model" in text for text in engines["a"]["warnings"])
    _, engines = plan(budget("a"))
    assert any("told no model" in text for text in engines["a"]["warnings"])


def test_the_inference_servers_arena_is_limited(plan):
    _, engines = plan(SHARED)
    options = json.loads(engines["avatars"]["files"]["/etc/headrace/cuda-provider.json"])
    assert options["gpu_mem_limit"] == (3000 - 457) * 2**20
    assert options["arena_extend_strategy"] == "kSameAsRequested"


def test_every_engine_sees_its_own_gpu(plan):
    text = "[gpu]\nmemory_mb = [24000, 24000]\n" + budget("a") + budget("b", gpu=1)
    _, engines = plan(text)
    assert [engines[name]["environment"]["CUDA_VISIBLE_DEVICES"] for name in "ab"] == ["0", "1"]
    _, whole = plan(text, "--mode", "B")
    assert [whole[name]["environment"]["CUDA_VISIBLE_DEVICES"] for name in "ab"] == ["0", "1"]


def test_mig_addresses_devices_by_uuid_and_never_makes_them(plan):
    text = (
        '[gpu]\nmode = "B"\npartition = "mig"\nmodel = "h100-80gb"\nmemory_mb = [81559]\n'
        + budget("a", mig_profile="3g.40gb", mig_uuid="MIG-11111111-2222-3333-4444-555555555555", budget_mb=38000)
        + budget("b", mig_profile="1g.10gb")
    )
    found, engines = plan(text)
    assert found["partition"] == "mig"
    assert engines["a"]["environment"]["CUDA_VISIBLE_DEVICES"] == "MIG-11111111-2222-3333-4444-555555555555"
    assert any("mig_uuid is not set" in warning for warning in engines["b"]["warnings"])
    assert any("-cgi 3g.40gb,1g.10gb -C" in line for line in found["before"])


def test_mps_limits_each_client(plan):
    text = '[gpu]\nmode = "B"\npartition = "mps"\n' + budget("a", thread_percent=40) + budget("b")
    found, engines = plan(text)
    environment = engines["a"]["environment"]
    assert environment["CUDA_MPS_PINNED_DEVICE_MEM_LIMIT"] == "0=4000M"
    assert environment["CUDA_MPS_ACTIVE_THREAD_PERCENTAGE"] == "40"
    assert "CUDA_MPS_ACTIVE_THREAD_PERCENTAGE" not in engines["b"]["environment"]
    assert any("nvidia-cuda-mps-control -d" in line for line in found["before"])


def test_mps_v3_has_limits_of_the_kernel(plan):
    text = '[gpu]\nmode = "B"\npartition = "mps-v3"\n' + budget("a", soft_mb=3000) + budget("b")
    found, engines = plan(text)
    assert any("softLimit=3145728000 hardLimit=4194304000" in line for line in found["before"])
    assert any("guaranteed 3000 MiB" in warning for warning in engines["a"]["warnings"])


@pytest.mark.parametrize("mode", ["A", "B"])
def test_a_compose_override_is_compose(run, tmp_path, mode):
    text = SHARED if mode == "A" else SHARED.replace("[gpu]\n", '[gpu]\nmode = "B"\npartition = "mps"\n')
    path = tmp_path / "override.yaml"
    status, out, _ = run(text, "--compose", str(path))
    assert status == 0
    assert f"wrote {path}" in out
    found = yaml.safe_load(path.read_text())
    jsonschema.validate(found, json.loads((SCHEMAS / "compose.schema.json").read_text()))
    assert set(found["services"]) == {"chat", "small", "tf", "avatars"}
    assert found["services"]["chat"]["command"][0] == "Qwen/Qwen2.5-7B-Instruct-AWQ"
    # In a container it listens everywhere; only loopback is published.
    assert found["services"]["chat"]["ports"] == ["127.0.0.1:8000:8000"]
    assert "ports" not in found["services"]["avatars"], "it stays on its own loopback"
    assert "configs" not in found["services"]["avatars"], "it reads headrace.toml, and its root cannot be written"
    assert "max_batch_size" in found["configs"]["tf-0"]["content"]
    status, out, _ = run(text, "--compose", "-")
    assert yaml.safe_load(out) == found


def test_a_person_can_read_it(run):
    status, out, _ = run(SHARED)
    assert status == 0
    assert "Mode A, shared with discipline" in out
    assert "untested here" in out
    assert "GPU 0: 21,072 of 21,600 MiB budgeted" in out
    assert "--kv-cache-memory-bytes" in out
    assert max(map(len, out.splitlines()[3:])) <= 80


WHOLE = '[gpu]\nmode = "B"\nmemory_mb = [24000]\n'
MIG = '[gpu]\nmode = "B"\npartition = "mig"\nmodel = "a100-80gb"\nmemory_mb = [81920]\n'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "budgets: none; add a [[budgets]] table"),
        (budget("a") + budget("a"), 'budgets[1].name: "a" is taken already'),
        (budget("a", gpu=1), "budgets[0].gpu: expected 0 to 0 (gpu.memory_mb has 1), got 1"),
        (budget("a", budget_mb=12000) + budget("b", budget_mb=12000),
         "GPU 0: a 12,000 + b 12,000 = 24,000 MiB, more than 21,600 (90% of 24,000); take away 2,400"),
        (budget("a", budget_mb=0), "budgets[0].budget_mb: expected int >= 1, got 0"),
        (budget("a", budget_mb=500), "a: budget_mb: TensorFlow's context and the least arena need 585 MiB, got 500"),
        (budget("a", engine="vlm"), 'got "vlm", did you mean "vllm"?'),
        (budget("a", bugdet=1), "budgets[0].bugdet: unknown key"),
        (budget("a", "vllm"), "a: model: vLLM serves one; name it as vllm serve does"),
        (budget("a", "vllm", model="who/knows"), "the planner does not know 'who/knows'; say weights_mb"),
        (budget("a", "vllm", model="qwen2.5-7b"), "a: budget_mb: qwen2.5-7b and its graphs alone need"),
        (budget("a", "vllm", model="qwen2.5-7b", budget_mb=16200, ctx=32768), "qwen2.5-7b with 32,768 tokens need"),
        (budget("a", "vllm", model="qwen2.5-7b", kv="q8_0"), "a: kv: q8_0 is a cache type of llama.cpp"),
        (budget("a", "ollama", model="llama3.1:8b"), "a: budget_mb: llama3.1:8b need"),
        (budget("a", "ollama", model="llama3.2:3b", loaded_models=2), "2 x llama3.2:3b need"),
        (budget("a", soft_mb=5000), "soft_mb: expected at most budget_mb (4000), got 5000"),
        (budget("a", mig_profile="1g.10gb"), "MIG is a partition of mode B"),
        (budget("a", mig_uuid="GPU-1"), "budgets[0].mig_uuid"),
        (WHOLE + budget("a") + budget("b"), "GPU 0 is whole and a and b want it"),
        (MIG + budget("a"), "a: mig_profile: expected one of 1g.10gb, 1g.20gb"),
        (MIG + budget("a", mig_profile="1g.10gb", budget_mb=9900), "1g.10gb holds about 9,472 MiB, got 9,900"),
        (MIG + "".join(budget(name, mig_profile="3g.40gb") for name in "abc"),
         "take 9 of 7 compute and 12 of 8 memory slices of a a100-80gb"),
        (MIG + "".join(budget(name, mig_profile="1g.10gb", mig_uuid="MIG-1") for name in "ab"),
         "b: mig_uuid: a has that device already"),
        (MIG.replace("a100-80gb", "rtx-3060") + budget("a"), "gpu.model: expected a GPU with MIG (a100-80gb"),
    ],
)  # fmt: skip
def test_a_layout_that_cannot_hold_is_refused_in_one_line(run, text, message):
    status, out, err = run(text)
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert err.startswith("headrace plan modes: ")
    assert message in err


def test_check_refuses_the_same(run, tmp_path, capsys):
    path = tmp_path / "headrace.toml"
    path.write_text("[simulator]\n" + budget("a", budget_mb=30000))
    assert main(["check", str(path)]) == 2
    assert "take away 8,400" in capsys.readouterr().err
    path.write_text("[simulator]\n" + SHARED)
    assert main(["check", str(path)]) == 0
    assert [each.name for each in config.budgets(path)] == ["chat", "small", "tf", "avatars"]


QUIET = {"draining": True, "gpus": [{"gpu": "GPU-1", "totalMb": "24000", "unleasedMb": "300"}]}


@pytest.mark.parametrize(
    ("state", "status", "line"),
    [
        (QUIET, 0, "engines may stop and the layout may change"),
        ({**QUIET, "draining": False}, 1, "NOT  the arbiter is draining"),
        ({**QUIET, "leases": 2}, 1, "NOT  no lease is held (2)"),
        ({**QUIET, "waiting": 1}, 1, "NOT  nobody waits for a lease (1)"),
        ({**QUIET, "gpus": [{"reservedMb": "512"}]}, 1, "NOT  GPU 0: nothing is reserved (512)"),
        ({**QUIET, "gpus": [{"unleased_mb": 4000}]}, 1, "NOT  GPU 0: at most 512 MiB belong to no lease (4000)"),
        ({**QUIET, "gpus": [{"startupClient": "vllm"}]}, 1, "NOT  GPU 0: no engine is starting (vllm)"),
        ({**QUIET, "gpus": [{"stale": True}]}, 1, "NOT  GPU 0: its measurement is fresh"),
        ({**QUIET, "gpus": [{"gpuIndex": 3}]}, 1, "NOT  GPU 0 is known to the arbiter"),
    ],
)
def test_a_switch_is_checked_against_the_arbiters_state(run, tmp_path, state, status, line):
    path = tmp_path / "state.json"
    path.write_text(json.dumps(state))
    found, out, _ = run(SHARED, "--mode", "A", "--check-switch", "--state", str(path))
    assert found == status
    assert line in out


def test_a_switch_without_a_state_lists_the_steps(run):
    status, out, _ = run(SHARED, "--check-switch")
    assert status == 0
    assert "engines stop, in this order: small, avatars, tf, chat" in out.replace("\n    ", " ")
    assert "nothing was checked" in out
    assert max(map(len, out.splitlines())) <= 80


@pytest.mark.parametrize("text", ["[]", "{", '{"gpus": 1}', '{"gpus": [{"gpuIndex": "x"}]}'])
def test_a_state_that_is_none_is_refused(run, tmp_path, text):
    path = tmp_path / "state.json"
    path.write_text(text)
    status, out, err = run(SHARED, "--check-switch", "--state", str(path))
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert "--state: " in err


def test_the_real_arbiters_state_is_understood(run, tmp_path):
    from google.protobuf.json_format import MessageToJson

    from streamkit.wire.pb import modelops_pb2 as pb

    gpu = pb.GpuState(gpu="GPU-1", gpu_index=0, total_mb=24000, cap_mb=21600, unleased_mb=100)
    path = tmp_path / "state.json"
    path.write_text(MessageToJson(pb.ArbiterState(draining=True, gpus=[gpu])))
    assert run(SHARED, "--check-switch", "--state", str(path))[0] == 0
    path.write_text(
        MessageToJson(pb.ArbiterState(draining=True, leases=1, gpus=[gpu]), preserving_proto_field_name=True)
    )
    assert run(SHARED, "--check-switch", "--state", str(path))[0] == 1
