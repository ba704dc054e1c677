"""``python -m flask_spooler.development``: for the development server, which starts it itself."""

from __future__ import annotations

import sys

from .child import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
