"""The console: a client that reads journals and sends commands. It may crash or be slow: the run does not notice."""
