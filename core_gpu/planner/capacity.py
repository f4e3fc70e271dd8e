"""The user's capacity, cost and bandwidth tables (mission 4), line by line from their parameters."""

from __future__ import annotations

import math
from collections.abc import Iterator

from core_gpu.planner.bandwidth import bandwidth, latency, raw_in_bytes, raw_out_bytes
from core_gpu.planner.figures import Figure, concurrent_users, figure
from core_gpu.planner.fleet import Fleet

__all__ = ["capacity"]


def capacity(fleet: Fleet) -> list[Figure]:
    """Return every figure of the plan that can be computed, and some that it lacks."""
    return [
        *_models(fleet),
        *_users(fleet),
        *_compositing(fleet),
        *_cost(fleet),
        *bandwidth(fleet),
        *latency(fleet),
    ]


def _models(f: Fleet) -> Iterator[Figure]:
    table = "models"
    gpu_gb = f.gpus * f.gpu_gb
    yield figure(table, "GPU memory", f"{f.gpus:g} x {f.gpu_gb:g} GB", gpu_gb, "GB", 768)
    most = gpu_gb * 1_000 / f.model_mb
    yield figure(
        table,
        "models that fit",
        f"{gpu_gb:g} GB / {f.model_mb:g} MB",
        most,
        "models",
        1_536,
        note="every byte of every card, none for contexts, workspaces or workers",
    )
    yield figure(table, "models per GPU", f"{f.max_models:g} / {f.gpus:g}", f.max_models / f.gpus, "models", 150)
    held = f.max_models * f.model_mb / 1_000
    yield figure(
        table,
        "memory of all models",
        f"{f.max_models:g} x {f.model_mb:g} MB",
        held,
        "GB",
        note=f"{held / gpu_gb:.0%} of the cards: fits",
    )
    share = f.max_memory_gb / gpu_gb
    yield figure(
        table,
        "configured limit",
        f"{f.max_memory_gb:g} GB / {gpu_gb:g} GB",
        share * 100,
        "% of memory",
        f.cap * 100,
        verdict="does not follow" if share > f.cap + 1e-9 else "follows",
        note=f"above the {f.cap:.0%} that mission 1 lets leases fill: {f.cap * gpu_gb:.0f} GB",
    )


def _users(f: Fleet) -> Iterator[Figure]:
    table = "users"
    workers = f.gpus * f.workers_per_gpu
    total = workers * f.worker_fps
    rate = f.fps * f.duty
    yield figure(table, "workers", f"{f.gpus:g} x {f.workers_per_gpu:g}", workers, "workers", 32)
    yield figure(
        table,
        "frames per second",
        f"{workers:g} x {f.worker_fps:g}",
        total,
        "FPS",
        4_800,
        note="holds only if four workers on a GPU do not slow each other; nothing measured says so",
    )
    yield figure(table, "frames per user", f"{f.fps:g} x {f.duty:g}", rate, "FPS", 6.75)
    yield figure(
        table,
        "users per server",
        f"{total:g} / {rate:g}",
        total / rate,
        "users",
        710,
        note="full on average: half of the time more of them speak than it has streams",
    )
    streams = total / f.fps
    safe = concurrent_users(streams, f.duty, f.overload)
    yield figure(
        table,
        "users with room for chance",
        f"binomial, {streams:g} streams, {1 - f.overload:.1%} of the time",
        safe,
        "users",
        710,
        note=f"{f.users:g} users speak {f.users * f.duty:.0f} at a time,"
        f" give or take {math.sqrt(f.users * f.duty * (1 - f.duty)):.0f}",
    )
    yield figure(
        table,
        "users at 95 % utilisation",
        f"{total:g} x 0.95 / {rate:g}",
        total * 0.95 / rate,
        "users",
        710,
        note="the plan's own utilisation is 95 %, its users need 100 %",
    )
    yield figure(table, "users per monolithic box", f"{f.box_fps:g} / {rate:g}", f.box_fps / rate, "users", 88)
    one = f.workers_per_gpu * f.worker_fps
    yield figure(
        table,
        "gain by separation",
        f"{total:g} / {f.box_fps:g}",
        total / f.box_fps,
        "times",
        8,
        verdict="does not follow" if math.isclose(f.box_fps, one) else None,
        note=f"{f.box_fps:g} FPS are one GPU's {f.workers_per_gpu:g} workers; the factor is the number of GPUs",
    )


