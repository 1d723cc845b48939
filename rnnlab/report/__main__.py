"""`python -m rnnlab.report RUN_DIR`."""

import sys

from rnnlab.report import main

if __name__ == "__main__":
    sys.exit(main())
