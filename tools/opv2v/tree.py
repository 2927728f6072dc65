"""Say what an OPV2V tree holds: `mapanything-opv2v tree` under the name that the research notes use."""

from mapanything_opv2v.commands import notes

raise SystemExit(notes.main(notes.tree))
