"""Bandwidth and latency of the user's avatar plan (mission 4), from its parameters."""

from __future__ import annotations

from collections.abc import Iterator

from core_gpu.planner.figures import Figure, figure
from core_gpu.planner.fleet import Fleet

__all__ = ["bandwidth", "latency", "raw_in_bytes", "raw_out_bytes"]


def raw_out_bytes(f: Fleet) -> float:
    """Return the bytes of one frame's mouth region."""
    return 3 * f.frame_px * f.frame_px * f.value_bytes


def raw_in_bytes(f: Fleet) -> float:
    """Return the bytes of one frame's request, without `visual_ref`."""
    return (f.visual_planes * f.frame_px * f.frame_px + f.audio_values) * f.value_bytes


def bandwidth(f: Fleet) -> Iterator[Figure]:
    """Yield what streams and raw frames need of the network."""
    table = "bandwidth"
    out, back = raw_out_bytes(f), raw_in_bytes(f)
    rate = f.users * f.fps * f.duty
    png = f.png_kb * f.fps * 8 / 1_000
    yield figure(table, "PNG, one user", f"{f.png_kb:g} KB x {f.fps:g} x 8", png, "Mbit/s", 60)
    yield figure(
        table,
        "PNG, all users",
        f"{f.users:g} x {png:g} Mbit/s",
        f.users * png / 1_000,
        "Gbit/s",
        42.6,
        note="everybody speaks all the time here; the raw link below counts the duty",
    )
    yield figure(
        table,
        "PNG, all, by duty",
        f"{f.users:g} x {png:g} x {f.duty:g}",
        f.users * png * f.duty / 1_000,
        "Gbit/s",
        note="the same assumption as for the raw link",
    )
    yield figure(
        table,
        "H.264, all users",
        f"{f.users:g} x {f.h264_kbps:g} kbit/s",
        f.users * f.h264_kbps / 1_000,
        "Mbit/s",
        568,
    )
    yield figure(
        table, "raw mouth region", f"3 x {f.frame_px:g} x {f.frame_px:g} x {f.value_bytes:g} B", out / 1e6, "MB", 1.2
    )
    yield figure(
        table,
        "raw, to compositing",
        f"{f.users:g} x {f.fps * f.duty:g} x {out / 1e6:.4f} MB",
        rate * out / 1e9,
        "GB/s",
        5.7,
    )
    yield figure(
        table,
        "raw, to compositing",
        f"{rate * out / 1e9:.3f} GB/s x 8",
        rate * out * 8 / 1e9,
        "Gbit/s",
        45.6,
        note="45.6 is 8 x a 5.7 that was rounded, from a 1.2 that was rounded",
    )
    yield figure(
        table,
        "raw, request",
        f"({f.visual_planes:g} x {f.frame_px:g}² + {f.audio_values:g}) x {f.value_bytes:g} B",
        back / 1e6,
        "MB",
        note="what the plan's own InferBatchRequest carries for each frame",
    )
    yield figure(
        table,
        "raw, to inference",
        f"{f.users:g} x {f.fps * f.duty:g} x {back / 1e6:.4f} MB x 8",
        rate * back * 8 / 1e9,
        "Gbit/s",
        verdict="does not follow",
        note="left out of the plan, and twice as much as the way back",
    )
    both = rate * (out + back) * 8 / 1e9
    yield figure(
        table,
        "raw, both directions",
        "the two together",
        both,
        "Gbit/s",
        45.6,
        note=f"a {f.link_gbps:g} Gbit/s link is {max(out, back) * rate * 8 / 1e9 / f.link_gbps:.0%} full towards"
        " inference",
    )
    audio = rate * f.audio_values * f.value_bytes * 8 / 1e9
    yield figure(
        table,
        "to inference, visual_ref",
        f"{f.users:g} x {f.fps * f.duty:g} x {f.audio_values * f.value_bytes:g} B x 8",
        audio,
        "Gbit/s",
        note="Headrace: frames are registered once, then only audio travels",
    )
    yield figure(
        table,
        "to compositing, uint8",
        f"{rate * out * 8 / 1e9:.1f} Gbit/s / {f.value_bytes:g}",
        rate * out * 8 / 1e9 / f.value_bytes,
        "Gbit/s",
        note="Headrace: output_encoding = uint8",
    )


def latency(f: Fleet) -> Iterator[Figure]:
    """Yield what can be said of the latencies."""
    table = "latency"
    moved = (raw_out_bytes(f) + raw_in_bytes(f)) * 8
    yield figure(
        table,
        "moving one frame both ways",
        f"{moved / 8e6:.2f} MB at {f.link_gbps:g} Gbit/s",
        moved / f.link_gbps / 1e6,
        "ms",
        note="of the +2 ms that separation may cost",
    )
    nic = moved / f.compositor_nic_gbps / 1e6
    yield figure(
        table,
        "the same, compositor's card",
        f"{moved / 8e6:.2f} MB at {f.compositor_nic_gbps:g} Gbit/s",
        nic,
        "ms",
        2,
        verdict="does not follow" if nic > 2 else "follows",
        note="the wire alone takes more than the +2 ms (42 instead of 40) claimed",
    )
    yield figure(
        table,
        "gain of the edge",
        "(73 - 28) / 73",
        (73 - 28) / 73 * 100,
        "%",
        62,
        verdict="does not follow",
        note="28 ms at the edge are less than 42 ms in the datacenter that each frame still visits",
    )
    yield figure(table, "GPU utilisation", "95 / 60 - 1", (95 / 60 - 1) * 100, "% better", 58)
