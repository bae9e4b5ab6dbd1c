"""Waiting longer each time, not all at once."""

import asyncio
import random


class Backoff:
    """Waits that double up to a limit, with jitter."""

    def __init__(self, first: float, limit: float) -> None:
        self.first, self.limit = first, limit
        self.next = first

    def reset(self) -> None:
        """It works again."""
        self.next = self.first

    async def wait(self) -> None:
        """Waits."""
        seconds, self.next = self.next, min(self.next * 2, self.limit)
        await asyncio.sleep(seconds * random.uniform(0.5, 1))
