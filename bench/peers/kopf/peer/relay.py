"""Claim, publish, mark: turns recorded rows into messages. It alone speaks AMQP."""

import asyncio
import logging
from collections.abc import Sequence
from contextlib import suppress

import aio_pika
from aio_pika.abc import AbstractChannel, AbstractConnection, AbstractMessage
from aio_pika.exceptions import DeliveryError, PublishError
from asyncpg import Record

from .backoff import Backoff
from .message import AmbiguousLocalTime, compose
from .settings import Settings
from .store import Store

log = logging.getLogger("peer.relay")

QUEUE = "ingest.pncp"
# Messages that wait for their confirms at a time.
WINDOW = 200
CONFIRM_SECONDS = 10
# How often to look for work that nobody announced.
POLL_SECONDS = 2


class Relay:
    """Publishes what is recorded and not published."""

    def __init__(self, store: Store, settings: Settings) -> None:
        self.store, self.settings = store, settings
        self.recorded = asyncio.Event()
        self.connection: AbstractConnection | None = None
        self.channel: AbstractChannel | None = None

    async def run(self) -> None:
        """Runs until it is cancelled."""
        backoff = Backoff(0.5, 15)
        while True:
            try:
                self.recorded.clear()
                more = await self.publish_batch()
                backoff.reset()
                if not more:
                    with suppress(TimeoutError):
                        await asyncio.wait_for(self.recorded.wait(), POLL_SECONDS)
            except Exception as error:
                log.warning("cannot publish; trying again: %s", error or type(error).__name__)
                await self.close()
                await backoff.wait()

    async def close(self) -> None:
        """Ends the connection."""
        connection, self.connection, self.channel = self.connection, None, None
        if connection is not None:
            with suppress(Exception):
                await asyncio.wait_for(connection.close(), 1)

    async def connected(self) -> AbstractChannel:
        """A channel in confirm mode; the queue is declared as the worker does it, durable without arguments."""
        if self.channel is None or self.channel.is_closed:
            await self.close()
            self.connection = await aio_pika.connect(self.settings.rabbitmq_url, timeout=5)
            self.channel = await self.connection.channel(publisher_confirms=True, on_return_raises=True)
            await self.channel.declare_queue(QUEUE, durable=True)
        return self.channel

    async def publish_batch(self) -> bool:
        """Publishes one batch; whether there may be more."""
        channel = await self.connected()
        claimed = await self.store.claim(WINDOW, self.settings.namespace)
        batch = await self.composed(claimed)
        if not batch:
            return False
        rows, messages = zip(*batch, strict=True)
        fates = await asyncio.gather(*(self.publish(channel, message) for message in messages), return_exceptions=True)
        confirmed = [row["id"] for row, fate in zip(rows, fates, strict=True) if not isinstance(fate, BaseException)]
        failed = [(row["id"], fate) for row, fate in zip(rows, fates, strict=True) if isinstance(fate, Exception)]
        if confirmed:
            await self.mark(confirmed)
        if failed:
            await self.release(failed)
            raise failed[0][1]
        return len(claimed) == WINDOW

    async def publish(self, channel: AbstractChannel, message: AbstractMessage) -> None:
        """Done when the broker has it on its disk."""
        await channel.default_exchange.publish(message, QUEUE, mandatory=True, timeout=CONFIRM_SECONDS)

    async def composed(self, claimed: Sequence[Record]) -> list[tuple[Record, AbstractMessage]]:
        """The messages; a window that cannot be told to the worker ends its row."""
        batch = []
        for row in claimed:
            try:
                batch.append((row, compose(row, self.settings.zone)))
            except AmbiguousLocalTime as error:
                await self.store.fail(row["id"], "AmbiguousLocalTime", str(error))
        return batch

    async def mark(self, ids: Sequence[int]) -> None:
        """Tries for about as long as the claim holds: giving up means a second copy, with the same id."""
        backoff = Backoff(0.1, 5)
        for tries_left in reversed(range(8)):
            try:
                return await self.store.mark_published(ids)
            except Exception as error:
                if not tries_left:
                    raise
                log.warning("cannot mark %d executions as published yet: %s", len(ids), error)
                await backoff.wait()

    async def release(self, failed: Sequence[tuple[int, Exception]]) -> None:
        """Notes why the messages are not out."""
        ids: dict[str, list[int]] = {}
        texts: dict[str, str] = {}
        for id, error in failed:
            problem = _problem(error)
            ids.setdefault(problem, []).append(id)
            texts.setdefault(problem, str(error) or type(error).__name__)
        for problem, of_problem in ids.items():
            await self.store.release(of_problem, problem, texts[problem][:512])


def _problem(error: Exception) -> str:
    match error:
        case PublishError():
            return "Unroutable"
        case DeliveryError():
            return "Rejected"
        case _:
            return "BrokerUnavailable"
