"""Simulation-based calibration of the sampler: compiled once, its data replaced many times."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from vbceval.bayes.calibration import place_of_truth, quantities, true_quantities
from vbceval.bayes.cells import Cells
from vbceval.bayes.checks import Limits
from vbceval.bayes.coefficients import Reference, reference
from vbceval.bayes.draws import natural
from vbceval.bayes.engines import Model, add_averages, converged
from vbceval.bayes.model import build
from vbceval.bayes.sample import compiled, one_thread, sample
from vbceval.bayes.simulated import from_prior
from vbceval.core.errors import EstimationError
from vbceval.core.rng import generator
from vbceval.core.typing import FloatArray, IntArray

LIMITS = Limits(r_hat=1.05, ess=50.0, divergences=1.0)
"""Gates of runs of few draws; divergences are counted, and not a gate."""
KEPT = 19
"""Draws that truths are placed among: so few that they hardly depend on each other."""
_LONGER = 4


class Run(NamedTuple):
    """
    Sizes of a run of the sampler: short ones, of which `KEPT` draws are used.

    Parameters
    ----------
    draws, tune, chains, target_accept
        As in `vbceval.bayes.sample.sample`; ``draws * chains`` is a multiple of 20.
    """

    draws: int = 100
    tune: int = 120
    chains: int = 2
    target_accept: float = 0.8


class Placed(NamedTuple):
    """
    What one replication found.

    Parameters
    ----------
    places : dict
        As `vbceval.bayes.calibration.places_of_truth` returns them.
    divergences : int, optional
        Divergent transitions; None where nothing that has them was run.
    """

    places: dict[str, float]
    divergences: int | None = None


@dataclass(frozen=True, eq=False, kw_only=True)
class Repeated:
    """
    A model that is compiled once and sampled with other outcomes many times; see `repeated`.

    Parameters
    ----------
    model : Model
        Its cells and what lies behind `around` are arrays of its own, which are overwritten: the
        compiled density reads them.
    around : Reference
        Behind the coordinates of the sampler.
    program : object
        What `vbceval.bayes.sample.compiled` returned.
    """

    model: Model
    around: Reference
    program: Any

    def put(self, cells: Cells) -> None:
        """Replace outcomes, and the coordinates that suit them."""
        _, parts, priors, active, _, _ = self.model
        self.model.cells.y[:] = cells.y
        if self.model.cells.within is not None and cells.within is not None:
            self.model.cells.within.squares[:] = cells.within.squares
        for old, new in zip(self.around, reference(cells, parts, priors, active), strict=True):
            old[:] = new


def repeated(model: Model) -> Repeated:
    """
    Compile a model for many data sets.

    Parameters
    ----------
    model : Model
        Its outcomes do not matter.
    """
    cells, parts, priors, active, person_log_sd, _ = model
    within = cells.within
    if within is not None:
        within = within._replace(squares=within.squares.copy())
    own = replace(cells, y=cells.y.copy(), within=within)
    around = reference(own, parts, priors, active)
    program = compiled(build(own, parts, priors, active, around, person_log_sd=person_log_sd))
    return Repeated(model=model._replace(cells=own), around=around, program=program)


def places_of_truth(found: Repeated, *, run: Run, seed: int) -> Placed:
    """
    Simulate once from the prior, sample, and say where the truth lies among draws.

    Parameters
    ----------
    found : Repeated
        Its outcomes are replaced.
    run : Run
        Sizes.
    seed : int
        Seed of simulation and sampler.

    Returns
    -------
    Placed
        Places among `KEPT` draws at even distances, and divergences.

    Raises
    ------
    EstimationError
        If the draws cannot be trusted, also of a longer run (`patiently`).
    """
    truth = from_prior(found.model, generator(seed, "calibration"))
    cells, parts, priors, _, _, averages = found.model
    # matrices this small take ten times as long where threads wait for each other
    with one_thread():
        found.put(truth.cells)

        def once(sizes: Run) -> tuple[Any, int]:
            tree = sample(found.program, **sizes._asdict(), seed=seed)
            tree = natural(tree, cells, parts, priors, found.around)
            add_averages(tree, averages)
            return tree, converged(tree, LIMITS).divergences

        tree, divergences = patiently(once, run)
        ours = quantities(found.model, thinned(tree), cells)
        true = true_quantities(found.model, truth)
    return Placed(places(ours, true), divergences)


def patiently[Found](once: Callable[[Run], Found], run: Run) -> Found:
    """
    Return what a run gives, or one with four times the draws where its draws cannot be trusted.

    What closed the gate is often that a run is short, and to leave such data sets out would choose
    among truths.

    Parameters
    ----------
    once : callable
        Of sizes.
    run : Run
        Sizes to begin with.
    """
    try:
        return once(run)
    except EstimationError:
        return once(run._replace(draws=_LONGER * run.draws))


def thinned(tree: Any) -> Any:
    """Return `KEPT` draws of the posterior at even distances, a data set of one chain."""
    import xarray

    posterior = tree["posterior"].to_dataset()
    sizes = posterior.sizes
    chain, draw = np.divmod(evenly(sizes["chain"] * sizes["draw"]), sizes["draw"])
    picked = posterior.isel(
        chain=xarray.DataArray(chain, dims="kept"), draw=xarray.DataArray(draw, dims="kept")
    )
    return picked.drop_vars(["chain", "draw"]).rename(kept="draw").expand_dims("chain")


def evenly(size: int) -> IntArray:
    """Return `KEPT` places at even distances among so many draws, a multiple of 20."""
    step = size // (KEPT + 1)
    return np.arange(KEPT, dtype=np.int64) * step + step - 1


def places(ours: Mapping[str, FloatArray], true: Mapping[str, float]) -> dict[str, float]:
    """Return the place of each truth among the draws of the same name."""
    return {name: place_of_truth(x, true[name]) for name, x in ours.items()}
