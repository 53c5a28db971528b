"""Records -> tables, figures, one HTML file. Imports no torch."""

from veil.report.page import write_report
from veil.report.terminal import print_audit, print_comparison
from veil.report.words import comparison, verdict

__all__ = ["comparison", "print_audit", "print_comparison", "verdict", "write_report"]
