"""The exit codes that several commands share, as their help prints them."""

CODES = "Exit codes: 0 done; 2 bad usage or input; 3 something outside is missing or broke; 130 interrupted."
