"""The kinds of faults that a verdict counts, by name."""

KINDS = (
    "skipped",
    "withheld",
    "lost",
    "duplicated",
    "reordered",
    "rewound",
    "inconsistent",
    "disagreeing",
    "torn",
    "inverted",
    "phantom",
    "corrupt",
)
"""All kinds of faults of a log that a verdict counts, as its fields are named."""
