"""The message that the worker reads: bytes and properties. Equal rows give equal messages."""

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from aio_pika import DeliveryMode, Message


class AmbiguousLocalTime(Exception):
    """A bound of the window happened twice on the worker's clock."""


def compose(row: Mapping[str, Any], zone: ZoneInfo) -> Message:
    """The message of a claimed row."""
    body = {"mode": row["mode"]}
    if row["mode"] == "backfill":
        body |= {"data_ini": local_time(row["window_start"], zone), "data_fim": local_time(row["window_end"], zone)}
    body["request_id"] = str(row["id"])
    return Message(
        json.dumps(body, separators=(",", ":")).encode(),
        content_type="application/json",
        delivery_mode=DeliveryMode.PERSISTENT,
        message_id=f"{row['request_uid']}/{row['attempt']}",
        correlation_id=str(row["id"]),
        type="sync.execution.requested",
        app_id="sync-operator",
        timestamp=row["created_at"],
    )


def local_time(instant: datetime, zone: ZoneInfo) -> str:
    """The worker's wall clock, without offset."""
    local = instant.astimezone(zone)
    text = f"{local:%Y-%m-%dT%H:%M:%S}"
    if local.replace(fold=1 - local.fold).utcoffset() != local.utcoffset():
        raise AmbiguousLocalTime(f"{text} happened twice in {zone.key}, and the worker cannot be told which is meant")
    return text
