"""Reading every file of a tree once, and saying everything that is wrong with it."""

from mapanything_opv2v.checks.agent import AgentReport, CheckOptions, Problem
from mapanything_opv2v.checks.report import CheckReport, check_tree

__all__ = ["AgentReport", "CheckOptions", "CheckReport", "Problem", "check_tree"]
