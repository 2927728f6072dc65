"""Show a frame, or a cloud's file: `mapanything-opv2v pointcloud` under the name that the research notes use."""

from mapanything_opv2v.commands import notes

raise SystemExit(notes.main(notes.visualize))
