"""Build the x3 spatial task sets: `roborefer-spatial build` under the notes' name, with the same options."""

import sys

from roborefer_spatial.cli import main

if __name__ == "__main__":
    sys.exit(main(["build", *sys.argv[1:]]))
