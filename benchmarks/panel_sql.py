"""A beneficiary-quarter panel of any size, made inside DuckDB: the data of the benchmarks."""

from __future__ import annotations

import itertools
from pathlib import Path

QUARTERS = 40
PROVIDERS = 2_000
COHORTS = (8, 11, 14, 17, 20, 23, 26, 29)
OUTCOMES = ("spend", "inpatient", "ed_visits", "pcp_visits", "readmitted")
COVARIATES = ("age", "female", "hcc", "rural")
STRATUM = "dual_disabled"
# a beneficiary is in the panel for this many quarters on average: entry, death and leaving
_QUARTERS_EACH = 24.04

_QUERY = """
COPY (
    WITH people AS (
        SELECT
            i AS bene_id,
            hash(i * 8 + 1) / 18446744073709551615.0 AS u_age,
            hash(i * 8 + 2) / 18446744073709551615.0 AS u_hcc,
            hash(i * 8 + 3) / 18446744073709551615.0 AS u_enter,
            hash(i * 8 + 4) / 18446744073709551615.0 AS u_leave,
            (hash(i * 8 + 5) >> 7) AS h_provider,
            (hash(i * 8 + 6) >> 7) AS h_stratum,
            (hash(i * 8 + 7) >> 7) AS h_other
        FROM range({first}, {last}) t(i)
    ), spans AS (
        SELECT
            bene_id,
            66 + CAST(floor(-8 * ln(1 - u_age * 0.97)) AS INTEGER) AS age_at_start,
            CAST(h_other % 100 < 55 AS TINYINT) AS female,
            CAST((h_other >> 8) % 100 < 24 AS TINYINT) AS rural,
            round(exp(0.55 * sqrt(-2 * ln(greatest(u_hcc, 1e-12)))
                  * cos(6.283185307179586 * u_age) - 0.15), 3) AS hcc,
            CAST((h_stratum % 100 < 18)::INT + 2 * ((h_stratum >> 8) % 100 < 15)::INT AS TINYINT)
                AS {stratum},
            -- two thirds are in the panel from the first quarter
            CASE WHEN u_enter < 0.66 THEN 1 ELSE 2 + CAST(floor((u_enter - 0.66) / 0.34 * 39)
                AS INTEGER) END AS first_quarter,
            -- about 1.9 % die or leave in a quarter
            CAST(floor(-52 * ln(1 - u_leave * 0.9999)) AS INTEGER) AS stays,
            h_provider
        FROM people
    ), rows AS (
        SELECT
            *,
            -- a fifth have another provider after quarter 20
            CAST(CASE WHEN q > 20 AND (h_provider >> 20) % 5 = 0 THEN (h_provider >> 24)
                ELSE h_provider END % {providers} AS INTEGER) AS provider_id,
            hash(bene_id * 64 + q + 1000003) / 18446744073709551615.0 AS u1,
            hash(bene_id * 64 + q + 7000003) / 18446744073709551615.0 AS u2,
            (hash(bene_id * 64 + q + 9000011) >> 9) AS h
        FROM spans, range(1, {quarters} + 1) p(q)
        WHERE q >= first_quarter AND q <= first_quarter + stays
    ), treated AS (
        SELECT
            *,
            CASE WHEN provider_id % 20 < 12
                THEN [{cohorts}][1 + (provider_id // 20) % {cohort_count}] END AS cohort
        FROM rows
    )
    SELECT
        bene_id,
        provider_id,
        -- the first provider, for passes in which a person stays in one cluster
        CAST(h_provider % {providers} AS INTEGER) AS home_id,
        CAST(q AS SMALLINT) AS quarter,
        CAST(cohort AS DOUBLE) AS cohort,
        {stratum},
        CAST(CASE WHEN q = first_quarter + stays THEN 1 + h % 3 ELSE 3 END AS TINYINT) AS months,
        CAST(age_at_start + (q - first_quarter) // 4 AS SMALLINT) AS age,
        female, hcc, rural,
        -- a tenth without spending; the rest log-normal with a heavy tail, in dollars and cents
        CASE WHEN u1 < 0.12 THEN 0.0 ELSE round(
            exp(6.0 + 1.35 * sqrt(-2 * ln(u1)) * cos(6.283185307179586 * u2)
                + 0.25 * (hcc - 1) + 0.05 * {stratum}
                + CASE WHEN q >= cohort THEN -0.01 - 0.001 * (q - cohort) ELSE 0 END), 2)
            END AS spend,
        CAST((h % 1000) < 70 + 20 * hcc AS TINYINT) AS inpatient,
        CAST(((h >> 10) % 1000 < 140)::INT + ((h >> 20) % 1000 < 40)::INT AS TINYINT) AS ed_visits,
        CAST((h >> 30) % 6 AS TINYINT) AS pcp_visits,
        CAST((h >> 36) % 1000 < 12 AS TINYINT) AS readmitted
    FROM treated
) TO '{path}' (FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE 122880)
"""


def write_panel(folder: Path, rows: int, *, files: int) -> int:
    """
    Write about `rows` rows to Parquet files, a range of beneficiaries each; return how many.

    Every value is a function of the beneficiary and the quarter, so a panel is the same on any
    machine, and a larger one holds a smaller one.
    """
    import duckdb

    people = round(rows / _QUARTERS_EACH)
    edges = [people * k // files for k in range(files + 1)]
    folder.mkdir(parents=True, exist_ok=True)
    made = 0
    with duckdb.connect() as connection:
        for k, (first, last) in enumerate(itertools.pairwise(edges)):
            path = folder / f"part-{k:03d}.parquet"
            if not path.exists():
                partial = path.with_suffix(".partial")
                connection.execute(
                    _QUERY.format(
                        first=first, last=last, path=partial, stratum=STRATUM, quarters=QUARTERS,
                        providers=PROVIDERS, cohorts=", ".join(map(str, COHORTS)),
                        cohort_count=len(COHORTS),
                    )
                )  # fmt: skip
                partial.rename(path)
            found = connection.execute("SELECT count(*) FROM read_parquet(?)", [str(path)])
            made += found.fetchall()[0][0]
    return made
