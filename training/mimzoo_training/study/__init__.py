"""Studies: grids of models x data x lengths, run, evaluated, drawn and judged."""

from mimzoo_training.study.run import run_study
from mimzoo_training.study.spec import Cell, Study, load_study

__all__ = ["Cell", "Study", "load_study", "run_study"]
