"""Locust's file: `python -m locust -f loadtest/locust/users.py --headless -u 20 -r 5 -t 20s -H URL SseUser`.

Users: SseUser, SocketUser, ResumeUser, AvatarUser; without a name all of them. The variables MODEL, MAX_TOKENS,
X_SIM, HEADRACE_API_KEY say what is asked, TTFT_MS, GAP_MS, JITTER_MS what is too slow; docs/loadtest.md has them all.
"""

from __future__ import annotations

import json
import os
from time import perf_counter
from typing import Any

from locust import User, constant, events, task
from locust.env import Environment
from websockets.exceptions import WebSocketException
from websockets.sync.client import connect

from loadtest.locust.answer import DONE, Answer, misplaced
from loadtest.locust.connection import BrokenError, Connection
from loadtest.locust.report import RESUME, Reporter, judge
from loadtest.locust.signalling import avatars, offer

__all__ = ["AvatarUser", "ResumeUser", "SocketUser", "SseUser"]

_CHAT = "/v1/chat/completions"
_DROP_AFTER = 5
_PATIENCE_S = 60.0


def _request() -> dict[str, Any]:
    return {
        "model": os.environ.get("MODEL", "sim-chat"),
        "stream": True,
        "messages": [{"role": "user", "content": "Tell me about rivers."}],
        "max_tokens": int(os.environ.get("MAX_TOKENS", "64")),
    }


def _headers(**more: str) -> dict[str, str]:
    found = {"content-type": "application/json", **{name.replace("_", "-"): value for name, value in more.items()}}
    if key := os.environ.get("HEADRACE_API_KEY"):
        found["authorization"] = f"Bearer {key}"
    if sim := os.environ.get("X_SIM"):
        found["x-sim"] = sim
    return found


class SseUser(User):
    """Asks for one stream after the other, on one connection."""

    wait_time = constant(0.1)

    def __init__(self, environment: Environment) -> None:
        super().__init__(environment)
        self._report = Reporter(environment, "SSE")
        self._connection = Connection(_host(self))

    @task
    def stream(self) -> None:
        """Read one answer to its end."""
        body = json.dumps(_request()).encode()
        answer = Answer(perf_counter())
        broke: str | None = None
        try:
            self._connection.connect()
            answer.begun_s = perf_counter()
            if self._connection.ask("POST", _CHAT, body, _headers()) != 200:
                answer.error = f"status {self._connection.status}"
                self._connection.rest()
            else:
                for _, data in self._connection.events():
                    answer.feed(data, perf_counter())
        except (BrokenError, OSError) as error:
            broke = _why(error)
        self._report.answered(answer, perf_counter(), broke=broke)

    def on_stop(self) -> None:
        """End the connection."""
        self._connection.close()


class SocketUser(User):
    """Holds one socket, and asks for several streams on it at a time."""

    wait_time = constant(0.1)
    streams = 4

    def __init__(self, environment: Environment) -> None:
        super().__init__(environment)
        self._report = Reporter(environment, "WS")

    @task
    def stream(self) -> None:
        """Open a socket, read some streams at once to their ends."""
        headers = _headers()
        url = f"{_host(self).replace('http', 'ws', 1)}/v1/ws"
        answers: dict[str, Answer] = {}
        given = {name: headers[name] for name in ("authorization",) if name in headers}
        try:
            with connect(url, additional_headers=given, open_timeout=_PATIENCE_S) as socket:
                for number in range(self.streams):
                    name = f"s{number}"
                    answers[name] = Answer(perf_counter())
                    start = {"type": "start", "id": name, "operation": "chat", "request": _request()}
                    socket.send(json.dumps({**start, "sim": headers["x-sim"]} if "x-sim" in headers else start))
                while answers:
                    self._hear(json.loads(socket.recv(_PATIENCE_S)), answers)
        except (WebSocketException, OSError) as error:
            for answer in answers.values() or (Answer(perf_counter()),):
                self._report.answered(answer, perf_counter(), broke=_why(error))

    def _hear(self, said: dict[str, Any], answers: dict[str, Answer]) -> None:
        name, now_s = said.get("id", ""), perf_counter()
        answer = answers.get(name)
        if answer is None:
            return
        if said["type"] == "event":
            answer.feed(json.dumps(said["data"]).encode(), now_s)
            return
        if said["type"] == "done":
            answer.feed(DONE, now_s)
        elif said["type"] == "error":
            answer.error = answer.error or str(said["error"]["code"])
        if said["type"] in ("done", "error", "cancelled"):
            del answers[name]
            self._report.answered(answer, now_s)


