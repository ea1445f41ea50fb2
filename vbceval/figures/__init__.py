"""Exhibits drawn from `Estimates` and plain tables; nothing here imports an estimator.

Every figure carries its plotted values, a note generated from the record of the fit, and
alternative text (`record`); `save` writes them beside the picture.
"""

from vbceval.figures.balances import love, propensity_overlap
from vbceval.figures.caterpillars import caterpillar
from vbceval.figures.contract_sizes import viability_curve
from vbceval.figures.cumulative import cumulative_savings
from vbceval.figures.decompositions import decomposition
from vbceval.figures.dispatch import plot
from vbceval.figures.event_studies import event_study
from vbceval.figures.files import save
from vbceval.figures.forests import forest
from vbceval.figures.half_eyes import half_eye
from vbceval.figures.ledgers import gross_to_net
from vbceval.figures.left_out import leave_one_out
from vbceval.figures.markup import table_html, table_latex, table_markdown
from vbceval.figures.numbers import interval, number, p_statement, p_value
from vbceval.figures.posteriors import posterior_density, threshold_curve
from vbceval.figures.predictive_checks import predictive_check
from vbceval.figures.records import FigureRecord, record
from vbceval.figures.samples import cohort_sizes, sample_flow
from vbceval.figures.specification_curves import specification_curve
from vbceval.figures.style import STYLES, Style, get_style
from vbceval.figures.synthetic_paths import synthetic_paths
from vbceval.figures.tables import Column, estimates_table, format_table
from vbceval.figures.trend_sensitivity import equivalence, honest, pretrend_power
from vbceval.figures.trends import trend

__all__ = [
    "STYLES",
    "Column",
    "FigureRecord",
    "Style",
    "caterpillar",
    "cohort_sizes",
    "cumulative_savings",
    "decomposition",
    "equivalence",
    "estimates_table",
    "event_study",
    "forest",
    "format_table",
    "get_style",
    "gross_to_net",
    "half_eye",
    "honest",
    "interval",
    "leave_one_out",
    "love",
    "number",
    "p_statement",
    "p_value",
    "plot",
    "posterior_density",
    "predictive_check",
    "pretrend_power",
    "propensity_overlap",
    "record",
    "sample_flow",
    "save",
    "specification_curve",
    "synthetic_paths",
    "table_html",
    "table_latex",
    "table_markdown",
    "threshold_curve",
    "trend",
    "viability_curve",
]
