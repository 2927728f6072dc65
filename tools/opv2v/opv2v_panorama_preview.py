"""Build and show a frame's panorama: `mapanything-opv2v panorama` with the research notes' flags."""

from mapanything_opv2v.commands import notes

raise SystemExit(notes.main(notes.panorama_preview))
