"""The checker finds each broken promise in a history made by hand, and none in a clean one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from .checker import check, lateness, percentile
from .facts import (
    CLEAN,
    FINAL_ONCE,
    LATE,
    NO_LOSS,
    NO_OVERLAP,
    NO_PHANTOM,
    NOT_EARLY,
    TAGS,
    TWICE,
    FileSeen,
    Hits,
    Limits,
    RowSeen,
    Snapshot,
    Violation,
)
from .logs import History, Kill, Log, Logs, parse_client, parse_job, parse_kill, read_history

SERVER = 1000


def history(client: str = "", job: str = "", killer: str = "") -> History:
    """A history of lines; blank ones do not count."""

    def lines(text: str) -> list[str]:
        return [line.strip() for line in text.splitlines() if line.strip()]

    return History(
        tuple(parse_client(line) for line in lines(client)),
        tuple(parse_job(line) for line in lines(job)),
        tuple(parse_kill(line) for line in lines(killer)),
    )


def succeeded(**outcomes: str) -> Snapshot:
    numbered = {int(number.strip("n")): outcome for number, outcome in outcomes.items()}
    return Snapshot(rows=(RowSeen("a", "id-a", "succeeded", "", numbered),))


ENQUEUED = """
    INTENT a hash 10.0 9.0
    ACK a id-a 9.1
"""
ONCE = """
    S a 1 71 1000 hash 10.5
    E a 1 71 11.0
"""
KILLED_ONCE = """
    S a 1 71 1000 hash 10.5
    S a 2 72 1000 hash 12.0
    E a 2 72 12.5
