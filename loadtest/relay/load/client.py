"""The benchmark's client process: one epoll loop that runs one job at a time (`python -m`, see `messages`)."""

from __future__ import annotations

import gc
import select
import time

from loadtest.relay.load.control import STDIN, ControlPipe, HungUpError
from loadtest.relay.load.messages import (
    AwaitEnd,
    ClientCommand,
    Failed,
    Flowing,
    Listening,
    OpenStreams,
    SendRequests,
)
from loadtest.relay.load.requests import RequestsJob
from loadtest.relay.load.streams import StreamsJob
from loadtest.relay.load.timer import Timer


class Client:
    """Runs what the benchmark asks for until it hangs up."""

    def __init__(self) -> None:
        self._pipe: ControlPipe[ClientCommand] = ControlPipe(ClientCommand)  # type: ignore[arg-type]
        self._timer = Timer()
        self._epoll = select.epoll()
        self._epoll.register(STDIN, select.EPOLLIN)
        self._epoll.register(self._timer.fd, select.EPOLLIN)
        self._job: StreamsJob | RequestsJob | None = None

    def run(self) -> None:
        """Serve commands.

        Raises:
            HungUpError: the benchmark is gone.
        """
        self._pipe.reply(Listening())
        while True:
            due = self._job.due_ns() if self._job else 0
            self._timer.arm(due)
            ended = False
            for fd, mask in self._epoll.poll(-1, 512):
                if fd == STDIN:
                    self._command()
                    ended = True
                elif self._job and fd in self._job.connections:
                    ended |= self._serve(self._job, fd, mask)
            if self._job and (ended or (due and time.monotonic_ns() >= due)):
                self._tick(self._job)

    def _serve(self, job: StreamsJob | RequestsJob, fd: int, mask: int) -> bool:
        """Read and write one connection; True when the job should look at what is next."""
        connection = job.connections[fd]
        if mask & select.EPOLLOUT:
            connection.writable()
        first = not connection.last_ns
        if mask & ~select.EPOLLOUT and connection.outcome is None:
            now, stamps = connection.read()
            if stamps:
                job.tokens(connection, now, stamps)
        elif mask & ~select.EPOLLOUT:  # Idle: only an end of file, or nonsense, can come.
            job.ended(connection)
            return True
        if connection.outcome is not None:
            job.ended(connection)
            return True
        return first

    def _tick(self, job: StreamsJob | RequestsJob) -> None:
        reply = job.tick(time.monotonic_ns())
        if reply is not None:
            if not isinstance(reply, Flowing):
                self._job = None
            self._pipe.reply(reply)

    def _command(self) -> None:
        for command in self._pipe.commands():
            match command:
                case OpenStreams():
                    self._start(StreamsJob(self._epoll, command))
                case SendRequests():
                    self._start(RequestsJob(self._epoll, command))
                case AwaitEnd():
                    if isinstance(self._job, StreamsJob):
                        self._job.end_by(command)
                    else:
                        self._pipe.reply(Failed(reason="no streams are open"))

    def _start(self, job: StreamsJob | RequestsJob) -> None:
        if self._job:
            self._job.close()
        self._job = job


def serve() -> None:
    """Run until the benchmark closes the pipe."""
    gc.disable()  # It makes no cycles, and a pause would be taken for the gateway's.
    try:
        Client().run()
    except HungUpError:
        return


if __name__ == "__main__":
    serve()
