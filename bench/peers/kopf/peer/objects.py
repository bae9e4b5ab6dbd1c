"""What is known of the objects: who they are, and which revision they show. Filled by the watch, asks nobody."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from .status import FINAL_PHASES

Key = tuple[str, str]


@dataclass(slots=True)
class Known:
    """One object. A status is a function of the row's revision and the generation, so these two stand for it."""

    uid: str
    generation: int
    revision: int
    observed: int
    final: bool


class Objects:
    """All objects, by namespace and name."""

    def __init__(self) -> None:
        self.known: dict[Key, Known] = {}

    def see(self, key: Key, body: Mapping[str, Any]) -> None:
        """An object as the watch brings it; it may lag behind what was written last."""
        meta, status = body["metadata"], body.get("status") or {}
        new = Known(
            uid=meta["uid"],
            generation=meta["generation"],
            revision=status.get("revision", 0),
            observed=status.get("observedGeneration", -1),
            final=status.get("phase") in FINAL_PHASES,
        )
        old = self.known.get(key)
        if old is None or old.uid != new.uid or new.revision >= old.revision:
            self.known[key] = new
        else:
            old.generation = new.generation

    def forget(self, key: Key, uid: str) -> None:
        """An object is gone."""
        if (known := self.known.get(key)) and known.uid == uid:
            del self.known[key]

    def unfinished(self) -> Iterator[Key]:
        """Those that may still change."""
        return (key for key, known in self.known.items() if not known.final)
