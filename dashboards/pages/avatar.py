"""Avatars: who watches, what is said, and the mouths that are made on the GPU."""

from __future__ import annotations

from typing import Final

from dashboards.pages.faces import VIEWERS
from dashboards.panel import Page, Panel, Query, Row
from dashboards.query import level, mean, percentiles, quantile, rate, worst
from streamkit.ops import catalog

__all__ = ["AVATAR"]

#: An edge's viewers, and whoever makes what they see.
_PROCESSES: Final = '{{__name__=~"{}"}}'.format(
    "|".join(one.name for one in (catalog.AVATAR_SESSIONS, catalog.COMPOSITOR_SESSIONS, catalog.INFERENCE_STREAMS))
)

_MOUTHS: Final = Row(
    "Inference",
    (
        Panel(
            title="Frames answered",
            unit="ops",
            queries=(Query(rate(catalog.INFERENCE_FRAMES), "frames"),),
            what="25 a second for each avatar that speaks.",
        ),
        Panel(
            title="A request, arrival to frames",
            unit="s",
            queries=percentiles(catalog.INFERENCE_REQUEST, 0.5, 0.95, 0.99),
            what="Less a run's own time: the queue, and reading.",
        ),
        Panel(
            title="One run of a model",
            unit="s",
            queries=percentiles(catalog.INFERENCE_RUN, 0.5, 0.95, 0.99),
            what="Reading and encoding included.",
        ),
        Panel(
            title="Frames in a run",
            unit="short",
            queries=(Query(mean(catalog.INFERENCE_BATCH), "mean"),),
            what="Batches form only while requests wait.",
        ),
        Panel(
            title="Requests that wait, runs under way",
            unit="short",
            queries=(
                Query(level(catalog.INFERENCE_QUEUED, "gpu"), "GPU {{gpu}} waiting"),
                Query(level(catalog.INFERENCE_RUNNING, "gpu"), "GPU {{gpu}} running"),
            ),
            what="Waiting while nothing runs: the loop is the bottleneck.",
        ),
        Panel(
            title="Models loaded",
            unit="short",
            queries=(Query(level(catalog.INFERENCE_MODELS, "gpu"), "GPU {{gpu}}"),),
            what="Loaded on demand, evicted when there is no room.",
            stacked=True,
        ),
        Panel(
            title="Memory of loaded models",
            unit="bytes",
            queries=(Query(level(catalog.INFERENCE_MEMORY, "gpu"), "GPU {{gpu}}"),),
            what="What they are charged with.",
            stacked=True,
        ),
        Panel(
            title="Bytes held",
            unit="bytes",
            queries=(
                Query(level(catalog.INFERENCE_HELD), "requests"),
                Query(level(catalog.INFERENCE_VISUALS), "registered frames"),
            ),
            what="Both are bounded; at the bound requests are refused.",
        ),
        Panel(
            title="Streams",
            unit="short",
            queries=(Query(level(catalog.INFERENCE_STREAMS), "open"),),
            what="Ordered requests with credit.",
        ),
        Panel(
            title="Output",
            unit="binBps",
            queries=(Query(rate(catalog.INFERENCE_OUTPUT), "bytes"),),
            what="By encoding: float32 weighs four times as much as uint8, and JPEG far less.",
        ),
        Panel(
            title="Sound encoded",
            unit="ops",
            queries=(Query(rate(catalog.INFERENCE_WINDOWS), "windows"),),
            what="25 a second for each avatar that speaks.",
        ),
        Panel(
            title="Sound, arrival to features",
            unit="s",
            queries=percentiles(catalog.INFERENCE_ENCODE, 0.5, 0.95),
            what="Part of what a face is late by.",
        ),
        Panel(
            title="Not answered",
            unit="ops",
            queries=(Query(rate(catalog.INFERENCE_FAILED, "code"), "{{code}}"),),
            what="saturated: the queue is full. out_of_memory: nothing could be evicted.",
        ),
    ),
)
_SPEECH: Final = Row(
    "Speech",
    (
        Panel(
            title="Text to first sound",
            unit="s",
            queries=(Query(quantile(0.95, catalog.SPEECH_FIRST_AUDIO, "engine"), "{{engine}}, p95"),),
            what="From a sentence to its voice's first samples.",
        ),
        Panel(
            title="Ticks made, utterances ended",
            unit="ops",
            queries=(
                Query(rate(catalog.SPEECH_TICKS), "ticks"),
                Query(rate(catalog.SPEECH_ENDED, "outcome"), "utterances {{outcome}}"),
                Query(rate(catalog.SPEECH_RESTARTS, "engine"), "voices started again: {{engine}}"),
            ),
            what="A tick is 40 ms. A voice that is started again and again has a reason in the log.",
        ),
        Panel(
            title="Utterances",
            unit="short",
            queries=(Query(level(catalog.SPEECH_OPEN), "being made"),),
            what="Returns to 0 in silence.",
        ),
        Panel(
            title="Sound that waits",
            unit="bytes",
            queries=(Query(level(catalog.SPEECH_PENDING), "samples and ticks"),),
            what="Bounded: no more than a second is made ahead of its reader.",
        ),
        Panel(
            title="The way to the encoder",
            unit="s",
            queries=percentiles(catalog.SPEECH_ENCODER, 0.5, 0.95),
            what="One request; beside it, what the inference server says of the same.",
        ),
        Panel(
            title="Windows in a request to the encoder",
            unit="short",
            queries=(Query(mean(catalog.SPEECH_BATCH), "mean"),),
            what="More than one where speech is made ahead.",
        ),
    ),
)
_FACES: Final = Row(
    "Compositor",
    (
        Panel(
            title="Sessions",
            unit="short",
            queries=(
                Query(level(catalog.COMPOSITOR_SESSIONS), "open"),
                Query(level(catalog.COMPOSITOR_RENDERS), "calls for files"),
            ),
            what="Faces that somebody looks at, speaking or not.",
        ),
        Panel(
            title="Ticks sent",
            unit="ops",
            queries=(Query(rate(catalog.COMPOSITOR_UNITS, "kind"), "{{kind}}"),),
            what="25 a second for each session.",
        ),
        Panel(
            title="Where pictures come from",
            unit="ops",
            queries=(
                Query(rate(catalog.COMPOSITOR_PICTURES, "source"), "{{source}}"),
                Query(rate(catalog.COMPOSITOR_KEYFRAMES, "codec"), "keyframes {{codec}}"),
            ),
            what="From a loop they cost nearly nothing; live ones are drawn and encoded.",
        ),
        Panel(
            title="Pictures left out",
            unit="ops",
            queries=(Query(rate(catalog.COMPOSITOR_LEFT_OUT, "why"), "{{why}}"),),
            what="room: the edge does not keep up. late: this machine does not. hold: a mouth was waited for.",
        ),
        Panel(
            title="Drawing a picture, encoding one",
            unit="s",
            queries=(
                Query(quantile(0.95, catalog.COMPOSITOR_COMPOSE), "drawing, p95"),
                Query(quantile(0.95, catalog.COMPOSITOR_ENCODE, "codec"), "{{codec}}, p95"),
            ),
            what="Together less than 40 ms, or pictures are late.",
        ),
        Panel(
            title="Asking for a mouth to having it",
            unit="s",
            queries=percentiles(catalog.COMPOSITOR_INFERENCE, 0.5, 0.95),
            what="Less the server's own time: the way between them.",
        ),
        Panel(
            title="Last sample needed to unit sent",
            unit="s",
            queries=percentiles(catalog.COMPOSITOR_NEEDED, 0.5, 0.95),
            what="How late a microphone's face is beyond the model's look-ahead; texts are made ahead.",
        ),
        Panel(
            title="Speech without a mouth, calls refused",
            unit="ops",
            queries=(
                Query(rate(catalog.COMPOSITOR_MOUTHLESS, "code"), "mouthless ticks: {{code}}"),
                Query(rate(catalog.COMPOSITOR_CAUGHT_UP), "silence left out"),
                Query(rate(catalog.COMPOSITOR_REFUSED, "code"), "refused: {{code}}"),
                Query(rate(catalog.COMPOSITOR_SPEECHES, "outcome"), "utterances {{outcome}}"),
            ),
            what="The sound goes out all the same; the face idles meanwhile.",
        ),
        Panel(
            title="Frames and loops in memory",
            unit="bytes",
            queries=(Query(level(catalog.COMPOSITOR_HELD, "what"), "{{what}}"),),
            what="Both are bounded; what nobody uses goes first.",
        ),
        Panel(
            title="Frames and loops in use, the way to mouths",
            unit="short",
            queries=(
                Query(level(catalog.COMPOSITOR_USERS, "what"), "users of {{what}}"),
                Query(worst(catalog.COMPOSITOR_INFERENCE_UP), "the inference server answers"),
            ),
            what="0 users: it may go. Without an inference server faces idle while they speak.",
        ),
        Panel(
            title="Backgrounds",
            unit="ops",
            queries=(Query(rate(catalog.COMPOSITOR_BACKGROUNDS, "result"), "{{result}}"),),
            what="Misses are opened from files; many of them: frames_mb is too small.",
        ),
    ),
)

AVATAR: Final = Page("avatar", "Headrace · Avatar", (VIEWERS, _FACES, _SPEECH, _MOUTHS), of=_PROCESSES)
