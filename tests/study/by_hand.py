"""The headline of mssp-entry from the CSV files: pandas to read, numpy to calculate, no package."""

import numpy as np
import pandas as pd

YEARS = (2014, 2015, 2016, 2017, 2018, 2020)
TYPES = {"ESRD": "ESRD", "DIS": "DIS", "AGDU": "AGED_Dual", "AGND": "AGED_NonDual"}


def read(folder, year):
    path = next(folder.glob(f"*py{year}.csv.gz"))
    t = pd.read_csv(path, dtype=str, encoding_errors="replace").rename(columns=str.lower)
    link = pd.read_csv(folder / "aco_id_crosswalk.csv").set_index("ACO_NUM")["ACO_ID"]
    aco = t["aco_id"] if year >= 2018 else t["aco_num"].map(link).fillna(t["aco_num"])
    start = t["initial_start_date" if year >= 2016 else "start_date"].str.split().str[0]
    g = pd.to_datetime(start, format="mixed").dt.year
    first = (t.get("agreement_period_num", pd.Series("1", t.index)) == "1") & (
        t.get("agree_type", pd.Series("", t.index)) != "Re-Entering")  # fmt: skip
    out = []
    for k, (short, long) in enumerate(TYPES.items()):
        py = f"n_ab_year_{long}_py".lower()
        n = {"BY3": t[f"n_ab_year_{long}_by3".lower()], "PY": t[py if py in t else py[:-3]]}
        n = {ref: pd.to_numeric(x, errors="coerce") for ref, x in n.items()}
        for ref, when in {"BY1": g - 3, "BY2": g - 2, "BY3": g - 1, "PY": year + 0 * g}.items():
            y, h = (pd.to_numeric(t[f"{c}_{short}_{ref}".lower()], errors="coerce")
                    for c in ("per_capita_exp_all", "cms_hcc_riskscore"))  # fmt: skip
            shown = n[ref].gt(10) | n[ref].isna() if ref in n else True
            d = pd.DataFrame({"aco": aco, "g": g, "t": when, "h": h, "w": n["BY3"], "y": y})
            d = d.assign(file=year, s=k, ref=ref)
            out.append(d[first & y.notna() & n["BY3"].gt(10) & shown & g.between(2013, 2020)])
    return pd.concat(out)


def headline(folder):
    c = pd.concat([read(folder, y) for y in YEARS], ignore_index=True)
    c = c[(c.ref != "PY") | ((c.file <= 2018) & (c.file - c.g <= 1))]
    oldest = c.file == c.groupby("aco").file.transform("min")
    b = c[oldest & (c.ref == "BY3")]
    risk = (b.h * b.w).groupby(b.aco).sum() / b.w.groupby(b.aco).sum()
    c = c[~c.aco.isin(risk.index[risk > 1.5])].assign(oldest=oldest)
    by = [c.aco, c.file, c.t]
    score = (c.h * c.w).groupby(by).sum() / c.w.groupby(by).sum()
    mix = c.drop_duplicates(["aco", "file", "s"]).pivot_table(
        index=["aco", "file"], columns="s", values="w", fill_value=0.0)  # fmt: skip
    mix = mix.div(mix.sum(axis=1), axis=0)[[0, 1, 2]]
    acos = np.sort(c.aco.unique())
    att, share, psi, share_psi = [], [], [], []
    for g, t in [(g, t) for e in (0, 1) for g in range(2014 - e, 2019) if (t := g + e) <= 2018]:
        use = ((c.g == g) & (c.file == t)) | ((c.g > t) & c.oldest)
        p = c[use & (c.t == g - 1)].merge(c[use & (c.t == t)], on=["aco", "file", "s"])
        key = pd.MultiIndex.from_frame(p[["aco", "file"]].assign(t=g - 1))
        x = np.column_stack([np.ones(len(p)), score.loc[key], mix.loc[key.droplevel(2)]])
        dy, w, d = (p.y_y - p.y_x).to_numpy(), p.w_x.to_numpy(), (p.g_x == g).to_numpy()
        h = np.linalg.inv((x * (w * ~d)[:, None]).T @ x)
        r = dy - x @ (h @ (x.T @ (w * ~d * dy)))
        w1 = w * d / (w * d).sum()
        a = w1 @ r
        i = w1 * (r - a) - w * ~d * r * (x @ h @ (w1 @ x))
        at = np.searchsorted(acos, p.aco)
        att, share = [*att, a], [*share, (w * d).sum()]
        psi.append(np.bincount(at, i, len(acos)))
        share_psi.append(np.bincount(at, w * d, len(acos)))
    att, p = np.array(att), np.array(share)
    theta = att @ p / p.sum()
    total = (np.array(psi).T @ p + np.array(share_psi).T @ (att - theta)) / p.sum()
    n = len(acos)
    return theta, np.sqrt(n / (n - 1) * total @ total)
