"""Show a predicted cloud against a sweep, and the sweep with vehicle boxes, with the research notes' flags."""

from mapanything_opv2v.commands import notes

raise SystemExit(notes.main(notes.pcd_with_boxes))
