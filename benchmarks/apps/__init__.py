"""What each system runs: a module with `MARKS`, `enqueue(n)` and the job itself.

The job is the same everywhere: it takes one integer, notes the time in memory and returns it. A
consumer imports such a module and nothing else of the benchmark but `marks`.
"""
