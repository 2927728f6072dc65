"""Check an OPV2V tree: `mapanything-opv2v check` under the name that the research notes use."""

import sys

from mapanything_opv2v.cli import main

sys.exit(main(["check", *sys.argv[1:]]))
