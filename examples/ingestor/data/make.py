"""Writes contracts.jsonl and live.jsonl, the records that the sample worker counts.

All names and numbers are invented. The same bytes come out on every run and on every Python
version (only Random.random() is used, whose sequence is promised to stay). Run it after a change
here and commit its output; a test compares the two.
"""

import json
from collections.abc import Iterator
from datetime import date, datetime, time, timedelta
from pathlib import Path
from random import Random

FOLDER = Path(__file__).parent
FIRST_DAY, DAYS = date(2025, 7, 1), 31

# Working days hold 14 records and days of a weekend 3, but for these.
BUSY_DAYS = {date(2025, 7, 10): 96, date(2025, 7, 22): 60, date(2025, 7, 20): 24}

# One record that no reader can make sense of, so that a run over its day fails for a real reason:
# the 17th record of this day, with this text for its value.
BROKEN_DAY, BROKEN_INDEX, BROKEN_VALUE = date(2025, 7, 20), 16, "R$ 12.x"

# Age in minutes of each live record when a run begins; 15 of them are 1 to 14 minutes old.
LIVE_MINUTES = [1, 2, 2, 3, 4, 5, 6, 7, 7, 9, 10, 11, 12, 13, 14, 18, 21, 25, 33, 47, 58]

AGENCIES = [
    "Prefeitura de Exemplo do Norte",
    "Prefeitura de Exemplo do Sul",
    "Câmara Municipal de Exemplo",
    "Fundo de Saúde de Exemplo",
    "Universidade de Exemplo",
]
OBJECTS = [
    "Aquisição de material escolar",
    "Manutenção de veículos",
    "Reforma de unidade básica de saúde",
    "Fornecimento de merenda",
    "Locação de equipamentos de informática",
    "Serviço de limpeza urbana",
]


def made_up(random: Random, identifier: str, published_at: str) -> dict[str, str]:
    """One invented record."""
    cents = 50_000 + int(random.random() * 25_000_000)
    return {
        "id": identifier,
        "agency": AGENCIES[int(random.random() * len(AGENCIES))],
        "object": OBJECTS[int(random.random() * len(OBJECTS))],
        "value": f"{cents // 100}.{cents % 100:02}",
        "published_at": published_at,
    }


def contracts() -> Iterator[dict[str, str]]:
    """A month of records in order of time, published between 08:00 and 18:00 local time."""
    random = Random(20250701)
    number = 0
    for offset in range(DAYS):
        day = FIRST_DAY + timedelta(days=offset)
        count = BUSY_DAYS.get(day, 3 if day.weekday() >= 5 else 14)
        opening = datetime.combine(day, time(8))
        times = sorted(opening + timedelta(seconds=int(random.random() * 36_000)) for _ in range(count))
        for index, published in enumerate(times):
            number += 1
            record = made_up(random, f"2025-{number:04}", published.isoformat())
            if (day, index) == (BROKEN_DAY, BROKEN_INDEX):
                record["value"] = BROKEN_VALUE
            yield record


def live() -> Iterator[dict[str, str]]:
    """Records whose time is given as an age, so that the last 15 minutes are never empty."""
    random = Random(15)
    for number, minutes in enumerate(LIVE_MINUTES, start=1):
        yield made_up(random, f"live-{number:04}", f"now-{minutes}m")


def as_lines(records: Iterator[dict[str, str]]) -> str:
    return "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)


if __name__ == "__main__":
    (FOLDER / "contracts.jsonl").write_text(as_lines(contracts()), encoding="utf-8")
    (FOLDER / "live.jsonl").write_text(as_lines(live()), encoding="utf-8")
