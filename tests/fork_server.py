"""Runs commands in processes forked from one that has already imported everything that a run needs.

A command then starts in a tenth of the time. All else is as in a new interpreter: it has its own process, folder,
environment, arguments and output, and nothing has run in it before. A process forked after importing torch is safe only
on Linux; elsewhere, and where a test is about starting, `conftest.cold_start` starts an interpreter.
"""

from __future__ import annotations

import atexit
import fcntl
import gc
import importlib
import json
import multiprocessing.util
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import traceback
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

MESSAGE_BYTES = 1 << 17


class ForkServer:
    """A process that imports what a run needs and then forks one process for each command."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self.outputs, self.num_started = tempfile.TemporaryDirectory(), 0
        self.requests, server_end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with server_end:
            fd = server_end.fileno()
            self.process = subprocess.Popen([sys.executable, __file__, str(fd)], env=dict(environment), pass_fds=[fd])

    def start(self, module: str, arguments: Sequence[str], folder: Path, environment: Mapping[str, str]) -> Forked:
        """Start `python -m module arguments` in a folder."""
        self.num_started += 1
        files = [Path(self.outputs.name, f"{self.num_started}.{stream}") for stream in ("output", "errors")]
        status, status_end = os.pipe()
        fds = [*(os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT) for file in files), status_end]
        request = json.dumps([module, list(arguments), str(folder), dict(environment)]).encode()
        socket.send_fds(self.requests, [request], fds)
        for fd in fds:
            os.close(fd)
        return Forked(status, *files)

    def close(self) -> None:
        self.requests.close()
        self.process.wait()
        self.outputs.cleanup()


class Forked:
    """A process that the server has forked, used like a `subprocess.Popen`."""

    def __init__(self, status: int, output: Path, errors: Path) -> None:
        self.status, self.output, self.errors = status, output, errors
        self.pid = self._read()
        self.returncode: int | None = None

    def _read(self) -> int:
        return int.from_bytes(os.read(self.status, 8), "little", signed=True)

    def poll(self) -> int | None:
        return self._wait(0)

    def _wait(self, timeout: float | None) -> int | None:
        if self.returncode is None and select.select([self.status], [], [], timeout)[0]:
            self.returncode = self._read()
            os.close(self.status)
        return self.returncode

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """Wait until the process has ended, and return its output and errors."""
        if self._wait(timeout) is None:
            raise subprocess.TimeoutExpired(f"process {self.pid}", timeout or 0)
        return self.output.read_text(), self.errors.read_text()

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


# In the server ---------------------------------------------------------------------------------------------


def serve(requests: socket.socket) -> None:
    """Fork a process for each request; report its process id and, when it has ended, its exit code."""
    running: dict[int, tuple[int, int]] = {}  # process, status; the keys become readable when the process ends
    is_open = True
    while is_open or running:
        ready = select.select([*running, *([requests] if is_open else [])], [], [])[0]
        for ended in running.keys() & set(ready):
            pid, status = running.pop(ended)
            report(status, os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
            os.close(ended)
            os.close(status)
        if requests in ready:
            message, fds, _, _ = socket.recv_fds(requests, MESSAGE_BYTES, 3)
            is_open = bool(message)
            if message:
                *streams, status = fds
                pid = os.fork()
                if not pid:
                    requests.close()
                    for fd in (status, *running, *(other for _, other in running.values())):
                        os.close(fd)
                    for number, fd in enumerate(streams, 1):
                        os.dup2(fd, number)
                        os.close(fd)
                    run(*json.loads(message))
                report(status, pid)
                running[os.pidfd_open(pid)] = pid, status
                for fd in streams:
                    os.close(fd)


def report(status: int, number: int) -> None:
    os.write(status, number.to_bytes(8, "little", signed=True))


def run(module: str, arguments: list[str], folder: str, environment: dict[str, str]) -> NoReturn:
    """Run a module as `python -m` does, and end this process with its exit code."""
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv[1:] = arguments
    sys.path[:1] = [folder, *environment["PYTHONPATH"].split(os.pathsep)]
    if any(argument == "-m" or argument.startswith("sweep=") for argument in arguments):  # a sweep starts a server
        fork_in_place_of_the_next_interpreter()
    code: object = 0
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit as end:
        code = end.code
    except BaseException:  # noqa: BLE001
        traceback.print_exc()
        code = 1
    if isinstance(code, str):
        print(code, file=sys.stderr)
        code = 1
    threading._shutdown()
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):
            stream.flush()
    os._exit((code or 0) & 0xFF)  # a normal exit would take a second to free what was imported


def fork_in_place_of_the_next_interpreter() -> None:
    """Let multiprocessing use a process forked now, before the command runs, as the fork server of a sweep."""
    start_interpreter, (requests, server_end) = multiprocessing.util.spawnv_passfds, socket.socketpair()
    pid = os.fork()
    if not pid:
        requests.close()
        become_fork_server(server_end)
    server_end.close()

    def start(path: str, arguments: list[str], fds: list[int]) -> int:
        if "multiprocessing.forkserver" not in arguments[-1]:
            return start_interpreter(path, arguments, fds)
        blocked = list(signal.pthread_sigmask(signal.SIG_BLOCK, ()))
        message = json.dumps([arguments[-1], list(fds), os.getcwd(), dict(os.environ), blocked]).encode()
        socket.send_fds(requests, [message], fds)
        return pid

    multiprocessing.util.spawnv_passfds = start


def become_fork_server(requests: socket.socket) -> NoReturn:
    """Wait for the code that starts a fork server of multiprocessing, and run it as `python -c` does."""
    message, fds, _, _ = socket.recv_fds(requests, MESSAGE_BYTES, 8)
    requests.close()
    if message:
        code, numbers, folder, environment, blocked = json.loads(message)
        os.chdir(folder)
        os.environ.clear()
        os.environ.update(environment)
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        received = [fcntl.fcntl(fd, fcntl.F_DUPFD, 100) for fd in fds]  # clear of the numbers that the code names
        for fd, number in zip(received, numbers, strict=True):
            os.dup2(fd, number)
            os.close(fd)
        with suppress(SystemExit):
            exec(code, {})
    os._exit(0)


if __name__ == "__main__":
    from ganlab.sweeps.processes import PRELOADED_MODULES

    for name in set(PRELOADED_MODULES) - {"ganlab.__main__"}:  # which is run as __main__
        importlib.import_module(name)
    gc.freeze()
    with socket.socket(fileno=int(sys.argv[1])) as end:
        serve(end)