def _compositing(f: Fleet) -> Iterator[Figure]:
    table = "compositing"
    frame_ms = f.composite_ms + f.encode_ms
    thread = 1_000 / frame_ms
    box = thread * f.threads
    users = box / (f.fps * f.duty)
    yield figure(table, "time per frame", f"{f.composite_ms:g} + {f.encode_ms:g} ms", frame_ms, "ms", 25)
    yield figure(table, "one thread", f"1000 / {frame_ms:g} ms", thread, "FPS", 40)
    yield figure(
        table,
        "one box",
        f"{thread:g} x {f.threads:g}",
        box,
        "FPS",
        2_560,
        note="64 full cores; with 64 threads on 32 cores it is nearer to half",
    )
    yield figure(table, "users per box", f"{box:g} / {f.fps * f.duty:g}", users, "users", 380)
    raw = raw_out_bytes(f) + raw_in_bytes(f)
    link = users * f.fps * f.duty * raw * 8 / 1e9
    fit = f.compositor_nic_gbps * 1e9 / 8 / (f.fps * f.duty * max(raw_in_bytes(f), raw_out_bytes(f)))
    yield figure(
        table,
        "network of that box, raw",
        f"{users:.0f} users x {f.fps * f.duty:g} x {raw / 1e6:.2f} MB x 8",
        link,
        "Gbit/s",
        f.compositor_nic_gbps,
        note=f"both directions; a {f.compositor_nic_gbps:g} Gbit/s card carries {fit:.0f} users' raw frames",
    )
    ram = f.compositor_ram_gb * 1_000 / f.background_mb
    yield figure(
        table,
        "backgrounds in memory",
        f"{f.compositor_ram_gb:g} GB / {f.background_mb:g} MB",
        ram,
        "models",
        11_000,
        note="the plan divides the inference server's 2 TB, which holds no backgrounds",
    )
    example = sum(math.ceil(each / users) for each in (400, 300, 200))
    yield figure(
        table,
        "boxes of the three regions",
        f"ceil(400, 300, 200 / {users:.0f})",
        example,
        "boxes",
        18,
        note="the deployment example has 8 + 6 + 4, one for each 50 users instead of 380",
    )


def _cost(f: Fleet) -> Iterator[Figure]:
    table = "cost"
    per_box = int(f.box_fps / (f.fps * f.duty) + 1e-9)
    boxes = math.ceil(f.users / per_box) if per_box else 0
    mono = boxes * f.box_cost
    compositors = math.ceil(f.users / (1_000 / (f.composite_ms + f.encode_ms) * f.threads / (f.fps * f.duty)))
    whole = f.server_cost + compositors * f.compositor_cost
    yield figure(
        table,
        "per user, inference only",
        f"{f.server_cost:g} / {f.users:g}",
        f.server_cost / f.users,
        "$",
        56,
        note="without compositing nobody sees a frame",
    )
    yield figure(
        table,
        "per user, all",
        f"({f.server_cost:g} + {compositors} x {f.compositor_cost:g}) / {f.users:g}",
        whole / f.users,
        "$",
        76,
    )
    yield figure(
        table,
        "monolithic boxes",
        f"ceil({f.users:g} / {per_box})",
        boxes,
        "boxes",
        8,
        note=f"8 boxes serve {8 * per_box} users",
    )
    yield figure(table, "monolithic cost", f"{boxes} x {f.box_cost:g}", mono, "$", 120_000, note="the ninth box")
    yield figure(table, "monolithic, per user", f"{f.box_cost:g} / {per_box}", f.box_cost / per_box, "$", 170)
    yield figure(
        table, "separated cost", f"{f.server_cost:g} + {compositors} x {f.compositor_cost:g}", whole, "$", 54_000
    )
    saving = (mono - whole) / mono * 100
    yield figure(
        table,
        "saving, inference only",
        f"({mono:g} - {f.server_cost:g}) / {mono:g}",
        (mono - f.server_cost) / mono * 100,
        "%",
        67,
        verdict="does not follow",
        note="67 % (and $80K) compare a part with a whole",
    )
    yield figure(
        table,
        "saving, all",
        f"({mono:g} - {whole:g}) / {mono:g}",
        saving,
        "%",
        55,
        note="more than claimed: nine boxes",
    )
    safe = concurrent_users(f.gpus * f.workers_per_gpu * f.worker_fps / f.fps, f.duty, f.overload)
    yield figure(
        table,
        "per user with room for chance",
        f"{whole:g} / {safe}",
        whole / safe,
        "$",
        76,
        note="the same hardware, fewer users",
    )
