"""Shows rows in the status of their objects: reads what changed in batches, writes what differs. Nobody else writes."""

import asyncio
import logging
from datetime import UTC, datetime

from asyncpg import Record
from kubernetes_asyncio.client import ApiClient, ApiException, CustomObjectsApi

from .backoff import Backoff
from .objects import Key, Known, Objects
from .status import FINAL, phase_of, status_of
from .store import Store

log = logging.getLogger("peer.mirror")

# Rows read at a time: what waits longer for its write may have changed since.
BATCH = 50
# Writes under way at a time.
IN_FLIGHT = 16
WRITE_SECONDS = 5
# How long a fresh row may go unshown: its confirm is on the way, and one write shows both.
# Under load this program takes seconds for that.
PENDING_GRACE_SECONDS = 5
RESYNC_SECONDS = 300


class Mirror:
    """The writer of statuses."""

    def __init__(self, store: Store, objects: Objects, client: ApiClient) -> None:
        self.store, self.objects = store, objects
        self.api = CustomObjectsApi(client)
        self.changed: dict[Key, None] = {}
        self.awake = asyncio.Event()
        self.permits = asyncio.Semaphore(IN_FLIGHT)

    def look_at(self, key: Key) -> None:
        """Something changed on this object's row."""
        self.changed[key] = None
        self.awake.set()

    def look_at_all(self) -> None:
        """Changes may have been missed."""
        self.changed |= dict.fromkeys(self.objects.unfinished())
        self.awake.set()

    def look_later(self, key: Key, seconds: float) -> None:
        """Looks again after a while."""
        asyncio.get_running_loop().call_later(seconds, self.look_at, key)

    async def resync(self) -> None:
        """Looks at everything unfinished from time to time, until it is cancelled."""
        while True:
            await asyncio.sleep(RESYNC_SECONDS)
            self.look_at_all()

    async def run(self) -> None:
        """Runs until it is cancelled."""
        backoff = Backoff(0.2, 10)
        while True:
            await self.awake.wait()
            keys = list(self.changed)[:BATCH]
            for key in keys:
                del self.changed[key]
            if not self.changed:
                self.awake.clear()
            try:
                await self.show(keys)
                backoff.reset()
            except Exception as error:
                log.warning("cannot read rows; trying again: %s", error or type(error).__name__)
                for key in keys:
                    self.look_at(key)
                await backoff.wait()

    async def show(self, keys: list[Key]) -> None:
        """Makes these objects show their rows."""
        known = {known.uid: (key, known) for key in keys if (known := self.objects.known.get(key))}
        rows = await self.store.by_uids(known)
        await asyncio.gather(*(self.show_one(*known[row["request_uid"]], row) for row in rows))

    async def show_one(self, key: Key, known: Known, row: Record) -> None:
        """Writes the status of one object if it differs."""
        shown, wanted = (known.revision, known.observed), (row["revision"], known.generation)
        if shown == wanted or known.revision > row["revision"]:
            return
        if phase_of(row) == "Pending":
            age = (datetime.now(UTC) - row["created_at"]).total_seconds()
            if age < PENDING_GRACE_SECONDS:
                return self.look_later(key, PENDING_GRACE_SECONDS - age)
        async with self.permits:
            try:
                await self.write(key, known.uid, status_of(row, known.generation))
            except ApiException as error:
                if error.status not in (404, 422):
                    log.warning("cannot write the status of %s/%s; trying again: %s", *key, error.reason)
                    self.look_later(key, 1)
                return
            except Exception as error:
                log.warning("cannot write the status of %s/%s; trying again: %s", *key, error or type(error).__name__)
                self.look_later(key, 1)
                return
        known.revision, known.observed = wanted
        known.final = row["status"] in FINAL

    async def write(self, key: Key, uid: str, status: dict) -> None:
        """The test of the uid keeps a status from a namesake: the server refuses the patch then (422)."""
        namespace, name = key
        patch = [
            {"op": "test", "path": "/metadata/uid", "value": uid},
            {"op": "add", "path": "/status", "value": status},
        ]
        await self.api.patch_namespaced_custom_object_status(
            "sync.pncp.io",
            "v1alpha1",
            namespace,
            "syncexecutions",
            name,
            patch,
            _content_type="application/json-patch+json",
            _request_timeout=WRITE_SECONDS,
        )
