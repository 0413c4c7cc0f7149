"""The parts of ``demo.py``: who calls, what is watched, how it is shown, and whether the books agree."""
