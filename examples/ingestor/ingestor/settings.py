"""Reads the command line and the environment, and refuses what cannot work.

A message names the setting and what to do; it never repeats a value that may hold a password.
"""

import argparse
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

from .worker import Job

DATA = Path(__file__).resolve().parent.parent / "data"
LEVELS = ("debug", "info", "warning", "error")


class WrongSetting(Exception):
    """A setting is missing or wrong; the text names it and says what to do."""


@dataclass(frozen=True)
class Settings:
    """Everything that is chosen from outside."""

    report: str
    job: Job
    max_messages: int | None
    log_level: str
    queue: str
    status_queue: str
    rabbitmq_url: str
    database_url: str
    api_url: str
    credentials: tuple[str, str] | None


def whole(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("expected 1 or more")
    return number


def seconds(text: str) -> float:
    number = float(text)
    if not (math.isfinite(number) and number >= 0):
        raise argparse.ArgumentTypeError("expected 0 or more seconds")
    return number


def parser() -> argparse.ArgumentParser:
    """The command line."""
    flags = argparse.ArgumentParser(
        prog="python -m ingestor",
        description="Sample worker: takes sync requests from RabbitMQ, counts records, reports how it went.",
        epilog="Environment: RABBITMQ_URL, RABBITMQ_QUEUE, RABBITMQ_STATUS_QUEUE, WORKER_TIMEZONE, LOG_LEVEL; "
        "for --report sql DATABASE_URL; for --report http SYNC_API_URL, ADMIN_USERNAME, ADMIN_PASSWORD.",
    )
    flags.add_argument(
        "--report",
        choices=("http", "amqp", "sql", "none"),
        default="none",
        help="how to report what becomes of a request (default: none)",
    )
    flags.add_argument(
        "--source",
        type=Path,
        action="append",
        metavar="FILE",
        help="file of records, one JSON object a line; may be repeated "
        "(default: data/contracts.jsonl and data/live.jsonl)",
    )
    flags.add_argument(
        "--progress-every",
        type=whole,
        default=10,
        metavar="N",
        help="report progress after every N records (default: 10)",
    )
    flags.add_argument(
        "--delay-per-record",
        type=seconds,
        default=0.0,
        metavar="SECONDS",
        help="take this long over each record, to be seen at work (default: 0)",
    )
    flags.add_argument(
        "--report-patience",
        type=seconds,
        default=60.0,
        metavar="SECONDS",
        help="how long to repeat a start or end report that fails (default: 60)",
    )
    ends = flags.add_mutually_exclusive_group()
    ends.add_argument("--once", action="store_const", const=1, dest="max_messages", help="end after one message")
    ends.add_argument("--max-messages", type=whole, metavar="N", help="end after N messages")
    return flags


def address(env: Mapping[str, str], name: str, schemes: Sequence[str]) -> str:
    """A URL from the environment with one of the schemes and a host."""
    value = env.get(name, "")
    expected = f"{schemes[0]}://…"
    if not value:
        raise WrongSetting(f"{name} is not set: set it to an address like {expected}")
    try:
        parts = urlsplit(value)
        usable = parts.scheme in schemes and (parts.hostname or parts.scheme.startswith("postgres"))
        parts.port  # noqa: B018 - reading it checks it
    except ValueError:
        usable = False
    if not usable:
        raise WrongSetting(f"{name} is not usable: set it to an address like {expected}, special characters encoded")
    return value


def credentials(env: Mapping[str, str]) -> tuple[str, str] | None:
    """Name and password for the REST API, both or none."""
    name, password = env.get("ADMIN_USERNAME", ""), env.get("ADMIN_PASSWORD", "")
    if bool(name) != bool(password):
        raise WrongSetting("set both ADMIN_USERNAME and ADMIN_PASSWORD, or neither for an open API")
    return (name, password) if name else None


def zone(env: Mapping[str, str]) -> ZoneInfo:
    name = env.get("WORKER_TIMEZONE") or "America/Cuiaba"
    try:
        return ZoneInfo(name)
    except (OSError, ValueError, KeyError):
        raise WrongSetting(f"WORKER_TIMEZONE {name!r} is no known time zone: set one like America/Cuiaba") from None


def load(arguments: Sequence[str], env: Mapping[str, str]) -> Settings:
    """All settings, or WrongSetting. Wrong flags end the process as argparse does, with status 2."""
    flags = parser().parse_args(arguments)
    sources = flags.source or [DATA / "contracts.jsonl", DATA / "live.jsonl"]
    for source in sources:
        if not source.is_file():
            raise WrongSetting(f"--source {source}: there is no such file")
    level = (env.get("LOG_LEVEL") or "info").lower()
    if level not in LEVELS:
        raise WrongSetting(f"LOG_LEVEL {level!r} is unknown: set one of {', '.join(LEVELS)}")
    http, sql = flags.report == "http", flags.report == "sql"
    return Settings(
        report=flags.report,
        job=Job(sources, zone(env), flags.progress_every, flags.delay_per_record, flags.report_patience),
        max_messages=flags.max_messages,
        log_level=level.upper(),
        queue=env.get("RABBITMQ_QUEUE") or "ingest.pncp",
        status_queue=env.get("RABBITMQ_STATUS_QUEUE") or "ingest.pncp.status",
        rabbitmq_url=address(env, "RABBITMQ_URL", ("amqp", "amqps")),
        database_url=address(env, "DATABASE_URL", ("postgres", "postgresql")) if sql else "",
        api_url=address(env, "SYNC_API_URL", ("http", "https")) if http else "",
        credentials=credentials(env) if http else None,
    )
