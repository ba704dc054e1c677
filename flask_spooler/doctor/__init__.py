"""What is wrong with a deployment, found before it costs a job: ``flask spooler doctor``.

Owns `examine`, which runs every check on an app, its spool and its server, and what a server says
of itself when it starts. Each check is one small function that gets facts and gives findings:
`server` looks at options, `directory` at the spool, `starter` at the unit. Nothing here is called
by the parts that run jobs, and nothing is changed by a look, but for one file that is tried out in
``tmp/``.

A right deployment is silent: a check that cannot tell says that all is well.
"""

from __future__ import annotations

from .at_start import take_part
from .examination import examine, examine_ini
from .finding import Finding

__all__ = ["Finding", "examine", "examine_ini", "take_part"]
