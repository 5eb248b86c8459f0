"""Figures of a sweep's study: history, values against scores, importances, Pareto front.

Held by tests/tuning/test_study.py.
"""

import math
import warnings
from collections.abc import Iterator

from matplotlib.figure import Figure
from optuna.importance import get_param_importances
from optuna.study import Study
from optuna.trial import FrozenTrial

from src.common.errors import one_line
from src.plots.search import (
    plot_importances,
    plot_objective_history,
    plot_parallel_coordinates,
    plot_parameter_scatter,
    plot_pareto_front,
)
from src.tuning.search_space import short_names
from src.tuning.study import counted_trials, pareto_indices, trial_scores


def study_figures(study: Study) -> Iterator[tuple[str, Figure]]:
    """Figures by name: history, values against scores, parallel coordinates, importances, Pareto front."""
    names = study.user_attrs.get("objective", ["selected"])
    trials = [t for t in counted_trials(study) if t.state.is_finished() and t.params]
    short = short_names(list(dict.fromkeys(key for t in trials for key in t.params)))
    values = [{short[key]: value for key, value in t.params.items()} for t in trials]
    log = {short[key] for t in trials for key, domain in t.distributions.items() if getattr(domain, "log", False)}
    for i, name in enumerate(names):
        scores = [trial_scores(t, len(names))[i] for t in trials]
        objective = [score if math.isfinite(score) else None for score in scores]
        yield f"history_{name}", plot_objective_history(objective, name)
        yield f"values_{name}", plot_parameter_scatter(values, objective, name, log)
        yield f"parallel_{name}", plot_parallel_coordinates(values, objective, name, log)
        if shares := parameter_importances(study, i):
            yield f"importances_{name}", plot_importances({short[key]: s for key, s in shares.items()}, name)
    if len(names) == 2:
        pairs = [(x, y) for x, y in (trial_scores(t, 2) for t in trials) if math.isfinite(x) and math.isfinite(y)]
        yield "front", plot_pareto_front(pairs, pareto_indices(pairs), names)


def parameter_importances(study: Study, objective: int = 0) -> dict[str, float]:
    """Each key's share in the variance of an objective, PED-ANOVA (Watanabe et al. 2023); the shares sum to 1.

    Empty, with a warning that says why, where it cannot be computed: after few trials, or where all score alike.
    """

    def target(trial: FrozenTrial) -> float:
        return -trial_scores(trial)[objective]  # given a target, PED-ANOVA takes less for better

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # PED-ANOVA warns of the same
            return get_param_importances(study, target=target)
    except (ValueError, RuntimeError, ZeroDivisionError) as error:
        warnings.warn(f"importances of {study.study_name}: not known yet ({one_line(error)})", stacklevel=2)
        return {}
