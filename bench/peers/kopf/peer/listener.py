"""Brings notifications of the database to the mirror. They are hints: after each gap everything is looked at."""

import asyncio
import logging

import asyncpg

from .backoff import Backoff
from .mirror import Mirror
from .store import CHANNEL

log = logging.getLogger("peer.listener")

# How often the connection has to prove that it is alive.
PROOF_SECONDS = 10


class Listener:
    """A connection of its own that listens."""

    def __init__(self, url: str, mirror: Mirror) -> None:
        self.url, self.mirror = url, mirror

    async def run(self) -> None:
        """Runs until it is cancelled."""
        backoff = Backoff(0.2, 10)
        while True:
            try:
                connection = await asyncpg.connect(self.url, timeout=3, command_timeout=5)
                try:
                    await connection.add_listener(CHANNEL, self.heard)
                    self.mirror.look_at_all()
                    backoff.reset()
                    while True:
                        await asyncio.sleep(PROOF_SECONDS)
                        await connection.execute("SELECT 1")
                finally:
                    connection.terminate()
            except Exception as error:
                log.warning("cannot hear changes of rows; connecting again: %s", error or type(error).__name__)
                await backoff.wait()

    def heard(self, _connection: object, _pid: int, _channel: str, payload: str) -> None:
        """A row changed."""
        namespace, _, name = payload.partition("/")
        self.mirror.look_at((namespace, name))
