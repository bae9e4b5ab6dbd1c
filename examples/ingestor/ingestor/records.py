"""The "ingestion": reads records from files and yields the ones published in a window.

A real worker would fetch them from a portal. Nothing is stored, and a record outside the window
is not looked at more closely than its time.
"""

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from .window import Window, local_time

_AGE = re.compile(r"now-(\d+)m")


@dataclass(frozen=True)
class Record:
    """One procurement record that was understood."""

    id: str
    agency: str
    object: str
    value: Decimal
    published_at: datetime


def published_at(text: object, identifier: str, now: datetime, zone: ZoneInfo) -> datetime:
    """The time of a record: local time of `zone`, or an age like "now-7m" counted from `now`."""
    if isinstance(text, str) and (age := _AGE.fullmatch(text)):
        return now - timedelta(minutes=int(age[1]))
    return local_time(text, zone, f"record {identifier}: published_at")


def understood(fields: dict[str, Any], published: datetime) -> Record:
    """A record from its raw fields; a missing or wrong one is a ValueError that names the record."""
    identifier = str(fields.get("id"))
    for name in ("id", "agency", "object", "value"):
        if not isinstance(fields.get(name), str):
            raise ValueError(f"record {identifier}: {name} is missing or is not a text")
    try:
        value = Decimal(fields["value"])
    except InvalidOperation:
        raise ValueError(f"record {identifier}: value {fields['value']!r} is not a number") from None
    if not value.is_finite():
        raise ValueError(f"record {identifier}: value {fields['value']!r} is not an amount")
    return Record(identifier, fields["agency"], fields["object"], value, published)


def in_window(sources: Iterable[Path], window: Window, now: datetime, zone: ZoneInfo) -> Iterator[Record]:
    """Yields the records of all files that were published in the window, in the order of the files."""
    for source in sources:
        with source.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, start=1):
                try:
                    fields = json.loads(line)
                except ValueError:
                    raise ValueError(f"{source.name} line {number} is not JSON") from None
                if not isinstance(fields, dict):
                    raise ValueError(f"{source.name} line {number} is not a JSON object")
                published = published_at(fields.get("published_at"), str(fields.get("id")), now, zone)
                if window.holds(published):
                    yield understood(fields, published)
