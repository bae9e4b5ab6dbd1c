"""Reports by AMQP: JSON messages on the status queue, each confirmed by the broker."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aio_pika
from aio_pika.abc import AbstractChannel, AbstractConnection
from aio_pika.exceptions import CONNECTION_EXCEPTIONS

from .reports import Report, persist
from .request import Request

TIMEOUT_SECONDS = 10.0
FAILURES = (*CONNECTION_EXCEPTIONS, TimeoutError)


class AmqpReporter:
    """Publishes reports; they stay in the queue until the operator takes them."""

    def __init__(self, channel: AbstractChannel, queue_name: str) -> None:
        self._channel = channel
        self._queue_name = queue_name

    async def adopt(self, request: Request, patience: float) -> None:
        return None

    async def send(self, execution: str, report: Report, patience: float) -> None:
        message = aio_pika.Message(
            json.dumps({"request_id": execution} | report.as_json()).encode(),
            content_type="application/json",
            delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
            correlation_id=execution,
            app_id="ingestor",
        )

        async def attempt() -> None:
            # Within one deadline, because the channel waits without end for a lost connection.
            async with asyncio.timeout(TIMEOUT_SECONDS):
                await self._channel.default_exchange.publish(message, routing_key=self._queue_name, mandatory=True)

        await persist(attempt, FAILURES, patience)


@asynccontextmanager
async def amqp_reporter(connection: AbstractConnection, queue_name: str) -> AsyncIterator[AmqpReporter]:
    """Opens a channel of its own, so that waiting for confirms never delays the consumer's."""
    channel = await connection.channel(publisher_confirms=True, on_return_raises=True)
    await channel.declare_queue(queue_name, durable=True)
    try:
        yield AmqpReporter(channel, queue_name)
    finally:
        await channel.close()
