"""Progress bars with an estimate of the time left; silent where nobody watches."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

Advance = Callable[[int, str], None]
Counted = Callable[[int, int], None]


def _progress(console: Console) -> Progress:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[text]}"),
    )
    return Progress(*columns, console=console, refresh_per_second=4)


@contextmanager
def counting(console: Console | None, title: str) -> Iterator[Counted]:
    """A bar for work whose size shows only when it begins; the block gets `counted(done, total)`.

    Nothing is drawn before the first call, so that what is there already (a cache) takes no line.
    """
    if console is None:
        yield lambda _done, _total: None
        return
    with _progress(console) as progress:
        task = progress.add_task(title, visible=False, text="")

        def counted(done: int, total: int) -> None:
            progress.update(task, completed=done, total=total, visible=True)

        yield counted


@contextmanager
def bar(console: Console | None, title: str, total: int, done: int = 0) -> Iterator[Advance]:
    """A bar of `total` steps, `done` of them behind us; the block gets `advance(steps, text)`.

    Args:
        console: where to draw; None draws nothing.
        title: what is under way.
        total: steps in all.
        done: steps finished before (a resumed run).
    """
    if console is None:
        yield lambda _steps, _text: None
        return
    with _progress(console) as progress:
        task = progress.add_task(title, total=total, completed=done, text="")
        yield lambda steps, text: progress.update(task, advance=steps, text=text)
