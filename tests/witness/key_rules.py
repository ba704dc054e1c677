"""The rules for unique keys: one unfinished job holds a key, and who loses it is not lost.

===================  ============================================================================
invariant            rule
===================  ============================================================================
one holder of a key  the times between which jobs held one key for sure never overlap: from the
                     answer to the enqueue, or the first run, to the end. At no look at the ledger
                     do two unfinished jobs hold it, or does one that was acknowledged go without,
                     unless it runs and was replaced
answer for a key     the job whose id was returned, or named by a refusal, exists, bears the key,
                     and was not seen to have ended before; who was answered so has made no job
replaced, not lost   a replaced job is cancelled and names the one that took its place, or ran when
                     it lost the key; after a replacing enqueue has returned no older job is started
===================  ============================================================================

A job whose enqueue was killed before its answer may be found later and run without its key: nobody
was promised anything of it, so only acknowledged jobs are held to have one.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterator
from typing import NamedTuple

from .facts import KEY_ANSWER, ONE_HOLDER, REPLACED, Facts, RowSeen, Violation
from .logs import Ack, Beside, Duplicate, Intent


def broken_keys(facts: Facts) -> Iterator[Violation]:
    """Give each promise about keys that was not kept."""
    yield from _held_at_once(facts)
    yield from _seen_at_once(facts)
    yield from _wrong_answers(facts)
    yield from _wrongly_replaced(facts)
    yield from _run_after_all(facts)


class _Held(NamedTuple):
    """From when to when a job held its key for sure."""

    begin: float
    end: float
    token: str


def _held_at_once(facts: Facts) -> Iterator[Violation]:
    held: dict[str, list[_Held]] = defaultdict(list)
    acked = {ack.token: ack.at for _, ack, _ in facts.own_acks()}
    for row in facts.rows.values():
        if row.key is not None and (span := _held(facts, row, acked.get(row.token))) is not None:
            held[row.key].append(span)
    for key, spans in held.items():
        spans.sort()
        longest = spans[0]
        for span in spans[1:]:
            if span.begin < longest.end:
                what = f"it held {key} beside {longest.token}, {longest.end - span.begin:.3f} s"
                yield Violation(ONE_HOLDER, span.token, what)
            longest = max(longest, span, key=lambda span: span.end)


def _held(facts: Facts, row: RowSeen, acked: float | None) -> _Held | None:
    runs = facts.runs.get(row.token, [])
    lines = [run.started.at for run in runs] + [run.ended.at for run in runs if run.ended]
    begins = lines if acked is None else [*lines, acked]
    if not begins:
        return None
    ended = float("inf") if row.ended is None else row.ended
    return _Held(min(begins), max([*lines, ended]), row.token)


def _seen_at_once(facts: Facts) -> Iterator[Violation]:
    acked = {ack.token for _, ack, _ in facts.own_acks()}
    for (_, key), lines in itertools.groupby(facts.beside, lambda line: (line.look, line.key)):
        together = list(lines)
        holders = [line.token for line in together if line.how == "holds"]
        if len(holders) > 1:
            what = f"{', '.join(holders[1:])} held {key} as well when the ledger was looked at"
            yield Violation(ONE_HOLDER, holders[0], what)
        for line in together:
            if line.token in acked and not _may_go_without(facts, line):
                what = f"it was seen unfinished and {line.how} the key {key}, beside another"
                yield Violation(ONE_HOLDER, line.token, what)


def _may_go_without(facts: Facts, line: Beside) -> bool:
    if line.how == "replaced":
        return facts.may_have_lost_its_key(facts.intents[line.token])
    return line.how == "holds"


def _wrong_answers(facts: Facts) -> Iterator[Violation]:
    ended: dict[str, float] = {}
    for seen in facts.finals:
        ended.setdefault(seen.token, seen.at)
    for answer in (*facts.acks, *facts.duplicates):
        asked = facts.intents.get(answer.token)
        holder = facts.intent_of(answer.id)
        if asked is None or not asked.key or (isinstance(answer, Ack) and holder is asked):
            continue
        for what in _wrong_answer(facts, answer, asked, holder, ended):
            yield Violation(KEY_ANSWER, answer.token, what)


def _wrong_answer(
    facts: Facts,
    answer: Ack | Duplicate,
    asked: Intent,
    holder: Intent | None,
    ended: dict[str, float],
) -> Iterator[str]:
    given = f"it was told that {answer.id} holds {asked.key}"
    if answer.id not in facts.rows:
        yield f"{given}, which does not exist"
    elif holder is not None and holder.key != asked.key:
        yield f"{given}, which has the key {holder.key!r}"
    elif holder is not None and ended.get(holder.token, float("inf")) < asked.at:
        yield f"{given}, which had ended before"
    if asked.policy != ("return" if isinstance(answer, Ack) else "refuse"):
        yield f"{given}, though it asked to {asked.policy}"
    if answer.token in facts.rows_of or answer.token in facts.runs:
        yield f"{given}, and made a job of its own"


def _wrongly_replaced(facts: Facts) -> Iterator[Violation]:
    for row in facts.rows.values():
        if row.state == "cancelled" and not facts.was_replaced(row):
            by = f"by {row.by}" if row.by else "by nobody"
            yield Violation(REPLACED, row.token, f"it is cancelled, but was replaced {by}")
    for intent, _, row in facts.own_acks():
        if intent.key and row.key is None and not facts.may_have_lost_its_key(intent):
            what = f"it has lost the key {intent.key}, and nobody was to replace it"
            yield Violation(REPLACED, row.token, what)


def _run_after_all(facts: Facts) -> Iterator[Violation]:
    own = [each for each in facts.own_acks() if each[0].key]
    for replacing, answer, _ in own:
        if replacing.policy != "replace":
            continue
        for older, first, row in own:
            if older.key != replacing.key or first.at >= replacing.at:
                continue
            # As the ledger has it: from there to the first line of the task may take a while.
            if any(start > answer.at for start in row.starts.values()):
                what = f"it was started after {replacing.token} had taken {older.key}"
                yield Violation(REPLACED, older.token, what)
