"""What a person runs by hand, as `python -m tools.NAME`."""

import gc
import sys

if sys.argv[0] == "-m":  # a tool is being started: nothing that its imports make is garbage
    gc.disable()  # a fifth to a third of the time that the imports take; console.run enables it
