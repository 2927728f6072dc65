"""Show camera poses and vehicle boxes: `mapanything-opv2v rig` with the research notes' flags."""

from mapanything_opv2v.commands import notes

raise SystemExit(notes.main(notes.pose))
