"""Which night, and when in it: by the clocks of the shop's own time zone. Pure.

A day has 23 or 25 hours twice a year, and a time of night may be missing or come twice. Adding 24
hours to the last run would be wrong then, and drift after each delay; so each night's moment is
made from its date.
"""

from __future__ import annotations

from datetime import date, datetime, time, timedelta
from zoneinfo import ZoneInfo

ONE_DAY = timedelta(days=1)


def moment_after(day: date, at: time, zone: ZoneInfo) -> datetime:
    """Return when the report on `day` is due: the night after it, at this time by this clock.

    A time that is missing in that night counts as if the clocks had not been changed yet, and of
    two the first one is meant: one run in each night.

    >>> berlin = ZoneInfo("Europe/Berlin")
    >>> moment_after(date(2026, 3, 27), time(2, 30), berlin).isoformat()
    '2026-03-28T02:30:00+01:00'
    >>> moment_after(date(2026, 3, 28), time(2, 30), berlin).timestamp() == datetime(
    ...     2026, 3, 29, 3, 30, tzinfo=berlin).timestamp()
    True
    """
    return datetime.combine(day + ONE_DAY, at, zone)


def last_whole_day(now: datetime, zone: ZoneInfo) -> date:
    """Return the last day that is over at this moment.

    >>> from datetime import timezone
    >>> last_whole_day(datetime(2026, 6, 1, 22, 30, tzinfo=timezone.utc), ZoneInfo("Europe/Berlin"))
    datetime.date(2026, 6, 1)
    """
    return now.astimezone(zone).date() - ONE_DAY


def coming_day(now: datetime, at: time, zone: ZoneInfo) -> date:
    """Return the day whose report is due next: the first of which `moment_after` is still to come.

    >>> berlin = ZoneInfo("Europe/Berlin")
    >>> coming_day(datetime(2026, 6, 2, 2, 29, tzinfo=berlin), time(2, 30), berlin)
    datetime.date(2026, 6, 1)
    >>> coming_day(datetime(2026, 6, 2, 2, 30, tzinfo=berlin), time(2, 30), berlin)
    datetime.date(2026, 6, 2)
    """
    day = last_whole_day(now, zone)
    return day if now < moment_after(day, at, zone) else day + ONE_DAY


def bounds(day: date, zone: ZoneInfo) -> tuple[float, float]:
    """Return the unix times between which `day` lies; not always 24 hours.

    >>> begin, end = bounds(date(2026, 10, 25), ZoneInfo("Europe/Berlin"))
    >>> (end - begin) / 3600
    25.0
    """
    begin = datetime.combine(day, time(), zone)
    return begin.timestamp(), datetime.combine(day + ONE_DAY, time(), zone).timestamp()
