"""Train AIA on drawn faces, release people it has not seen, and load the run again.

    python examples/train_and_release.py

The same from the command line: `veil train`, `veil release`. Audit the run with `veil audit`.
"""

from __future__ import annotations

from pathlib import Path

import torch

from veil import load_run, train_run
from veil.config import parse
from veil.release import release_split, released


def main(people: int = 300, epochs: int = 2, out: Path = Path("runs/train_and_release")) -> None:
    """Train into `out`, and print what the release looks like."""
    config = parse(
        {
            "data": {"source": "synthfaces", "people": people, "size": 32},
            "problem": {"private": ["Male"], "utility": ["Smiling"]},
            "method": {
                "name": "aia",
                "decoder_channels": [32, 16],
                "pretrain_epochs": epochs,
                "joint_epochs": epochs,
            },
        },
        where="examples/train_and_release.py",
    )
    run = train_run(config, out, force=True)

    z = release_split(run.method.obfuscator, run.splits.test, seed=0, purpose="example")
    print(f"{run.method.title()}: {len(z)} pictures, each released as {tuple(z.shape[1:])}")

    again = load_run(out)
    x = again.splits.test.batch(slice(0, 4)).x
    few = released(again.method.obfuscator, x, torch.Generator())
    print(f"loaded again, the same release: {torch.allclose(few, z[:4], atol=1e-6)}")


if __name__ == "__main__":
    main()
