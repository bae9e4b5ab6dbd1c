"""What the environment says. Decides nothing else."""

import os
from dataclasses import dataclass

from sqlalchemy import URL, make_url


@dataclass(frozen=True)
class Settings:
    """The settings of one process."""

    database_url: URL
    username: str
    password: str
    host: str
    port: int
    workers: int
    pool_size: int


def load() -> Settings:
    """Reads the environment; a missing variable ends the program with its name."""
    host, _, port = os.environ.get("LISTEN", "127.0.0.1:8000").rpartition(":")
    return Settings(
        database_url=make_url(_required("DATABASE_URL")).set(drivername="postgresql+asyncpg"),
        username=_required("ADMIN_USERNAME"),
        password=_required("ADMIN_PASSWORD"),
        host=host,
        port=int(port),
        workers=int(os.environ.get("WORKERS", "1")),
        pool_size=int(os.environ.get("POOL_SIZE", "20")),
    )


def _required(name: str) -> str:
    value = os.environ.get(name, "")
    if not value:
        raise SystemExit(f"{name} is not set: set it and start again")
    return value
