#!/usr/bin/env bash
# action.yml runs this: the command, then the comparison or the export. It writes the exit code to the action's outputs
# and itself always exits with 0, so that the records are uploaded whatever the outcome.
set -uo pipefail
bench="${BENCH:-$RUNNER_TEMP/bench/bin/bench}"
results="$RUNNER_TEMP/bench-results"
mkdir -p "$results"

# The command is split into words as a shell would split it, quotes included, but nothing in it is expanded.
mapfile -d '' -t words < <(COMMAND="$COMMAND" python3 -c \
  'import os, shlex, sys; sys.stdout.write("".join(word + "\0" for word in shlex.split(os.environ["COMMAND"])))')

case "${words[0]:-}" in
  ab)
    "$bench" "${words[@]}" --output "$results" --export-markdown "$results/comment.md"
    code=$?
    ;;
  run)
    "$bench" "${words[@]}" --output "$results" --export-json "$results/result.json"
    code=$?
    if [ -f "$results/result.json" ] && [ -n "${BASELINE:-}" ]; then
      "$bench" compare "$BASELINE" "$results/result.json" --threshold "$THRESHOLD" --export-markdown "$results/comment.md"
      code=$?
    elif [ -f "$results/result.json" ]; then
      "$bench" export markdown "$results/result.json" --output "$results/comment.md"
    fi
    ;;
  *)
    echo "command: give run or ab, with its flags" >&2
    code=2
    ;;
esac
echo "exit-code=$code" >> "$GITHUB_OUTPUT"