class ResumeUser(User):
    """Loses its connection in the middle of every answer, and comes back."""

    wait_time = constant(0.1)

    def __init__(self, environment: Environment) -> None:
        super().__init__(environment)
        self._report = Reporter(environment, "SSE resumed")

    @task
    def stream(self) -> None:
        """Read a few events, drop the connection, resume, read to the end: none may be missing or come twice."""
        answer = Answer(perf_counter())
        broke: str | None = None
        last = 0
        first = Connection(_host(self))
        try:
            first.connect()
            answer.begun_s = perf_counter()
            status = first.ask("POST", _CHAT, json.dumps(_request()).encode(), _headers(x_headrace_resume="30"))
            if status == 200:
                stream = first.headers.get("x-headrace-stream", "")
                last = self._read(first, answer, last, until=_DROP_AFTER)
                first.drop()
                self._resume(stream, answer, last)
            else:
                answer.error = f"status {status}"
        except (BrokenError, OSError) as error:
            broke = _why(error)
        finally:
            first.close()
        self._report.answered(answer, perf_counter(), broke=broke)

    def _resume(self, stream: str, answer: Answer, last: int) -> None:
        dropped_s = perf_counter()
        again = Connection(_host(self))
        try:
            status = again.ask("GET", f"/v1/streams/{stream}", headers=_headers(last_event_id=str(last)))
            if status != 200:
                self._report.told(RESUME, 0, fault=f"status {status}")
                answer.error = answer.error or f"resume: status {status}"
                return
            self._report.told(RESUME, (perf_counter() - dropped_s) * 1000)
            self._read(again, answer, last)
        finally:
            again.close()

    def _read(self, connection: Connection, answer: Answer, last: int, *, until: int = 0) -> int:
        for name, data in connection.events():
            if wrong := misplaced(name, last):
                answer.error = wrong
                return last
            last += 1
            answer.feed(data, perf_counter())
            if last == until:
                break
        return last


class AvatarUser(User):
    """Opens and closes avatar sessions: an offer, a 201, a DELETE. AVATAR names whose; no media flows."""

    wait_time = constant(0.5)

    def __init__(self, environment: Environment) -> None:
        super().__init__(environment)
        self._report = Reporter(environment, "WHEP")
        self._avatar: str | None = None

    def on_start(self) -> None:
        """Find an avatar; without one there is nothing to do, which is said."""
        self._avatar = os.environ.get("AVATAR") or next(iter(avatars(Connection(_host(self)), _headers())), None)
        if self._avatar is None:
            print("headrace: skipped: no avatar is configured at this gateway")
            self.environment.runner.quit()

    @task
    def session(self) -> None:
        """Offer, and hang up."""
        if self._avatar is None:
            return
        connection = Connection(_host(self))
        begun_s = perf_counter()
        sent = {**_headers(), "content-type": "application/sdp"}
        try:
            status = connection.ask("POST", f"/v1/avatars/{self._avatar}/whep", offer(), sent)
            took_ms = (perf_counter() - begun_s) * 1000
            connection.rest()
            self._report.told("whep", took_ms, fault=None if status == 201 else f"status {status}")
            where = connection.headers.get("location", "")
            if status == 201 and where:
                gone = connection.ask("DELETE", where, headers=_headers())
                self._report.told("hang up", 0, fault=None if gone in (200, 204) else f"status {gone}")
        except (BrokenError, OSError) as error:
            self._report.told("whep", 0, fault=_why(error))
        connection.close()


def _host(user: User) -> str:
    """Return the gateway's base address: -H, or the variable URL."""
    return user.host or os.environ.get("URL", "http://127.0.0.1:7400")


def _why(error: Exception) -> str:
    # Addresses and numbers would make a failure of its own of every one of them.
    return type(error).__name__ if not isinstance(error, BrokenError) else str(error).partition(":")[0]


@events.quitting.add_listener
def _judge(environment: Environment, **_: object) -> None:
    judge(environment)
