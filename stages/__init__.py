"""The pipeline, one module a stage; dvc.yaml runs each as `python -m stages.NAME`."""

import gc
import sys

if sys.argv[0] == "-m":  # a stage is being started: nothing that its imports make is garbage
    gc.disable()  # a fifth to a third of the time that the imports take; console.run enables it
