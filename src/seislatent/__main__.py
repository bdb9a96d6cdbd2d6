"""`python -m seislatent VERB ...` is `seislatent VERB ...`."""

import sys

from seislatent.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
