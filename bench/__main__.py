"""python -m bench."""

import sys

OUTSIDE = 3
INTERRUPTED = 130


def main() -> None:
    """Run the command line. Ends the process with an exit code; Python's own for a failure, 1, means something here."""
    try:
        from bench.cli.app import main as run  # noqa: PLC0415 - what cannot be loaded is told in a sentence
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except Exception as error:  # noqa: BLE001
        hint = ""
        if isinstance(error, ModuleNotFoundError):
            hint = ": `make bench` puts what it needs into .venv, so run .venv/bin/bench, or activate that environment"
        sys.stderr.write(f"bench: it cannot be loaded by {sys.executable}: {type(error).__name__}: {error}{hint}\n")
        sys.exit(OUTSIDE)
    run()


if __name__ == "__main__":
    main()
