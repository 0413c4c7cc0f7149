"""An exact LLM quota for every workspace of a Python backend."""
