"""Steps of a synthesis of published effects, each writing its exhibits."""

from vbceval.study.pooled.effects import list_screened, select_effects
from vbceval.study.pooled.headlines import state_results
from vbceval.study.pooled.model import Pooled, check_draws, pool
from vbceval.study.pooled.net import net_savings
from vbceval.study.pooled.predict import predict
from vbceval.study.pooled.printed import check_printed
from vbceval.study.pooled.variants import vary

__all__ = [
    "Pooled",
    "check_draws",
    "check_printed",
    "list_screened",
    "net_savings",
    "pool",
    "predict",
    "select_effects",
    "state_results",
    "vary",
]
