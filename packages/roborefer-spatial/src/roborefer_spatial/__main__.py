"""`python -m roborefer_spatial` is the console script."""

import sys

from roborefer_spatial.cli import main

sys.exit(main())
