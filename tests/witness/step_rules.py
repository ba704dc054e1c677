"""The rules for steps: what a job has finished happens once, and is remembered as it was.

=============  =================================================================================
invariant      rule
=============  =================================================================================
step once      an effect comes again only in a later attempt, after a kill of the one before, which
               had not finished the step: it had not gone on with its result, nor with that of a
               later step, and the ledger does not say that it has
step's result  what a task goes on with is the value of the last effect, in each attempt; at the end
               the ledger has just that value, and every step of a job that has succeeded
=============  =================================================================================

A result that the ledger could not take yet is no finished step: the task goes on all the same, and
who is killed then may do it again.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterator

from .facts import STEP_ONCE, STEP_SAME, Facts, RowSeen, Violation
from .logs import Effect


def broken_steps(facts: Facts) -> Iterator[Violation]:
    """Give each step that was done too often, and each that was remembered wrongly."""
    effects: dict[tuple[str, str], list[Effect]] = defaultdict(list)
    for effect in facts.effects:
        effects[effect.token, effect.step].append(effect)
    finished = _finished(facts)
    for (token, step), each in effects.items():
        for effect, following in itertools.pairwise(each):
            if why := _unexplained(facts, effect, following, finished):
                yield Violation(STEP_ONCE, token, f"{step} was done again: {why}")
    yield from _wrong_results(facts, effects)
    for row in facts.rows.values():
        yield from _wrongly_kept(facts, row, effects)


def _finished(facts: Facts) -> dict[tuple[str, int], set[str]]:
    """Return which steps each attempt has finished for sure, as its own lines tell."""
    gone_on: dict[tuple[str, int], list[str]] = defaultdict(list)
    finished: dict[tuple[str, int], set[str]] = defaultdict(set)
    for line in facts.got:
        run = line.token, line.attempt
        gone_on[run].append(line.step)
        if line.is_written:
            finished[run].update(gone_on[run])
    return finished


def _unexplained(
    facts: Facts, effect: Effect, following: Effect, finished: dict[tuple[str, int], set[str]]
) -> str | None:
    if following.attempt <= effect.attempt:
        return f"attempt {following.attempt} came after {effect.attempt}"
    if effect.step in finished[effect.token, effect.attempt]:
        return f"attempt {effect.attempt} had gone on with its result"
    run = facts.run_of(effect)
    if run is None or facts.hit(run) is None:
        return f"nobody had killed process {effect.pid} of attempt {effect.attempt}"
    return None


def _wrong_results(
    facts: Facts, effects: dict[tuple[str, str], list[Effect]]
) -> Iterator[Violation]:
    for got in facts.got:
        before = [each for each in effects[got.token, got.step] if each.attempt <= got.attempt]
        value = before[-1].value if before else "nothing"
        if got.value != value:
            what = f"attempt {got.attempt} got {got.value} of {got.step}, which returned {value}"
            yield Violation(STEP_SAME, got.token, what)


def _wrongly_kept(
    facts: Facts, row: RowSeen, effects: dict[tuple[str, str], list[Effect]]
) -> Iterator[Violation]:
    intent = facts.intents.get(row.token)
    if intent is None:
        return
    for step, (attempt, value) in row.steps.items():
        done = effects.get((row.token, step))
        last = (done[-1].attempt, done[-1].value) if done else None
        if last != (attempt, value):
            what = f"{step} is kept as {value} of attempt {attempt}, the last effect was {last}"
            yield Violation(STEP_SAME, row.token, what)
    if row.state == "succeeded" and len(row.steps) != intent.steps:
        what = f"it succeeded with {len(row.steps)} of its {intent.steps} steps"
        yield Violation(STEP_SAME, row.token, what)
