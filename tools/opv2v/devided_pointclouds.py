"""Write the cloud of every vehicle of a frame, under the name that the research notes use."""

from mapanything_opv2v.commands import notes

raise SystemExit(notes.main(notes.divided))
