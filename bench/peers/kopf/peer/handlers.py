"""What kopf calls. Records requests; showing and publishing are tasks beside it."""

import asyncio
from contextlib import suppress
from typing import Any

import kopf
from kubernetes_asyncio import client, config

from .listener import Listener
from .mirror import Mirror
from .objects import Objects
from .relay import Relay
from .settings import Settings
from .store import Store

RESOURCE = ("sync.pncp.io", "v1alpha1", "syncexecutions")
# Objects in kopf's hands at a time; each has a connection to the database, and so have the tasks beside them.
WORKERS = 24
CONNECTIONS = WORKERS + 4


class StatusIsProof(kopf.DiffBaseStorage):
    """Whether an object was handled is told by its status, so kopf needs no annotation, which would cost a write more.

    A spec never changes in a way that matters here, so there is nothing to compare with.
    """

    def fetch(self, *, body: kopf.Body) -> Any:
        """The last handled state: this one, if it shows an execution id."""
        return self.build(body=body) if body.status.get("executionID") else None

    def store(self, *, body: kopf.Body, patch: kopf.Patch, essence: Any) -> None:
        """Nothing to keep."""


class Peer:
    """The parts of the running program."""

    def __init__(self, store: Store, api: client.ApiClient, settings: Settings) -> None:
        self.store, self.api = store, api
        self.objects = Objects()
        self.mirror = Mirror(store, self.objects, api)
        self.relay = Relay(store, settings)
        listener = Listener(settings.database_url, self.mirror)
        work = (self.relay.run(), self.mirror.run(), self.mirror.resync(), listener.run())
        self.tasks = [asyncio.create_task(each) for each in work]

    async def close(self) -> None:
        """Ends the tasks, then what they use."""
        for task in self.tasks:
            task.cancel()
        await asyncio.wait(self.tasks, timeout=5)
        await self.relay.close()
        await self.api.close()
        with suppress(TimeoutError):
            await asyncio.wait_for(self.store.close(), 5)


@kopf.on.startup()
async def startup(settings: kopf.OperatorSettings, memo: kopf.Memo, **_: Any) -> None:
    """Settings of the framework, and the parts beside it."""
    settings.posting.enabled = False
    settings.scanning.disabled = True
    settings.queueing.worker_limit = WORKERS
    # A worker holds its place while it is idle: with the default of 5 s, five objects a second.
    settings.queueing.idle_timeout = 0.01
    settings.watching.chunk_size = 500
    settings.networking.request_timeout = 30
    settings.execution.default_backoff = 2
    settings.persistence.diffbase_storage = StatusIsProof()
    # Only written when a handler has to be tried again.
    settings.persistence.progress_storage = kopf.AnnotationsProgressStorage()
    await config.load_kube_config()
    store = await Store.open(memo.settings.database_url, CONNECTIONS)
    memo.peer = Peer(store, client.ApiClient(), memo.settings)


@kopf.on.cleanup()
async def cleanup(memo: kopf.Memo, **_: Any) -> None:
    """The end of what startup began."""
    await memo.peer.close()


@kopf.on.event(*RESOURCE)
async def watch(
    type: str | None, namespace: str, name: str, uid: str, body: kopf.Body, memo: kopf.Memo, **_: Any
) -> None:
    """Keeps what is known of the object."""
    peer: Peer = memo.peer
    if type == "DELETED":
        peer.objects.forget((namespace, name), uid)
        await peer.store.cancel(uid)
        return
    peer.objects.see((namespace, name), body)
    if body.status.get("executionID") and body.status.get("observedGeneration") != body.metadata["generation"]:
        peer.mirror.look_at((namespace, name))


@kopf.on.create(*RESOURCE)
@kopf.on.resume(*RESOURCE)
async def record(namespace: str, name: str, uid: str, body: kopf.Body, memo: kopf.Memo, **_: Any) -> None:
    """Makes the request recorded. One that shows an execution id was recorded once, and is never recorded again."""
    peer: Peer = memo.peer
    if (known := peer.objects.known.get((namespace, name))) and known.final:
        return
    if not body.status.get("executionID"):
        await peer.store.ensure(uid, namespace, name, body.spec)
        peer.relay.recorded.set()
    peer.mirror.look_at((namespace, name))
