"""The command: python -m ingestor. Connects, works until told to stop, closes what it opened."""

import asyncio
import logging
import os
import signal
import sys
from contextlib import AbstractAsyncContextManager, nullcontext

import aio_pika
from aio_pika.abc import AbstractConnection, AbstractRobustConnection
from aio_pika.exceptions import CONNECTION_EXCEPTIONS

from .report_amqp import amqp_reporter
from .report_http import http_reporter
from .report_sql import sql_reporter
from .reports import Reporter, Silent
from .settings import Settings, WrongSetting, load
from .worker import Worker

log = logging.getLogger("ingestor")

RECONNECT_SECONDS = 1


def open_reporter(settings: Settings, connection: AbstractConnection) -> AbstractAsyncContextManager[Reporter]:
    """The way of reporting that was chosen."""
    match settings.report:
        case "http":
            return http_reporter(settings.api_url, settings.credentials)
        case "amqp":
            return amqp_reporter(connection, settings.status_queue)
        case "sql":
            return sql_reporter(settings.database_url)
        case _:
            return nullcontext(Silent())


def stop_on_signal(worker: Worker) -> None:
    """The first SIGTERM or SIGINT ends after the message in hand; a second one ends at once."""
    loop = asyncio.get_running_loop()
    signals = (signal.SIGTERM, signal.SIGINT)

    def stop() -> None:
        for each in signals:
            loop.remove_signal_handler(each)
            signal.signal(each, signal.SIG_DFL)
        worker.stop()
        log.info("stopping after the message in hand")

    for each in signals:
        loop.add_signal_handler(each, stop)


def log_outages(connection: AbstractRobustConnection) -> None:
    """Says once when the broker is lost and once when it is back."""
    reachable = True

    def lost(_: object, error: BaseException | None) -> None:
        nonlocal reachable
        # Called again for every attempt to come back that fails.
        if reachable and not connection.close_called:
            log.warning("lost the broker, trying to reach it every %d s: %s", RECONNECT_SECONDS, error)
        reachable = False

    def back(_: object) -> None:
        nonlocal reachable
        reachable = True
        log.info("the broker is back")

    connection.close_callbacks.add(lost)
    connection.reconnect_callbacks.add(back)


async def work(settings: Settings) -> None:
    """Connects and works until stopped. The connection comes back by itself when it is lost."""
    connection = await aio_pika.connect_robust(
        settings.rabbitmq_url,
        reconnect_interval=RECONNECT_SECONDS,
        client_properties={"connection_name": f"ingestor {settings.queue}"},
    )
    log_outages(connection)
    async with connection, open_reporter(settings, connection) as reporter:
        worker = Worker(settings.queue, settings.job, reporter, settings.max_messages)
        stop_on_signal(worker)
        await worker.run(await connection.channel())


def main() -> int:
    try:
        settings = load(sys.argv[1:], os.environ)
    except WrongSetting as error:
        print(f"ingestor: {error}", file=sys.stderr)
        return 2
    logging.basicConfig(
        level=settings.log_level, format="%(asctime)s %(levelname)s %(message)s", datefmt="%Y-%m-%dT%H:%M:%S%z"
    )
    # What the libraries say of an outage, every second and with tracebacks, is for debugging only;
    # their levels below warning can show what is sent at login, so they stay off.
    for library in ("aio_pika", "aiormq"):
        logging.getLogger(library).setLevel(logging.WARNING if settings.log_level == "DEBUG" else logging.CRITICAL)
    for library in ("asyncio", "httpx", "httpcore"):
        logging.getLogger(library).setLevel(logging.WARNING)
    try:
        asyncio.run(work(settings))
    except CONNECTION_EXCEPTIONS as error:
        log.error("gave up: %s: %s", type(error).__name__, error)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
