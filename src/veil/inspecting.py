"""`veil data inspect`: what a data source holds, as tables in the terminal."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table

from veil.data.inspect import summary
from veil.data.sources import DataConfig
from veil.progress import counting


def print_data(config: DataConfig, output: Console, console: Console | None) -> None:
    """Print sizes, people, every label's balance, and which labels go together.

    Args:
        config: the source.
        output: where the tables go.
        console: where the progress bar goes; None for silence.
    """
    with counting(console, "reading images") as counted:
        dataset = config.dataset(counted)
    found = summary(dataset)
    height, width = found["size"]
    kind = "RGB" if found["channels"] == 3 else "grey"
    copies = f", {found['copies']} copies of another" if found["copies"] else ""
    output.print(f"{found['name']}: {found['images']:,} images, {width}x{height} {kind}{copies}")
    people = found["people"]
    output.print(
        "people unknown: splits can only keep copies of a picture together"
        if people is None
        else f"{people['count']:,} people with {people['fewest']} to {people['most']} photos each "
        f"(median {people['median']:g})"
    )
    labels = Table("label", "kind", "values", "missing", title="Labels", title_justify="left")
    for name, about in found["labels"].items():
        labels.add_row(name, about["kind"], _values(about), str(about["missing"] or ""))
    output.print(labels)
    if found["associations"]:
        pairs = Table("labels", "Cramér's V", title="What goes with what", title_justify="left")
        for pair in found["associations"]:
            pairs.add_row(" and ".join(pair["labels"]), f"{pair['cramers_v']:.3f}")
        output.print(pairs)


def _values(about: dict[str, Any]) -> str:
    if "shares" in about:
        return ", ".join(f"{name} {share:.1%}" for name, share in about["shares"].items())
    if "lowest" in about:
        return f"{about['lowest']:g} to {about['highest']:g}, mean {about['mean']:g}"
    return ""
