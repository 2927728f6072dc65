"""The mathematics of the loss, on plain torch; nothing here knows the host."""
