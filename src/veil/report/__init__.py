"""Records -> tables, figures, one HTML file. Imports no torch."""

from veil.report.comparing import comparison
from veil.report.page import write_report
from veil.report.terminal import print_audit, print_comparison
from veil.report.verdicts import verdict

__all__ = ["comparison", "print_audit", "print_comparison", "verdict", "write_report"]
