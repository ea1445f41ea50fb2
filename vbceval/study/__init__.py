"""Studies: a protocol, a configuration, a short script, and numbers that verify."""

from vbceval.study.config import Found, find_study, list_studies, read_study, study_roots
from vbceval.study.context import Display, StudyContext
from vbceval.study.reproduce import Verification, accept, verify
from vbceval.study.run import Run, run_study
from vbceval.study.scaffold import new_study
from vbceval.study.study import Input, Limit, Study

__all__ = [
    "Display",
    "Found",
    "Input",
    "Limit",
    "Run",
    "Study",
    "StudyContext",
    "Verification",
    "accept",
    "find_study",
    "list_studies",
    "new_study",
    "read_study",
    "run_study",
    "study_roots",
    "verify",
]