"""
DONE = succeeded(n1="succeeded")
DONE_AGAIN = succeeded(n1="crashed", n2="succeeded")


def broken(found: list[Violation]) -> set[str]:
    return {violation.invariant for violation in found}


def test_a_clean_history_has_no_violation() -> None:
    assert check(history(ENQUEUED, ONCE), DONE) == []


def test_a_run_again_after_a_kill_of_its_process_is_no_violation() -> None:
    assert check(history(ENQUEUED, KILLED_ONCE, "K 71 9 spooler 10.7"), DONE_AGAIN) == []


def test_a_run_again_after_a_kill_of_its_whole_server_is_no_violation() -> None:
    assert check(history(ENQUEUED, KILLED_ONCE, f"K {SERVER} 9 server 10.7"), DONE_AGAIN) == []


def test_a_kill_between_the_end_of_the_task_and_the_next_start_explains_a_second_run() -> None:
    job = """
        S a 1 71 1000 hash 10.5
        E a 1 71 11.0
        S a 2 72 1000 hash 12.0
        E a 2 72 12.5
    """
    assert check(history(ENQUEUED, job, "K 71 9 spooler 11.2"), DONE_AGAIN) == []


def test_a_run_that_the_task_has_asked_for_is_no_violation() -> None:
    job = """
        S a 1 71 1000 hash 10.5
        A a 1 71 11.0
        S a 2 71 1000 hash 11.1
        E a 2 71 11.2
    """
    assert check(history(ENQUEUED, job), succeeded(n1="failed", n2="succeeded")) == []


def test_a_job_that_was_killed_to_death_is_no_loss() -> None:
    job = "S a 1 71 1000 hash 10.5"
    row = RowSeen("a", "id-a", "dead", "ProcessDied", {1: "crashed"})
    snapshot = Snapshot(rows=(row,), files=(FileSeen("dead", "id-a"),))
    assert check(history(ENQUEUED, job, "K 71 9 spooler 10.7"), snapshot) == []


def test_an_intent_without_an_answer_may_have_made_a_job_or_none() -> None:
    asked = "INTENT a hash 10.0 9.0"
    assert check(history(asked), Snapshot()) == []
    assert check(history(asked, ONCE), DONE) == []


def test_an_acknowledged_job_that_is_nowhere_is_a_loss() -> None:
    assert broken(check(history(ENQUEUED), Snapshot())) == {NO_LOSS}


def test_an_acknowledged_job_in_quarantine_is_a_loss() -> None:
    snapshot = Snapshot(files=(FileSeen("corrupt", "id-a"),))
    assert NO_LOSS in broken(check(history(ENQUEUED), snapshot))


def test_a_success_without_a_run_to_its_end_is_a_loss() -> None:
    job = "S a 1 71 1000 hash 10.5"
    assert broken(check(history(ENQUEUED, job, "K 71 9 spooler 10.7"), DONE)) == {NO_LOSS}


def test_a_success_whose_only_end_asked_for_another_run_is_a_loss() -> None:
    job = """
        S a 1 71 1000 hash 10.5
        A a 1 71 11.0
    """
    assert broken(check(history(ENQUEUED, job), DONE)) == {NO_LOSS}


@pytest.mark.parametrize("reason", ["FileLost", "HistoryLost", ""])
def test_a_job_that_is_dead_for_another_reason_than_its_kills_is_a_loss(reason: str) -> None:
    row = RowSeen("a", "id-a", "dead", reason)
    snapshot = Snapshot(rows=(row,), files=(FileSeen("dead", "id-a"),))
    assert broken(check(history(ENQUEUED), snapshot)) == {NO_LOSS}


def test_a_run_that_nobody_has_enqueued_is_a_phantom() -> None:
    assert NO_PHANTOM in broken(check(history("", ONCE), DONE))


def test_a_run_with_another_payload_is_a_phantom() -> None:
    job = ONCE.replace("hash", "hush")
    assert broken(check(history(ENQUEUED, job), DONE)) == {NO_PHANTOM}


def test_a_run_of_a_refused_job_is_a_phantom() -> None:
    client = """
        INTENT a hash 10.0 9.0
        REFUSED a 9.1
    """
    assert broken(check(history(client, ONCE), DONE)) == {NO_PHANTOM}


def test_two_jobs_from_one_intent_are_a_phantom() -> None:
    rows = (*DONE.rows, RowSeen("a", "id-b", "succeeded", "", {1: "succeeded"}))
    assert NO_PHANTOM in broken(check(history(ENQUEUED, ONCE), Snapshot(rows=rows)))


def test_an_end_without_a_start_is_a_phantom() -> None:
    job = f"{ONCE}\nE a 1 99 11.5"
    assert broken(check(history(ENQUEUED, job), DONE)) == {NO_PHANTOM}


def test_an_id_that_belongs_to_another_job_is_a_phantom() -> None:
    snapshot = Snapshot(rows=(RowSeen("b", "id-a", "succeeded"),))
    assert NO_PHANTOM in broken(check(history(ENQUEUED, ONCE), snapshot))


def test_a_start_before_the_end_of_the_run_before_is_an_overlap() -> None:
    job = """
        S a 1 71 1000 hash 10.5
        S a 2 72 1000 hash 10.7
        E a 1 71 11.0
        E a 2 72 11.2
    """
    found = check(history(ENQUEUED, job, "K 71 9 spooler 11.1"), DONE_AGAIN)
    assert broken(found) == {NO_OVERLAP}


def test_a_start_before_the_kill_of_the_run_before_is_an_overlap() -> None:
    found = check(history(ENQUEUED, KILLED_ONCE, "K 71 9 spooler 12.2"), DONE_AGAIN)
    assert broken(found) == {NO_OVERLAP}


def test_a_run_that_begins_before_a_reload_comes_to_its_process_is_ended_by_it() -> None:
    found = check(history(ENQUEUED, KILLED_ONCE, "K 1000 1 reload 10.4"), DONE_AGAIN)
    assert found == []


def test_a_run_that_begins_between_the_line_of_a_kill_and_the_kill_is_ended_by_it() -> None:
    found = check(history(ENQUEUED, KILLED_ONCE, "K 71 9 spooler 10.4"), DONE_AGAIN)
    assert found == []


def test_a_reload_long_before_a_run_does_not_end_it() -> None:
    found = check(history(ENQUEUED, KILLED_ONCE, "K 1000 1 reload 6.0"), DONE_AGAIN)
    assert broken(found) == {TWICE}


def test_a_second_run_that_no_kill_explains_is_a_violation() -> None:
    assert broken(check(history(ENQUEUED, KILLED_ONCE), DONE_AGAIN)) == {TWICE}
    killed_another = history(ENQUEUED, KILLED_ONCE, "K 72 9 spooler 10.7")
    assert broken(check(killed_another, DONE_AGAIN)) == {TWICE}
    killed_before = history(ENQUEUED, KILLED_ONCE, "K 71 9 spooler 9.4")
    assert broken(check(killed_before, DONE_AGAIN)) == {TWICE}


def test_one_kill_does_not_explain_two_more_runs() -> None:
    job = """
        S a 1 71 1000 hash 10.5
        S a 2 72 1000 hash 12.0
        S a 3 73 1000 hash 13.0
        E a 3 73 13.5
    """
    snapshot = succeeded(n1="crashed", n2="crashed", n3="succeeded")
    assert broken(check(history(ENQUEUED, job, "K 71 9 spooler 10.7"), snapshot)) == {TWICE}


def test_a_kill_does_not_explain_the_run_of_a_process_that_had_gone_on_to_another_job() -> None:
    client = f"{ENQUEUED}\nINTENT b hash 10.0 9.0\nACK b id-b 9.1"
    job = """
        S a 1 71 1000 hash 10.5
        E a 1 71 10.6
        S b 1 71 1000 hash 10.8
        S a 2 72 1000 hash 12.0
        E a 2 72 12.1
        S b 2 72 1000 hash 12.2
        E b 2 72 12.3
    """
    again = {1: "crashed", 2: "succeeded"}
    rows = (
        RowSeen("a", "id-a", "succeeded", "", again),
        RowSeen("b", "id-b", "succeeded", "", again),
    )
    found = check(history(client, job, "K 71 9 spooler 11.0"), Snapshot(rows=rows))
    assert [(violation.invariant, violation.token) for violation in found] == [(TWICE, "a")]


def test_an_attempt_number_that_comes_twice_is_a_violation() -> None:
    job = KILLED_ONCE.replace("S a 2", "S a 1").replace("E a 2", "E a 1")
    assert TWICE in broken(check(history(ENQUEUED, job, "K 71 9 spooler 10.7"), DONE))


def test_a_last_run_without_an_end_that_no_kill_explains_is_a_violation() -> None:
    job = "S a 1 71 1000 hash 10.5"
    row = RowSeen("a", "id-a", "dead", "ProcessDied", {1: "crashed"})
    snapshot = Snapshot(rows=(row,), files=(FileSeen("dead", "id-a"),))
    assert broken(check(history(ENQUEUED, job), snapshot)) == {TWICE}


def test_a_start_before_the_due_time_is_early() -> None:
    job = ONCE.replace("10.5", "9.9")
    assert broken(check(history(ENQUEUED, job), DONE)) == {NOT_EARLY}


def test_a_start_long_after_the_due_time_on_an_idle_pool_is_late() -> None:
    assert broken(check(history(ENQUEUED, ONCE), DONE, Limits(late=0.4))) == {LATE}
    assert check(history(ENQUEUED, ONCE), DONE, Limits(late=0.6)) == []


def test_only_jobs_that_are_due_before_the_first_kill_count_for_lateness() -> None:
    assert lateness(history(ENQUEUED, ONCE)) == [0.5]
    assert lateness(history(ENQUEUED, ONCE, "K 99 9 mule 10.9")) == []


def test_the_percentile_of_ascending_values_is_one_of_them() -> None:
    assert percentile([1.0, 2.0, 3.0, 4.0], 0.5) == 3.0
    assert percentile([1.0, 2.0, 3.0, 4.0], 0.99) == 4.0
    assert percentile([], 0.99) == 0.0


def test_a_final_state_that_changes_is_a_violation() -> None:
    client = f"{ENQUEUED}\nFINAL a dead 11.5"
    assert broken(check(history(client, ONCE), DONE)) == {FINAL_ONCE}


def test_a_final_job_that_is_gone_at_the_end_is_a_violation() -> None:
    client = "INTENT a hash 10.0 9.0\nFINAL a succeeded 11.5"
    assert broken(check(history(client, ONCE), Snapshot())) == {FINAL_ONCE}


def test_a_run_after_a_final_state_was_seen_is_a_violation() -> None:
    client = f"{ENQUEUED}\nFINAL a succeeded 10.9"
    found = check(history(client, KILLED_ONCE, "K 71 9 spooler 10.7"), DONE_AGAIN)
    assert broken(found) == {FINAL_ONCE}


def test_a_run_after_an_attempt_that_has_succeeded_is_a_violation() -> None:
    wrong = succeeded(n1="succeeded", n2="succeeded")
    found = check(history(ENQUEUED, KILLED_ONCE, "K 71 9 spooler 10.7"), wrong)
    assert broken(found) == {FINAL_ONCE}


def test_a_job_that_is_not_final_when_all_is_quiet_is_a_violation() -> None:
    snapshot = Snapshot(
        rows=(RowSeen("a", "id-a", "queued"),), files=(FileSeen("waiting", "id-a"),)
    )
    assert broken(check(history(ENQUEUED), snapshot)) == {FINAL_ONCE}


def test_a_file_of_a_job_that_has_succeeded_is_a_violation() -> None:
    snapshot = replace(DONE, files=(FileSeen("window", "id-a"),))
    assert broken(check(history(ENQUEUED, ONCE), snapshot)) == {FINAL_ONCE}


def test_a_dead_job_without_its_file_is_a_violation() -> None:
    row = RowSeen("a", "id-a", "dead", "ProcessDied")
    assert broken(check(history(ENQUEUED), Snapshot(rows=(row,)))) == {FINAL_ONCE}


def test_a_file_without_a_row_is_a_violation() -> None:
    snapshot = replace(DONE, files=(FileSeen("waiting", "id-z"),))
    assert broken(check(history(ENQUEUED, ONCE), snapshot)) == {FINAL_ONCE}


@pytest.mark.parametrize(
    "left",
    [
        {"old_in_tmp": ("id-a",)},
        {"strays": (71,)},
        {"descriptors_before": 12, "descriptors_after": 40},
        {"ledger_integrity": "row 7 missing from index jobs_ready"},
    ],
    ids=lambda left: next(iter(left)),
)
def test_what_a_run_leaves_behind_is_unclean(left: dict[str, object]) -> None:
    found = check(history(ENQUEUED, ONCE), replace(DONE, **left))
    assert broken(found) == {CLEAN}


def test_a_line_comes_back_from_a_log_as_it_was_written(tmp_path: Path) -> None:
    logs = Logs(tmp_path)
    logs.killer.write("K", 71, 9, "spooler@ledger.commit")
    Log(tmp_path / "killer.log").write("K", 72, 9, "mule")
    found = read_history(tmp_path).killer
    assert [(kill.pid, kill.signal, kill.what) for kill in found] == [
        (71, 9, "spooler@ledger.commit"),
        (72, 9, "mule"),
    ]
    assert isinstance(found[0], Kill)
    assert found[0].at <= found[1].at


def test_a_line_that_is_torn_is_an_error_and_not_passed_over() -> None:
    with pytest.raises(ValueError, match="no line of a job"):
        parse_job("S a 1 71")


TAGGED = ENQUEUED.replace("10.0 9.0", "10.0 tag=user:5 tag=it's 9.0")
BEARING = Snapshot(
    rows=(replace(DONE.rows[0], tags=frozenset({"user:5", "it's"})),),
    searched=(
        Hits("the list", "user:5", frozenset({"id-a"})),
        Hits("the list", "user:55", frozenset()),
    ),
)


def test_a_job_that_has_its_tags_and_is_found_by_them_is_no_violation() -> None:
    assert check(history(TAGGED, ONCE), BEARING) == []


@pytest.mark.parametrize("tags", [{"user:5"}, {"user:5", "it's", "more"}], ids=["less", "more"])
def test_a_job_with_other_tags_than_it_was_enqueued_with_is_a_violation(tags: set[str]) -> None:
    left = replace(BEARING, rows=(replace(BEARING.rows[0], tags=frozenset(tags)),))
    assert broken(check(history(TAGGED, ONCE), left)) == {TAGS}


@pytest.mark.parametrize(("tag", "ids"), [("user:5", set()), ("user:55", {"id-a"})])
def test_a_search_that_misses_a_job_or_finds_another_is_a_violation(
    tag: str, ids: set[str]
) -> None:
    left = replace(BEARING, searched=(Hits("the search", tag, frozenset(ids)),))
    assert broken(check(history(TAGGED, ONCE), left)) == {TAGS}
