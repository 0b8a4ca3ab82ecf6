"""What every other room stands on: errors, names of columns, settings, finished steps, atomic writes, the log."""
