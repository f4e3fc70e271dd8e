"""The face of the chat page under test: what it plays, recorded by the browser and looked at here."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass

import av
import numpy as np
from playwright.sync_api import Page, expect

__all__ = ["Recording", "fits_of", "record", "show"]

Region = tuple[slice, slice]

#: Samples of sound that are looked at together: 20 ms.
SLICE = 960

#: Records what the page plays, away from its busy main thread; presses a button meanwhile, if there is one.
RECORD = """async ({ ms, press, pressAfterMs }) => {
  const { srcObject } = document.querySelector("#face video");
  const recorder = new MediaRecorder(srcObject, { mimeType: "video/webm;codecs=vp8,opus", videoBitsPerSecond: 2e6 });
  const pieces = [];
  recorder.ondataavailable = ({ data }) => pieces.push(data);
  const began = new Promise((resolve) => (recorder.onstart = () => resolve(performance.now())));
  recorder.start();
  const from = await began;
  let pressedMs = 0;
  if (press) setTimeout(() => {
    pressedMs = performance.now() - from;
    document.querySelector(press).click();
  }, pressAfterMs);
  await new Promise((resolve) => setTimeout(resolve, ms));
  const ended = new Promise((resolve) => (recorder.onstop = resolve));
  recorder.stop();
  await ended;
  const bytes = new Uint8Array(await new Blob(pieces).arrayBuffer());
  let text = "";
  for (let at = 0; at < bytes.length; at += 8192) text += String.fromCharCode(...bytes.subarray(at, at + 8192));
  return { file: btoa(text), pressedMs };
}"""


def show(page: Page) -> None:
    """Wait for the face to be live, and make the gesture from which on it is heard."""
    expect(page.locator("#face")).to_have_attribute("data-state", "live")
    page.locator("#face .status").click()
    expect(page.get_by_role("button", name="Mute", exact=True)).to_be_visible()


@dataclass
class Recording:
    """What the page played: milliseconds with the brightness of the mouth, and with the loudness."""

    mouth: list[tuple[float, float]]
    voice: list[tuple[float, float]]
    #: When the button was pressed, on the same clock as near as the page can say.
    pressed_ms: float

    def dark(self) -> Recording:
        """Return the same for a mouth that is dark where it is open."""
        return Recording([(at, 255 - level) for at, level in self.mouth], self.voice, self.pressed_ms)


def record(page: Page, mouth_at: Region, ms: int, press: str = "", press_after_ms: int = 0) -> Recording:
    """Record what the page plays.

    Args:
        page: with a live face.
        mouth_at: rows and columns of the mouth.
        ms: so long.
        press: selector of a button to press meanwhile.
        press_after_ms: when.
    """
    found = page.evaluate(RECORD, {"ms": ms, "press": press, "pressAfterMs": press_after_ms})
    mouth: list[tuple[float, float]] = []
    voice: list[tuple[float, float]] = []
    with av.open(io.BytesIO(base64.b64decode(found["file"])), mode="r") as file:
        for frame in file.decode(file.streams.video[0], file.streams.audio[0]):
            if not isinstance(frame, av.VideoFrame | av.AudioFrame) or frame.pts is None or frame.time_base is None:
                continue
            at = float(frame.pts * frame.time_base) * 1000
            if isinstance(frame, av.VideoFrame):
                mouth.append((at, float(frame.to_ndarray(format="gray")[mouth_at].mean())))
            else:
                samples = frame.to_ndarray().astype(float)[0]
                for start in range(0, len(samples) - SLICE + 1, SLICE):
                    loud = float(np.sqrt((samples[start : start + SLICE] ** 2).mean()))
                    voice.append((at + (start + SLICE / 2) / 48, loud))
    return Recording(mouth, voice, found["pressedMs"])


def fits_of(recording: Recording, from_ms: int, to_ms: int, window_ms: int = 900) -> list[tuple[float, int]]:
    """Return for each window the correlation of mouth and voice, and by how many ms sound is late there.

    Each is taken where both fit best: at first the browser's buffer for sound shrinks from second to second.
    """
    times, loud = np.array(recording.voice).T
    seen_at, bright = np.array(recording.mouth).T
    found = []
    for start in range(from_ms, to_ms - window_ms + 1, window_ms // 2):
        grid = np.arange(start, start + window_ms, 10.0)
        # A picture is shown until the next one.
        seen = bright[np.clip(np.searchsorted(seen_at, grid, side="right") - 1, 0, None)]
        fits = [
            (float(np.corrcoef(seen, np.interp(grid + lag, times, loud))[0, 1]), lag) for lag in range(-150, 510, 10)
        ]
        found.append(max(fits))
    return found
