"""Write what a model predicts as depth, masks and clouds: `mapanything-opv2v predict --export depth mask pcd`."""

from mapanything_opv2v.commands import notes

raise SystemExit(notes.main(notes.depth_ge))
