"""
Bias, coverage, size and power over the designs that evaluators meet.

    python benchmarks/designs.py --replications 200 --page docs/reference/simulations.md

The table of the page is written again, between its two marks. Each design is run by one process;
random numbers depend on the design and the replication, so that one line can be run again.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

import vbceval as vbc
from vbceval.simulate import OrganizationPanel, diagnose, process
from vbceval.simulate.truth import Truth

SEED = 20262
MARKS = ("<!-- table begins -->", "<!-- table ends -->")
DESIGN = vbc.Design(outcome="spend")
ORGANIZATIONS, SHARES = (40, 400), (0.05, 0.2, 0.5)


@dataclass(frozen=True, kw_only=True)
class Harder:
    """
    A process with heavy tails and attrition.

    Parameters
    ----------
    plain : OrganizationPanel
        The process; its truth is kept.
    tail : float
        Scale of a further shock to each organization and year with a t law of 3 degrees of freedom,
        in USD.
    leaves : float
        Chance that an organization is not seen any more from a year on, each year after the second.
    """

    plain: OrganizationPanel
    tail: float = 80.0
    leaves: float = 0.04

    @property
    def name(self) -> str:
        """Name, part of the seed."""
        return f"{self.plain.name}, heavy tails, attrition"

    def truth(self) -> Truth:
        """Return what is true: leaving is independent of effects."""
        return self.plain.truth()

    def panel(self, rng: np.random.Generator) -> vbc.Panel:
        """Draw a panel, then add shocks and drop rows."""
        whole = self.plain.panel(rng)
        frame = whole.frame.copy()
        frame["spend"] += self.tail * rng.standard_t(3, len(frame))
        units = frame[whole.unit].unique()
        years = np.array(self.plain.periods)
        gone = rng.random((len(units), len(years))) < self.leaves
        gone[:, :2] = False
        last = np.where(gone.any(axis=1), years[gone.argmax(axis=1)], np.inf)
        left = frame[whole.unit].map(dict(zip(units, last, strict=True)))
        return vbc.Panel.from_frame(
            frame[(frame[whole.period] < left).to_numpy()], unit=whole.unit, period=whole.period,
            cohort=whole.cohort, weight=whole.weight,
        )  # fmt: skip


def estimators() -> dict[str, Callable[[vbc.Panel], vbc.Estimates]]:
    """Return what is compared: overall effects."""
    did = vbc.did
    fits: dict[str, tuple[object, dict[str, str]]] = {
        "GroupTime, CR1": (did.GroupTime(method="reg"), {}),
        "Imputation, leave-one-out": (did.Imputation(leave_one_out=True), {}),
        "ETWFE, CR2": (did.ETWFE(), {"vcov": "CR2"}),
        "TWFE, CR1": (did.TWFE(), {}),
        "TWFE, Ferman-Pinto": (did.TWFE(), {"vcov": "ferman-pinto"}),
    }
    return {
        name: lambda panel, fit=fit, options=options: fit.fit(panel, DESIGN, **options).aggregate(
            "simple"
        )
        for name, (fit, options) in fits.items()
    }


def case(organizations: int, treated: float, *, effect: bool) -> OrganizationPanel:
    """Return a design: waves of entry, effects that grow, autocorrelated shocks."""
    entry = {2014: 0.4 * treated, 2015: 0.4 * treated, 2017: 0.2 * treated}
    if organizations * treated < 10:
        # one wave, so that a cohort has two organizations
        entry = {2015: treated}
    made = replace(process("D2"), organizations=organizations, entry=entry, cohort_effect={},
                   name=f"{organizations} organizations, {treated:.0%} treated")  # fmt: skip
    return made if effect else replace(made, effect=0.0, growth=0.0)


def line(asked: tuple[int, float, bool, int]) -> pd.DataFrame:
    """Run one design with and without an effect."""
    organizations, treated, hard, replications = asked
    tables = []
    for effect in (True, False):
        made = case(organizations, treated, effect=effect)
        drawn = Harder(plain=made) if hard else made
        found = diagnose(drawn, estimators(), replications=replications, seed=SEED)
        tables.append(found.table.set_index("estimator"))
    with_effect, without = tables
    draws = found.draws
    narrow = (draws["estimate"] / draws["std_error"]).abs() < 1.6449
    table = pd.DataFrame({
        "organizations": organizations, "treated": f"{treated:.0%}",
        "heavy tails, attrition": "yes" if hard else "no",
        "truth": with_effect["truth"], "bias": with_effect["bias"],
        "sd": with_effect["sd"], "mean error / sd": with_effect["se_bias"] + 1,
        "coverage": with_effect["coverage"], "size": without["rejection"],
        "size, 10%, normal": 1 - narrow.groupby(draws["estimator"]).mean(),
        "power": with_effect["rejection"], "failed": with_effect["share_failed"],
    })  # fmt: skip
    return table.rename_axis("estimator").reset_index()


def as_markdown(table: pd.DataFrame) -> str:
    """Return a table of a page, numbers with three digits."""
    rows = [[f"{x:.3g}" if isinstance(x, float) else str(x) for x in row]
            for row in table.itertuples(index=False)]  # fmt: skip
    lines = [list(table.columns), ["---"] * len(table.columns), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def main() -> None:
    """Run all designs, print the table and write it into a page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument("--replications", type=int, default=200)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--page", type=Path)
    asked = parser.parse_args()
    cases = [
        (*x, asked.replications) for x in itertools.product(ORGANIZATIONS, SHARES, (False, True))
    ]
    with ProcessPoolExecutor(asked.workers) as pool:
        table = pd.concat(list(pool.map(line, cases)), ignore_index=True)
    text = as_markdown(table)
    print(text)
    if asked.page is not None:
        before, rest = asked.page.read_text().split(MARKS[0])
        after = rest.split(MARKS[1])[1]
        error = (0.95 * 0.05 / asked.replications) ** 0.5
        said = f"{asked.replications} replications; a share of .95 or .05 has a Monte Carlo error of {error:.3f}."
        asked.page.write_text(f"{before}{MARKS[0]}\n{said}\n\n{text}{MARKS[1]}{after}")


if __name__ == "__main__":
    main()
