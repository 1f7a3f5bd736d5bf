"""Running a schedule through the numpy interpreter of the task level: slow, but needs no compiler."""
