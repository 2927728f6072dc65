"""Say what the cylindrical training will be given, with the research notes' flags."""

from mapanything_opv2v.commands import notes, notes_model

raise SystemExit(notes.main(notes_model.validate_setup))
