"""The pipeline, one module a stage; dvc.yaml runs each as `python -m stages.NAME`."""

import logging

# DeepSpeed, imported by whatever imports Trainer, writes warnings to standard output, at import.
logging.getLogger("DeepSpeed").addFilter(lambda record: record.levelno >= logging.ERROR)
