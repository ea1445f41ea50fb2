"""Payment programs: rules as data, settled step by step over organizations and draws."""

from vbceval.programs.benchmark import mssp_benchmark
from vbceval.programs.benchmark_table import MSSPBenchmark
from vbceval.programs.mssp_quality import MSSPQuality, mssp_quality
from vbceval.programs.procedures.reach import equity_adjustment
from vbceval.programs.program import Program
from vbceval.programs.registry import get, names
from vbceval.programs.settlement import Explanation, Line, Settlement

__all__ = [
    "Explanation",
    "Line",
    "MSSPBenchmark",
    "MSSPQuality",
    "Program",
    "Settlement",
    "equity_adjustment",
    "get",
    "mssp_benchmark",
    "mssp_quality",
    "names",
]
