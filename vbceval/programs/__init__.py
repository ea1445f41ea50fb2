"""Payment programs: rules as data, settled step by step over organizations and draws."""

from vbceval.programs.benchmark import MSSPBenchmark, mssp_benchmark
from vbceval.programs.program import Program
from vbceval.programs.registry import get, names
from vbceval.programs.settlement import Explanation, Line, Settlement

__all__ = [
    "Explanation",
    "Line",
    "MSSPBenchmark",
    "Program",
    "Settlement",
    "get",
    "mssp_benchmark",
    "names",
]
