"""Build and show one agent's panorama: `mapanything-opv2v panorama` under the name that the research notes use."""

import sys

from mapanything_opv2v.cli import main

sys.exit(main(["panorama", *sys.argv[1:]]))
