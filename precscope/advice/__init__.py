"""Judgement: pure functions from a Recording to findings, verdicts and a recipe."""

from precscope.advice.advise import Advice as Advice
from precscope.advice.advise import advise as advise
from precscope.advice.findings import Finding as Finding
from precscope.advice.findings import Verdict as Verdict
