"""How often one line of the program may write to the log."""

from __future__ import annotations

from typing import Final

__all__ = ["SiteRates"]

WINDOW: Final = 1.0
MAX_SITES: Final = 4096

Site = tuple[str, int | str]
"""A logger's name, and the number of the line that logs, or whatever else tells sources apart."""


class _Window:
    __slots__ = ("began", "count", "level")

    def __init__(self, began: float) -> None:
        self.began = began
        self.count = 0
        self.level = 0


class SiteRates:
    """Lets ``per_second`` records of each site through in a second, and counts the others.

    A fixed window and no smoother rule: what is read is "the first 20 of 3,000 in this second".
    Nothing here reads a clock. Whoever uses it sees to it that one thread at a time does.
    """

    def __init__(self, per_second: int) -> None:
        """Count from nothing.

        :param per_second: 0 for any number.
        """
        self._most = per_second
        self._windows: dict[Site, _Window] = {}
        self.left_out = 0
        """Records so far that were not let through."""
        self.pending = False
        """Whether a site left something out that ``summaries`` has not told of."""

    def take(self, site: Site, level: int, now: float) -> bool:
        """Tell whether one more record of a site goes through.

        :param level: of the record, as logging has it.
        """
        if not self._most:
            return True
        window = self._windows.get(site)
        if window is None or (window.count <= self._most and now - window.began >= WINDOW):
            if window is None and len(self._windows) >= MAX_SITES:
                self._windows.clear()  # sites are lines of code: this is somebody else's mistake
            window = self._windows[site] = _Window(now)
        window.count += 1
        window.level = max(window.level, level)
        if window.count <= self._most:
            return True
        self.left_out += 1
        self.pending = True
        return False

    def summaries(self, now: float, *, final: bool = False) -> list[tuple[Site, int, int]]:
        """Return each site whose window is over, its highest level, and how many it left out.

        :param final: take the windows for over.
        """
        over: list[tuple[Site, int, int]] = []
        for site, window in list(self._windows.items()):
            if final or now - window.began >= WINDOW:
                del self._windows[site]
                if window.count > self._most:
                    over.append((site, window.level, window.count - self._most))
        self.pending = any(window.count > self._most for window in self._windows.values())
        return over
