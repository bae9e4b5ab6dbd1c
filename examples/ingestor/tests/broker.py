"""The other side of the queues: sends requests as the operator does, reads reports, looks at counts."""

import asyncio
import json
import urllib.request
from typing import Any
from urllib.parse import quote, urlsplit

import aio_pika
from aio_pika.abc import AbstractChannel, AbstractConnection, AbstractIncomingMessage

DEADLINE_SECONDS = 30.0
POLL_SECONDS = 0.1


class Broker:
    """A request queue and a status queue with names of their own."""

    def __init__(self, connection: AbstractConnection, management_url: str, vhost: str, queue: str) -> None:
        self.connection = connection
        self.queue = queue
        self.status_queue = f"{queue}.status"
        self.dead_queue = f"{queue}.dead"
        self._management_url = management_url
        self._policy = f"/api/policies/{quote(vhost, safe='')}/{quote(queue)}"
        self._has_policy = False

    async def declare(self) -> None:
        """Declares the request queue before the worker does: durable, no arguments."""
        async with self.connection.channel() as channel:
            await channel.declare_queue(self.queue, durable=True)

    async def publish(self, body: dict[str, Any] | bytes, message_id: str | None = None) -> None:
        """Sends one request with the properties that the operator gives it."""
        fields = body if isinstance(body, dict) else {}
        message = aio_pika.Message(
            json.dumps(body).encode() if isinstance(body, dict) else body,
            content_type="application/json",
            delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
            message_id=message_id,
            correlation_id=fields.get("request_id"),
        )
        async with self.connection.channel() as channel:
            await channel.declare_queue(self.queue, durable=True)
            await channel.default_exchange.publish(message, routing_key=self.queue)

    async def waiting(self, queue: str | None = None) -> int:
        """How many messages lie in a queue, those in a worker's hand not counted."""
        async with self.connection.channel() as channel:
            declared = await channel.declare_queue(queue or self.queue, passive=True)
            return declared.declaration_result.message_count or 0

    async def take(self, queue: str) -> AbstractIncomingMessage:
        """Takes the next message of a queue and acknowledges it."""
        async with self.connection.channel() as channel:
            return await self._take(channel, queue)

    async def reports(self, count: int) -> list[AbstractIncomingMessage]:
        """Takes that many reports."""
        return [await self.take(self.status_queue) for _ in range(count)]

    async def _take(self, channel: AbstractChannel, name: str) -> AbstractIncomingMessage:
        queue = await channel.declare_queue(name, durable=True)
        async with asyncio.timeout(DEADLINE_SECONDS):
            while (message := await queue.get(fail=False)) is None:
                await asyncio.sleep(POLL_SECONDS)
        await message.ack()
        return message

    async def dead_letter(self) -> None:
        """Sends what is rejected without requeue to the dead queue, by a policy as an operator would."""
        async with self.connection.channel() as channel:
            await channel.declare_queue(self.dead_queue, durable=True)
        definition = {"dead-letter-exchange": "", "dead-letter-routing-key": self.dead_queue}
        policy = {"pattern": f"^{self.queue}$", "definition": definition, "apply-to": "queues"}
        await self._manage("PUT", self._policy, policy)
        self._has_policy = True

    async def cut(self, connection_name: str) -> None:
        """Closes the connection of this name from the broker's side."""
        async with asyncio.timeout(DEADLINE_SECONDS):
            while True:
                for each in await self._manage("GET", "/api/connections"):
                    if each.get("client_properties", {}).get("connection_name") == connection_name:
                        await self._manage("DELETE", f"/api/connections/{quote(each['name'])}")
                        return
                await asyncio.sleep(POLL_SECONDS)

    async def clean(self) -> None:
        """Deletes the queues and the policy."""
        if self._has_policy:
            await self._manage("DELETE", self._policy)
        async with self.connection.channel() as channel:
            for queue in (self.queue, self.status_queue, self.dead_queue):
                await channel.queue_delete(queue)

    async def _manage(self, method: str, path: str, body: Any = None) -> Any:
        """One call of the management API."""
        parts = urlsplit(self._management_url)
        passwords = urllib.request.HTTPPasswordMgrWithPriorAuth()
        base = f"{parts.scheme}://{parts.hostname}:{parts.port}"
        passwords.add_password(None, base, parts.username or "", parts.password or "", is_authenticated=True)
        opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPBasicAuthHandler(passwords)
        )
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(base + path, data, {"content-type": "application/json"}, method=method)

        def call() -> Any:
            with opener.open(request, timeout=10) as response:
                return json.loads(response.read() or b"null")

        return await asyncio.to_thread(call)
