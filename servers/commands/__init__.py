"""The command line's commands, one a file; cli.py joins them and turns errors into one line."""
