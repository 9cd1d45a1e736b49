"""Settings: the table that declares them, the file and the environment they come from."""
