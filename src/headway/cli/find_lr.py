"""Find a learning rate: raise it at every update, and see where the loss falls and shoots up.

headway find-lr classify --model.path MODEL --data.train train.tsv --picture rates.png
headway find-lr my.toml --low 1e-6 --high 0.1 --num-steps 200 --json

Nothing is saved but the picture. Training goes on from a copy of the model.
"""

from __future__ import annotations

import dataclasses
import sys
from dataclasses import dataclass
from pathlib import Path

import tyro

from headway import recipe as recipes
from headway.cli import _records
from headway.cli._options import TakesRecipe


@dataclass(frozen=True)
class Options(TakesRecipe):
    """Options of `headway find-lr`."""

    recipe: tyro.conf.Positional[str]
    """Recipe file, or the name of a shipped recipe."""
    low: float = 1e-7
    """First learning rate."""
    high: float = 1.0
    """Last learning rate, unless the loss shoots up before."""
    num_steps: int = 100
    """Updates."""
    picture: Path | None = None
    """Draw the curve to this file, .png or .svg."""
    json: bool = False
    """Print one JSON object."""


def run(options: Options) -> None:
    """Test the rates, and show the curve."""
    _records.check_place(options.picture, "--picture", kinds=(".png", ".svg"))
    recipe = recipes.read(recipes.find(options.recipe), options.overrides)
    from headway.explain.rates import draw_rates, rates_in_terminal
    from headway.train.finder import check_range, find_rate
    from headway.train.prepare import prepare

    # What cannot work is said before data is read.
    check_range(options.low, options.high, options.num_steps)
    prepared = prepare(recipe)
    with _records.progress_bar("rates", options.num_steps) as progress:
        test = find_rate(
            prepared.model,
            prepared.examples.train,
            prepared.recipe.training,
            playbook=prepared.recipe.playbook,
            low=options.low,
            high=options.high,
            num_steps=options.num_steps,
            progress=progress,
        )
    values = dataclasses.asdict(test)
    text = rates_in_terminal(test)
    if options.picture is not None:
        draw_rates(test, options.picture)
        values["picture"] = str(options.picture)
        text += f"\npicture            {options.picture}"
    if test.epochs > 2:
        sys.stderr.write(
            f"note: the test went {test.epochs:.1f} times over the data: there is little of it, "
            "and the curve may say more of it than of the rate\n"
        )
    _records.write(values, text, as_json=options.json)
