"""What the environment says. Decides nothing else."""

import os
from dataclasses import dataclass
from zoneinfo import ZoneInfo


@dataclass(frozen=True)
class Settings:
    """The settings of the process."""

    database_url: str
    rabbitmq_url: str
    namespace: str
    peering: str
    zone: ZoneInfo


def load() -> Settings:
    """Reads the environment; a missing variable ends the program with its name."""
    return Settings(
        database_url=_required("DATABASE_URL"),
        rabbitmq_url=_required("RABBITMQ_URL"),
        namespace=os.environ.get("WATCH_NAMESPACE", ""),
        peering=os.environ.get("PEERING", ""),
        zone=ZoneInfo(os.environ.get("WORKER_TIMEZONE", "America/Cuiaba")),
    )


def _required(name: str) -> str:
    value = os.environ.get(name, "")
    if not value:
        raise SystemExit(f"{name} is not set: set it and start again")
    return value
