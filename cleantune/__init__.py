"""The library of which stages, tools, studies and benchmarks are made, by subject."""

import logging

# DeepSpeed, imported by whatever imports Trainer, writes warnings to standard output, at import.
logging.getLogger("DeepSpeed").addFilter(lambda record: record.levelno >= logging.ERROR)
