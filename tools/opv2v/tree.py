"""Say what an OPV2V tree holds: `mapanything-opv2v tree` under the name that the research notes use."""

import sys

from mapanything_opv2v.cli import main

sys.exit(main(["tree", *sys.argv[1:]]))
