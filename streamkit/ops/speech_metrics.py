"""The rows of the catalogue that tell of sound for faces: voices, utterances, the way to the encoder."""

from __future__ import annotations

from typing import Final

from streamkit.ops.metric import Metric

__all__ = [
    "SPEECH_BATCH",
    "SPEECH_ENCODER",
    "SPEECH_ENDED",
    "SPEECH_FIRST_AUDIO",
    "SPEECH_OPEN",
    "SPEECH_PENDING",
    "SPEECH_RESTARTS",
    "SPEECH_TICKS",
]

_HOP: Final = (0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.256, 0.512, 1.024, 4.096)
SPEECH_FIRST_AUDIO: Final = Metric(
    "headrace_speech_first_audio_seconds",
    "histogram",
    "From a text to its voice's first samples, by engine: openai, espeak.",
    ("engine",),
    (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 2.0, 5.0, 10.0),
)
SPEECH_BATCH: Final = Metric(
    "headrace_speech_batch_windows",
    "histogram",
    "Windows of sound in a request to the encoder.",
    (),
    (1, 2, 4, 8, 16),
)
SPEECH_ENCODER: Final = Metric(
    "headrace_speech_encoder_seconds", "histogram", "One request to the audio encoder.", (), _HOP
)
SPEECH_TICKS: Final = Metric("headrace_speech_ticks", "counter", "Ticks of speech made for faces.")
SPEECH_OPEN: Final = Metric("headrace_speech_open", "gauge", "Utterances that are being made.")
SPEECH_ENDED: Final = Metric(
    "headrace_speech_utterances",
    "counter",
    "Utterances that were made to their end, failed, or were closed before.",
    ("outcome",),
)
SPEECH_PENDING: Final = Metric(
    "headrace_speech_pending_bytes", "gauge", "Samples that wait for being made into ticks, and ticks for a reader."
)
SPEECH_RESTARTS: Final = Metric(
    "headrace_speech_restarts", "counter", "Times that a voice's process was started again.", ("engine",)
)
