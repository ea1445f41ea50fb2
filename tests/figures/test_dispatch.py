"""`Estimates.plot` chooses the figure; importing the room draws nothing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from vbceval import figures
from vbceval.figures.disclosure import people_columns


def kind(fig) -> str:
    return figures.record(fig).kind


def test_the_figure_follows_the_estimates(by_event_time, strata, posterior, gap) -> None:
    assert kind(by_event_time().plot()) == "event_study"
    assert kind(strata.plot()) == "forest"
    assert kind(gap.plot()) == "forest"
    assert kind(posterior.plot(style="cms_report")) == "forest"
    assert kind(posterior.where([0]).plot()) == "posterior_density"


def test_importing_the_room_imports_no_drawing_library(repo_root: Path) -> None:
    code = "import sys, vbceval.figures; print('matplotlib' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=repo_root, check=True
    )
    assert done.stdout.strip() == "False"


def test_counts_of_people_are_known_by_name(strata) -> None:
    frame = strata.frame.assign(n_people_treated=1, n_peoples=1, n_episodes=1, n_organizations=1)
    found = people_columns(frame)
    assert set(found) == {"person_years", "n_people_treated", "n_episodes"}
