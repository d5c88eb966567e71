"""Advisory locks by which the orchestrator and its workers act together: the start, the end, and who is alive."""

GATE = 0x62656E6368
"""The advisory lock that holds the workers back: "bench" in ASCII."""

STOP = GATE + 2
"""The advisory lock that is let go when consumers may stop."""

ALIVE = GATE + 3
"""The advisory lock that the orchestrator holds for as long as it waits for workers."""

END = GATE + 4
"""The advisory lock that is let go when producers are to end before they have appended everything."""
