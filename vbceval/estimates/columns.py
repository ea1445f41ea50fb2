"""Columns of the one result, in the order in which they are shown."""

KEYS = (
    "estimand",
    "outcome",
    "unit_of_measure",
    "cohort",
    "period",
    "event_time",
    "stratum",
)
"""What a row is about; an unused key is missing, never 0 or "all"."""

COUNTS = ("n_units", "n_clusters")

VALUES = (
    "estimate",
    "std_error",
    "conf_low",
    "conf_high",
    "band_low",
    "band_high",
    "p_value",
    "df",
    *COUNTS,
    "interval",
)

GROUP_TIME = "att_group_time"
SIMPLE = "att_simple"
EVENT_TIME = "att_event_time"
COHORT = "att_cohort"
PERIOD = "att_period"
OVERALL = "att_overall"
