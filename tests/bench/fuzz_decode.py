"""
Fuzzed records through the real way in: each becomes a row or a dead letter, or it is an action line of the bulk format.

`python -m tests.bench.fuzz_decode [--records N] [--seed N]`: bytes, broken JSON, JSON of any kind and UBI records with
anything in any field go through storing, as the loop does it. One that stops it ends this program with its traceback.
The last line is the count of each, as JSON.
"""

import argparse
import json
import random
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pyarrow as pa

from relevanced.consumers import loop
from relevanced.consumers.dead_letters import BadShare, IngestPolicy
from relevanced.consumers.decode import decode, read_regular
from relevanced.consumers.memory import MemorySource
from relevanced.daemon.errors import DeadLetter

FIELDS = [
    "action_name", "query_id", "user_query", "timestamp", "client_id", "session_id", "application",
    "query_response_hit_ids", "query_attributes", "event_attributes", "index", "create", "message",
]  # fmt: skip
ODD = [
    None, True, False, 0, -0.0, -1, 7, 2**31, 2**63, 2**64, 10**400, 1.5, 1e308, "", "x", "x" * 101, "\x00", "\ud800",
    "é", "🙂", [], {}, [None], ["a", 1], [1.5], {"x": 1}, "2025-01-01T00:00:00Z", "2025-02-30T00:00:00Z",
    "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", 1717527762010, 10**18, "click", "impression",
]  # fmt: skip
TOKENS = [
    b"{", b"}", b"[", b"]", b":", b",", b'"', b"null", b"NaN", b"1e400", b"-", b"\\u0000", b"\\ud800", b"\xff", b"\x00",
    b"\n", b" ", b'"query_id"', b'"user_query"', b'"a"', b"true", b"\xef\xbb\xbf", b"[" * 3000,
]  # fmt: skip


class Counting:
    """An EventLog that keeps numbers alone."""

    def __init__(self) -> None:
        self.rows: Counter[str] = Counter()

    @contextmanager
    def transaction(self) -> Iterator["Counting"]:
        yield self

    def append(self, table: str, rows: pa.Table) -> None:
        rows.validate(full=True)
        self.rows[table] += rows.num_rows

    def advance(self, source: str, next_offsets: Mapping[str, int]) -> None:
        pass

    def offsets(self, source: str) -> dict[str, int]:
        return {}


def anything(rng: random.Random, depth: int = 0) -> Any:
    choice = rng.random()
    if choice < 0.75 or depth > 3:
        return rng.choice(ODD)
    if choice < 0.85:
        return [anything(rng, depth + 1) for _ in range(rng.randrange(4))]
    names = [
        "object",
        "position",
        "object_id",
        "ordinal",
        "dwell_seconds",
        "rating",
        "offset",
        "propensities",
        "version",
    ]
    return {rng.choice([*names, "x"]): anything(rng, depth + 1) for _ in range(rng.randrange(5))}


def sound(rng: random.Random) -> dict[str, Any]:
    """A record as UBI has it."""
    about: dict[str, Any] = {"object": {"object_id": rng.choice(["d", 5])}, "position": {"ordinal": rng.randrange(9)}}
    record: dict[str, Any] = {"query_id": f"q{rng.randrange(99)}", "timestamp": "2025-01-24T07:31:30.699Z"}
    if rng.random() < 0.5:
        return record | {
            "user_query": "é words",
            "query_response_hit_ids": ["a", 1],
            "query_attributes": {"offset": 10},
        }
    return record | {"action_name": rng.choice(["click", "impression", "cite"]), "event_attributes": about}


def fuzzed(rng: random.Random) -> bytes:
    """One record: of each kind about as many."""
    kind = rng.randrange(6)
    if kind == 0:
        return rng.randbytes(rng.randrange(60))
    if kind == 1:
        return b"".join(rng.choices(TOKENS, k=rng.randrange(12)))
    if kind == 2 and rng.random() < 0.1:  # an action line of the bulk format, or what is nearly one
        return json.dumps({rng.choice(["index", "create", "delete"]): anything(rng)}).encode()
    if kind == 2:
        return json.dumps(anything(rng), ensure_ascii=rng.random() < 0.5).encode("utf-8", "surrogatepass")
    record = sound(rng)
    if kind >= 4:
        for name in rng.choices(FIELDS, k=rng.randrange(1, 4)):
            record[name] = anything(rng)
    text = json.dumps(record, ensure_ascii=rng.random() < 0.5).encode("utf-8", "surrogatepass")
    if kind == 5 and rng.random() < 0.5:  # a byte that flips, a key that comes twice, an end that is missing
        place = rng.randrange(len(text))
        broken = [text[:place] + rng.randbytes(1) + text[place + 1 :], text[:place], text[:-1] + b"," + text[1:]]
        return rng.choice(broken)
    return text


def action_lines(values: list[bytes]) -> int:
    """How many are no records, by the authority."""
    found = 0
    for value in values:
        try:
            found += decode(value) is None
        except DeadLetter:
            assert read_regular([value]) is None
    return found


def fuzz(count: int, seed: int, at_a_time: int = 20_000) -> dict[str, int]:
    """Counts; an assertion fails when a record is neither row nor dead letter."""
    rng, log, actions = random.Random(seed), Counting(), 0
    bad_share = BadShare("memory", IngestPolicy(max_bad_share=1.0))
    for start in range(0, count, at_a_time):
        values = [fuzzed(rng) for _ in range(min(at_a_time, count - start))]
        actions += action_lines(values)
        loop.step(MemorySource(values), log, bad_share)
        seen = min(start + at_a_time, count)
        assert log.rows.total() + actions == seen, f"{seen - log.rows.total() - actions} records are nowhere"
    return {
        "records": count,
        "rows": log.rows.total() - log.rows["dead_letter"],
        "dead_letters": log.rows["dead_letter"],
        "action_lines": actions,
        **{f"{table}_rows": number for table, number in sorted(log.rows.items())},
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=1)
    chosen = parser.parse_args()
    print(json.dumps({"bench": "fuzz_decode", **fuzz(chosen.records, chosen.seed)}))  # noqa: T201
