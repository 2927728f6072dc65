"""Write the page of a frame's panoramas, with the research notes' flags."""

from mapanything_opv2v.commands import notes

raise SystemExit(notes.main(notes.cylinder_page))
