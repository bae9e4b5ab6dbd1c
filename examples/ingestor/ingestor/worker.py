"""Takes one message at a time, works it off, reports, and acknowledges or rejects it.

How reports travel is not known here. A report that cannot be delivered never decides over the
work: it is logged, and the message is settled by how the work itself went.
"""

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

from aio_pika.abc import AbstractChannel, AbstractIncomingMessage
from aio_pika.exceptions import CONNECTION_EXCEPTIONS, ChannelInvalidStateError, ChannelPreconditionFailed

from . import request as requests
from .records import in_window
from .reports import ERROR_LIMIT, Report, Reporter
from .request import Request

log = logging.getLogger(__name__)

REMEMBERED = 1000
CANCEL_SECONDS = 10.0


@dataclass(frozen=True)
class Job:
    """How every run is done."""

    sources: Sequence[Path]
    zone: ZoneInfo
    progress_every: int
    delay_per_record: float
    report_patience: float


class Finished:
    """Remembers how the newest runs ended, by message id, to tell a second copy from new work.

    Best effort: it holds the last thousand and is empty after a restart. What makes a repeat
    harmless is that a finished execution never changes again.
    """

    def __init__(self, limit: int = REMEMBERED) -> None:
        self._limit = limit
        self._ends: OrderedDict[str, bool] = OrderedDict()

    def add(self, message_id: str | None, succeeded: bool) -> None:
        if message_id:
            self._ends[message_id] = succeeded
            while len(self._ends) > self._limit:
                self._ends.popitem(last=False)

    def get(self, message_id: str | None) -> bool | None:
        """True or False as the run ended; None for new work and for messages without an id."""
        return self._ends.get(message_id) if message_id else None


class RunFailed(Exception):
    """The work of a message failed, and that was reported; the message is to be rejected."""


class Worker:
    """Consumes one queue over one channel until told to stop."""

    def __init__(self, queue_name: str, job: Job, reporter: Reporter, max_messages: int | None = None) -> None:
        self._queue_name = queue_name
        self._job = job
        self._reporter = reporter
        self._max_messages = max_messages
        self._inbox: asyncio.Queue[AbstractIncomingMessage | None] = asyncio.Queue()
        self._finished = Finished()

    def stop(self) -> None:
        """Ends the loop after the message in hand. A message not begun goes back to the queue."""
        self._inbox.put_nowait(None)

    async def run(self, channel: AbstractChannel) -> None:
        """Declares the queue exactly as the operator does and works until stopped."""
        await channel.set_qos(prefetch_count=1)
        try:
            queue = await channel.declare_queue(self._queue_name, durable=True)
        except ChannelPreconditionFailed as error:
            raise RuntimeError(
                f"queue {self._queue_name} exists with other settings ({error}): "
                "delete it, or set limits and dead-lettering by a broker policy instead of queue arguments"
            ) from None
        # Through an inbox, because aio-pika cancels its own callbacks when the connection is lost,
        # and a run that has begun is to end and be reported all the same.
        consumer = await queue.consume(self._inbox.put)
        log.info("ready queue=%s", self._queue_name)

        taken = 0
        while taken != self._max_messages and (message := await self._inbox.get()) is not None:
            taken += 1
            if taken == self._max_messages:
                with suppress(*CONNECTION_EXCEPTIONS, TimeoutError):
                    await queue.cancel(consumer, timeout=CANCEL_SECONDS)
            await self._settle(message)
        log.info("stopped queue=%s messages=%d", self._queue_name, taken)

    async def _settle(self, message: AbstractIncomingMessage) -> None:
        """Works a message off, then acknowledges it, or rejects it for good."""
        if is_stale(message):
            log.warning("message=%s was not begun: its connection is gone, it comes again", message.message_id)
            return
        settled = "acknowledged"
        try:
            async with message.process(requeue=False):
                await self._work_once(message)
        except RunFailed:
            settled = "rejected without requeue"
        except CONNECTION_EXCEPTIONS as error:
            log.debug("message=%s: %r", message.message_id, error)
        if message.processed:
            log.info("message=%s %s", message.message_id, settled)
        else:
            log.warning("message=%s could not be settled: its connection is gone, it comes again", message.message_id)

    async def _work_once(self, message: AbstractIncomingMessage) -> None:
        """Works a message off unless it is a copy of finished work; the copy ends as the first did."""
        match self._finished.get(message.message_id):
            case True:
                log.info("message=%s is a copy of finished work, dropped", message.message_id)
            case False:
                log.info("message=%s is a copy of failed work, dropped", message.message_id)
                raise RunFailed
            case None:
                succeeded = await self._work(message)
                self._finished.add(message.message_id, succeeded)
                if not succeeded:
                    raise RunFailed

    async def _work(self, message: AbstractIncomingMessage) -> bool:
        """One run from start to end, with its reports; says whether it succeeded."""
        began = time.monotonic()
        now = datetime.now(UTC).replace(microsecond=0)
        execution: str | None = None
        request: Request | None = None
        try:
            fields = requests.decode(message.body)
            execution = requests.request_id(fields)
            request = requests.parse(fields, now, self._job.zone)
            execution = execution or await self._adopt(request)
            log.info(
                "execution=%s message=%s started mode=%s window=%s",
                execution,
                message.message_id,
                request.mode,
                request.window,
            )
            await self._report(execution, Report("running"), self._job.report_patience)
            count = await self._ingest(request, now, execution)
        except Exception as error:
            end = ended(request, began, error=str(error) or repr(error))
            log.error("execution=%s message=%s failed: %s", execution, message.message_id, error)
        else:
            end = ended(request, began, records=count)
            log.info("execution=%s message=%s succeeded records=%d", execution, message.message_id, count)
        await self._report(execution, end, self._job.report_patience)
        return end.status == "success"

    async def _ingest(self, request: Request, now: datetime, execution: str | None) -> int:
        """Counts the records in the window, reporting progress on the way."""
        count = 0
        for count, _ in enumerate(in_window(self._job.sources, request.window, now, self._job.zone), start=1):
            await asyncio.sleep(self._job.delay_per_record)
            if count % self._job.progress_every == 0:
                # Not repeated when it fails: the next one carries the whole count again.
                await self._report(execution, Report("running", records_processed=count), patience=0)
        return count

    async def _adopt(self, request: Request) -> str | None:
        try:
            return await self._reporter.adopt(request, self._job.report_patience)
        except Exception as error:
            log.error("no execution was found for this run, it is not reported: %r", error)
            return None

    async def _report(self, execution: str | None, report: Report, patience: float) -> None:
        if execution is None:
            return
        try:
            await self._reporter.send(execution, report, patience)
        except Exception as error:
            # A count that is missed is told again by the next one; a start or an end is not.
            level = logging.WARNING if report.is_progress else logging.ERROR
            log.log(level, "execution=%s %s was not reported: %r", execution, report.as_json(), error)


def is_stale(message: AbstractIncomingMessage) -> bool:
    """Whether the channel that brought the message is gone, so that the broker gives it out again."""
    try:
        return bool(message.channel.is_closed)
    except ChannelInvalidStateError:
        return True


def ended(request: Request | None, began: float, *, records: int | None = None, error: str | None = None) -> Report:
    """The last report of a run. An update also tells the window that it computed."""
    window = request.window if request and request.mode == "update" else None
    return Report(
        "success" if error is None else "error",
        records_processed=records,
        duration_seconds=round(time.monotonic() - began, 2),
        error_message=error[:ERROR_LIMIT] if error else None,
        window_start=window.start if window else None,
        window_end=window.end if window else None,
    )
