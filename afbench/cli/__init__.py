"""The terminal: commands, their options, and how errors are shown."""
