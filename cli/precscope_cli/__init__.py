"""The command line of precscope: one file per command, one place that owns the terminal."""
