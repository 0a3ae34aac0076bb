"""The command line: arguments -> library -> words, JSON, exit code.

`options` is the one table of verbs and options, `main` runs them, `render` and `describe` give the words, `console` writes them without ever standing in a stop's way.
"""
