"""How fast it is, measured beside its peers in one sitting; ``make bench`` runs all of it.

One module a question (`throughput`, `enqueue`, …); `systems` starts and stops each system,
`apps` holds what each of them runs, `bars` says what this library has to reach, `report` and
`plot` write it down. `docs/benchmarks.md` is written by a run and never by hand.
"""
