"""The exit codes that several commands share, as their help prints them."""

CODES = "Exit codes: 0 done; 2 bad usage or input; 3 something outside is missing or broke; 130 interrupted."
RUN_CODES = (
    "Exit codes: 0 the verdict is ok; 1 the verdict failed; 2 a bad flag, file or log; "
    "3 no verdict, because something outside is missing or broke; 130 interrupted."
)
"""Those of commands whose outcome is a verdict alone."""
