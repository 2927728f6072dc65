"""Show a frame's panoramas as one cloud: `mapanything-opv2v pointcloud` under the name that the research notes use.

A raw frame's views are its agents' panoramas; a file of predictions has the views that it has.
"""

import sys

from mapanything_opv2v.cli import main

raw = any(word.endswith(".yaml") for word in sys.argv[1:])
sys.exit(main(["pointcloud", *sys.argv[1:], *(["--layout", "panorama"] if raw else [])]))
