"""Compare two clouds or two runs: `mapanything-opv2v compare` under the name that the research notes use."""

import sys

from mapanything_opv2v.cli import main

sys.exit(main(["compare", *sys.argv[1:]]))
