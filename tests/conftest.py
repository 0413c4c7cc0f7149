"""What holds for all tests."""

import signal

# A shell starts its background jobs with SIGINT ignored, and children inherit that: tests would interrupt one in vain.
signal.signal(signal.SIGINT, signal.default_int_handler)
