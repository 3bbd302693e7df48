"""The one clock of the SDK: seconds that only grow, also while the machine sleeps.

Rule of this file: every `valid_until` is a reading of this clock. `time.monotonic()` stands still on
Linux while the machine is suspended, and a lock that was held before the lid was closed is not held after.
"""

from __future__ import annotations

import sys
import time

if sys.platform == "linux":

    def now() -> float:
        """Return seconds since an arbitrary moment, counting the time spent asleep."""
        return time.clock_gettime(time.CLOCK_BOOTTIME)

else:

    def now() -> float:
        """Return seconds since an arbitrary moment."""
        return time.monotonic()
