"""Show camera poses and vehicle boxes: `mapanything-opv2v rig` under the name that the research notes use."""

import sys

from mapanything_opv2v.cli import main

sys.exit(main(["rig", *sys.argv[1:]]))
