"""Runs the worker as a process and waits for lines of its log. Knows no queue and no report."""

import asyncio
import os
import signal
import sys
from asyncio.subprocess import PIPE, STDOUT, Process
from pathlib import Path

FOLDER = Path(__file__).parent.parent
DEADLINE_SECONDS = 30.0


class Ingestor:
    """One `python -m ingestor`."""

    def __init__(self, env: dict[str, str]) -> None:
        self.env = env
        self.log: list[str] = []
        self._process: Process | None = None

    async def start(self, *flags: str) -> None:
        """Starts it; returns without waiting."""
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "ingestor", *flags),
            cwd=FOLDER,
            env={"PATH": os.environ["PATH"], "PYTHONUNBUFFERED": "1"} | self.env,
            stdout=PIPE,
            stderr=STDOUT,
        )

    async def line(self, text: str) -> str:
        """Reads the log up to the next line that holds the text."""
        assert self._process and self._process.stdout
        try:
            async with asyncio.timeout(DEADLINE_SECONDS):
                while raw := await self._process.stdout.readline():
                    self.log.append(raw.decode().rstrip())
                    if text in self.log[-1]:
                        return self.log[-1]
        except TimeoutError:
            pass
        raise AssertionError(f"the worker never logged {text!r}:\n" + "\n".join(self.log))

    async def ready(self, *flags: str) -> None:
        """Starts it and waits until it consumes."""
        await self.start(*flags)
        await self.line(" ready ")

    async def end(self) -> int:
        """Reads the rest of the log and waits for the process; its exit code."""
        assert self._process and self._process.stdout
        async with asyncio.timeout(DEADLINE_SECONDS):
            rest = await self._process.stdout.read()
            self.log += rest.decode().splitlines()
            return await self._process.wait()

    def terminate(self) -> None:
        assert self._process
        self._process.send_signal(signal.SIGTERM)

    async def kill(self) -> None:
        """Ends it if it still runs."""
        if self._process and self._process.returncode is None:
            self._process.kill()
            await self.end()
