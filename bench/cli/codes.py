"""Exit codes in words, and where results are kept: what several commands say."""

from bench import spec

RUNS = spec.OutputOptions().output

CODES = "Exit codes: 0 done; 2 bad usage or input; 3 something outside is missing or broke; 130 interrupted."
