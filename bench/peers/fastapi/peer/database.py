"""The table as SQLAlchemy sees it, and the two queries. Knows nothing of HTTP."""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import BigInteger, DateTime, Numeric, String, Text, select
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from .settings import Settings


class Base(DeclarativeBase):
    """The registry of models."""


class SyncExecution(Base):
    """One execution: the columns that the existing API shows."""

    __tablename__ = "sync_executions"

    id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    mode: Mapped[str] = mapped_column(String(10))
    window_start: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    window_end: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    status: Mapped[str] = mapped_column(String(10))
    records_processed: Mapped[int | None]
    # As float: the API shows a number, and a Decimal per row would only cost time.
    duration_seconds: Mapped[float | None] = mapped_column(Numeric(10, 2, asdecimal=False))
    error_message: Mapped[str | None] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    updated_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))


def connect(settings: Settings) -> tuple[AsyncEngine, async_sessionmaker[AsyncSession]]:
    """The pool of this process. Reads need no transaction, so none is opened or rolled back around them."""
    engine = create_async_engine(
        settings.database_url,
        isolation_level="AUTOCOMMIT",
        pool_size=settings.pool_size,
        max_overflow=0,
        pool_timeout=5,
        pool_reset_on_return=None,
        connect_args={"timeout": 3, "command_timeout": 10},
    )
    return engine, async_sessionmaker(engine, expire_on_commit=False, autoflush=False)


async def newest(session: AsyncSession, limit: int) -> Sequence[SyncExecution]:
    """The newest executions, newest first."""
    query = select(SyncExecution).order_by(SyncExecution.created_at.desc()).limit(limit)
    return (await session.scalars(query)).all()
