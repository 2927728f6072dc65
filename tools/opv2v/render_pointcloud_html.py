"""Predict a sample and show it as a cloud, with the research notes' flags."""

from mapanything_opv2v.commands import notes, notes_model

raise SystemExit(notes.main(notes_model.render_pointcloud))
