"""The subcommands of `mapanything-opv2v`: each module holds the options and the work of the commands it names."""
