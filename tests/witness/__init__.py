"""The witness: kills things for real and shows that the promises about jobs hold.

===============  =====================================================================
module           owns
===============  =====================================================================
``logs``         the three append-only logs: client, job, killer
``facts``        what the rules look at: the logs and the final snapshot, looked up
``checker``      the rules: a pure function over the logs and the final snapshot
``step_rules``   those of them that are about steps
``key_rules``    those that are about unique keys
``witness_app``  the app under test, in web workers, spoolers and mule
``faults``       what goes wrong where: failpoints armed from outside, one ticket a fault
``payload``      what a job is told, at random
``enqueuer``     a program whose children enqueue and are killed while they do
``victims``      the server, and which process of it is which
``killer``       what is killed when
``clients``      threads that enqueue over HTTP, and one that watches the ledger
``snapshot``     what is left when all is quiet
``report``       the table
``run``          one run from start to verdict
===============  =====================================================================
"""
