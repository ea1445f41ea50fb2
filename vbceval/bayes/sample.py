"""Draw from a PyMC model: the one place where a sampler is called."""

from __future__ import annotations

import importlib.util
import os
import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from vbceval.core.errors import EstimationError

Progress = Callable[[int, int, int], None]
"""Called now and then with iterations done, iterations in total, and divergences so far.

It may be called from another thread.
"""


def sample(
    model: Any,
    *,
    draws: int = 1000,
    tune: int = 1000,
    chains: int = 4,
    seed: int = 20210101,
    target_accept: float = 0.9,
    progress: Progress | None = None,
) -> Any:
    """
    Sample a PyMC model with the no-U-turn sampler.

    Uses nutpie where it is installed and PyMC's own sampler elsewhere; the tree says which in
    ``tree.sample_stats.attrs["inference_library"]``. Equal seeds give equal draws with the same
    sampler, whatever the number of cores. Nothing is judged here: call
    `vbceval.bayes.checks.require_converged` before a draw is used.

    Parameters
    ----------
    model : pymc.Model, or what `compiled` returned
        Model with its observed data or potentials.
    draws, tune : int, default 1000
        Kept and warm-up iterations of each chain.
    chains : int, default 4
        Independent chains, at least 2: with one chain convergence cannot be judged.
    seed : int
        Seed of all chains.
    target_accept : float, default 0.9
        Mean acceptance that the step size aims at, between 0 and 1.
    progress : callable, optional
        Receives (iterations done, iterations in total, divergences) over all chains.

    Returns
    -------
    xarray.DataTree
        Groups ``posterior`` and ``sample_stats`` with dimensions chain, draw; no warm-up draws.

    Raises
    ------
    EstimationError
        If an option is out of range.
    """
    _check(draws=draws, tune=tune, chains=chains, target_accept=target_accept)
    options = {"draws": draws, "tune": tune, "chains": chains, "target_accept": target_accept}
    with one_thread():
        if importlib.util.find_spec("nutpie") is not None:
            return _with_nutpie(model, seed, progress, options)
        return _with_pymc(model, seed, progress, options)


def compiled(model: Any) -> Any:
    """
    Return a model that `sample` takes many times without compiling it again, where nutpie is there.

    Parameters
    ----------
    model : pymc.Model
        Model. What its operations read from arrays behind them may change between samples.
    """
    if importlib.util.find_spec("nutpie") is None:
        return model
    import nutpie

    return nutpie.compile_pymc_model(model)


def one_thread() -> AbstractContextManager[object]:
    """Keep linear algebra on one thread: chains run side by side, and would fight for the cores."""
    from threadpoolctl import threadpool_limits

    limits: AbstractContextManager[object] = threadpool_limits(1, user_api="blas")
    return limits


def _check(*, draws: int, tune: int, chains: int, target_accept: float) -> None:
    wrong = []
    if draws < 4 or tune < 1:
        wrong.append(f"`draws` is {draws} and `tune` {tune}; at least 4 and 1 are needed")
    if chains < 2:
        wrong.append(f"`chains` is {chains}; convergence is judged between at least 2 chains")
    if not 0 < target_accept < 1:
        wrong.append(f"`target_accept` is {target_accept}; it lies between 0 and 1")
    if wrong:
        raise EstimationError("the model cannot be sampled: " + "; ".join(wrong) + ".")


def _cores(chains: int) -> int:
    return max(1, min(chains, os.cpu_count() or 1))


def _with_nutpie(model: Any, seed: int, progress: Progress | None, options: dict[str, Any]) -> Any:
    import nutpie
    import pymc

    def report(chains: list[Any]) -> None:
        assert progress is not None  # only passed on when there is one
        progress(
            sum(int(c.finished_draws) for c in chains),
            sum(int(c.total_draws) for c in chains),
            sum(int(c.divergences) for c in chains),
        )

    tree = nutpie.sample(
        compiled(model) if isinstance(model, pymc.Model) else model,
        **options,
        cores=_cores(options["chains"]),
        seed=seed,
        save_warmup=False,
        progress_bar=False,
        progress_callback=None if progress is None else report,
    )
    return _storable(tree)


def _with_pymc(model: Any, seed: int, progress: Progress | None, options: dict[str, Any]) -> Any:
    import pymc

    total = options["chains"] * (options["draws"] + options["tune"])
    seen = {"done": 0, "divergences": 0}

    def report(trace: Any, draw: Any) -> None:
        assert progress is not None  # only passed on when there is one
        seen["done"] += 1
        seen["divergences"] += sum(bool(s.get("diverging", False)) for s in draw.stats)
        progress(seen["done"], total, seen["divergences"])

    with warnings.catch_warnings():
        # PyMC's own remarks on convergence: `require_converged` judges, and refuses
        warnings.simplefilter("ignore", UserWarning)
        tree = pymc.sample(
            model=model,
            **options,
            cores=_cores(options["chains"]),
            random_seed=seed,
            nuts_sampler="pymc",
            progressbar=False,
            compute_convergence_checks=False,
            callback=None if progress is None else report,
        )
    return _storable(tree)


def _storable(tree: Any) -> Any:
    """Drop what a NetCDF file cannot hold: statistics made of Python objects, all of them empty."""
    stats = tree["sample_stats"].to_dataset()
    objects = [name for name in stats.data_vars if stats[name].dtype == object]
    tree["sample_stats"] = tree["sample_stats"].copy()
    tree["sample_stats"].dataset = stats.drop_vars(objects)
    return tree
